"""How a file gets into a run's folder whole: a process that is killed leaves it as it was, never half of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from keraship.errors import TrainingError

WRITING = ".writing-"
"""What the names of files begin with that are being written; what a killed process leaves is told by it."""


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to, with the same ending, which takes its place once all is on the disk.

    Makes the folder where it is missing. Raises TrainingError where the folder cannot be written to.
    """
    beside = path.with_name(f"{WRITING}{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield beside
            with beside.open("rb") as file:
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise TrainingError(
            f"expected a folder that can be written to; {path.parent} cannot: {error.strerror or error}; "
            "take another --out"
        ) from error
