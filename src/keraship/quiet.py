"""TensorFlow without the lines that it prints while it starts."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import tempfile
from collections.abc import Iterator

LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_NOTHING = "3"  # 2 lets through that there is no GPU, as an error


def import_tensorflow() -> None:
    """Import TensorFlow, quietly; whoever sets TF_CPP_MIN_LOG_LEVEL=0 sees all that it prints.

    Its first lines come before it has read that level, so the process's stderr is held back during the import, and
    given out only where the import fails.
    """
    if os.environ.setdefault(LEVEL, _NOTHING) == "0":
        importlib.import_module("tensorflow")
        return
    with _stderr_held_back():
        importlib.import_module("tensorflow")


@contextlib.contextmanager
def _stderr_held_back() -> Iterator[None]:
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
