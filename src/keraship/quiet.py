"""TensorFlow and Keras without their chatter: start-up notices and retracing advice are none of a user's business."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from keraship.errors import KerashipError

LEVEL = "TF_CPP_MIN_LOG_LEVEL"
BACKEND = "KERAS_BACKEND"
_BACKEND = "tensorflow"
_NOTHING = "3"  # 2 lets through that there is no GPU, as an error
_LOGGERS = {
    "tensorflow": logging.ERROR,
    "absl": logging.ERROR,
    "tf2onnx": logging.CRITICAL,  # its errors are tracebacks; who calls it finds them in the result
}


def import_tensorflow() -> Any:
    """TensorFlow, imported quietly; whoever sets TF_CPP_MIN_LOG_LEVEL=0 sees all that it prints.

    Its first lines come before it has read that level, so the process's stderr is held back during the import, and
    given out only where the import fails.
    """
    os.environ.setdefault(BACKEND, _BACKEND)  # TensorFlow imports Keras, which decides then
    if os.environ.setdefault(LEVEL, _NOTHING) == "0":
        return importlib.import_module("tensorflow")
    for logger, level in _LOGGERS.items():
        logging.getLogger(logger).setLevel(level)
    with stderr_held_back():
        return importlib.import_module("tensorflow")


def import_keras() -> Any:
    """Keras on TensorFlow, imported quietly, whatever Keras' configuration file says.

    Raises KerashipError where it runs on another backend, because somebody asked for that by name.
    """
    if "keras" not in sys.modules:  # ahead of the import, which fails where the other backend is not installed
        _check_backend(os.environ.get(BACKEND, _BACKEND))
    import_tensorflow()
    keras = importlib.import_module("keras")
    _check_backend(keras.backend.backend())
    return keras


def _check_backend(backend: str) -> None:
    if backend != _BACKEND:
        raise KerashipError(
            f"expected Keras on TensorFlow; it runs on {backend}: set {BACKEND}={_BACKEND}, or unset it"
        )


@contextlib.contextmanager
def stderr_held_back(*, shown_after_errors: bool = True) -> Iterator[None]:
    """Hold back what the process, libraries in C++ included, writes to stderr; given out only where the block fails."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            if shown_after_errors:
                held.seek(0)
                os.write(stderr, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
