"""How a folder of data gets to its place whole: a process that is killed leaves none of it there."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from keraship.errors import DataError

_WRITING = ".writing-"


@contextlib.contextmanager
def new_folder(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """A hidden folder beside `target` to write into, which takes its place when the block ends without an error.

    overwrite: whether a folder that holds something is replaced, with all that is in it.
    What a killed process left behind goes with the next one. Raises DataError where the folder cannot be made.
    """
    place = target.resolve()
    _check(target, place, overwrite)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _sweep(place)
        beside = place.with_name(f"{_WRITING}{os.getpid()}-{place.name}")
        beside.mkdir()
        try:
            yield beside
            _put(beside, place)
        finally:
            shutil.rmtree(beside, ignore_errors=True)  # it is gone from here where all went well
    except OSError as error:
        raise DataError(
            f"expected a folder that can be written to; {target} cannot: {error.strerror or error}"
        ) from error


def _check(target: Path, place: Path, overwrite: bool) -> None:
    if place.exists() and not place.is_dir():
        raise DataError(f"expected a folder to write to; {target} is a file")
    if place == Path.cwd() or place in Path.cwd().parents:
        raise DataError(f"expected a folder of its own to write to; {target} is the one you are in, or above it")
    if place.is_dir() and any(place.iterdir()) and not overwrite:
        raise DataError(
            f"expected an empty folder, or a new one; {target} holds {len(list(place.iterdir()))} entries: "
            "take another --out, or --overwrite to replace it with all that is in it"
        )


def _put(beside: Path, place: Path) -> None:
    """Rename into place; what was there goes once it is out of the way."""
    if place.is_dir() and any(place.iterdir()):
        old = place.with_name(f"{_WRITING}{os.getpid()}-old-{place.name}")
        place.rename(old)
        beside.rename(place)
        shutil.rmtree(old)
    else:
        beside.rename(place)


def _sweep(place: Path) -> None:
    """Remove what processes that are no more were writing for this place."""
    for folder in place.parent.glob(f"{_WRITING}*-{place.name}"):
        process = folder.name.removeprefix(_WRITING).partition("-")[0]
        if process.isdigit() and not _is_alive(int(process)):
            shutil.rmtree(folder)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return process != os.getpid()
