"""A .keras or .h5 file to a Keras model, without running anything that the file brings.

The file is checked before Keras opens it; classes are only found where an imported module registered them; Lambda
layers, which are Python code inside the file, are refused unless the caller trusts the file.
"""

from __future__ import annotations

import contextlib
import importlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from keraship.check_config import is_kerases, serialized
from keraship.danger import CODE, first_danger
from keraship.errors import ModelError
from keraship.keras_read import CONFIG, METADATA, WEIGHTS, KerasFile, read_keras
from keraship.quiet import import_keras
from keraship.reasons import reason

__all__ = ["CONFIG", "METADATA", "WEIGHTS", "KerasFile", "import_modules", "load", "read_keras"]

_SLACK = 64 << 20  # bytes of weights that no file holds, such as seeds
_WIDENED = 8  # times: four-bit weights in a file become floats at the most


def load(path: Path, *, imports: Sequence[str] = (), trust: bool = False) -> Any:
    """The Keras model in the file at `path`, not compiled.

    imports: modules that register the model's own classes; imported first, as keraship's own are. trust: run the
    Python code of Lambda layers; all else that is dangerous is refused nevertheless.
    Raises ModelError for a file that is missing, truncated or neither .keras nor .h5, for a class that nobody
    registered, for a Lambda layer, for a module that cannot be imported.
    """
    file = read_keras(path)
    _refuse_dangers(file, trust=trust)
    keras = import_keras()
    import_modules([*_ours(file), *imports])
    _refuse_unregistered(file, imports)
    try:
        with _weights_limited(keras, _WIDENED * file.weights_bytes + _SLACK):
            # Keras' loader of .h5 files has ignored safe_mode (CVE-2025-9905); the refusal above does not rest on it
            return keras.saving.load_model(path, compile=False, safe_mode=not trust)
    except ModelError:
        raise
    except Exception as error:  # what Keras raises on a broken file has no common class
        raise ModelError(
            f"Keras {keras.__version__} cannot load {path}, "
            f"which Keras {file.keras_version or '?'} saved: {reason(error)}"
        ) from error


_OURS = ("keraship.models.layers", "keraship.models.losses", "keraship.models.metrics")


def _ours(file: KerasFile) -> list[str]:
    """The modules of this package whose classes the file names: they are as trustworthy as what reads it."""
    return sorted({str(found.get("module")) for found in serialized(file.config)} & {*_OURS})


def import_modules(modules: Sequence[str]) -> None:
    """Import the modules that register a model's own classes; raises ModelError."""
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:  # a user's module may raise anything
            raise ModelError(
                f"cannot import {module!r} ({type(error).__name__}: {reason(error)}); "
                "expected a module's name such as package.layers, installed or on PYTHONPATH"
            ) from error


def _refuse_dangers(file: KerasFile, *, trust: bool) -> None:
    found = first_danger(file.findings, waived=[CODE]) or (None if trust else first_danger(file.findings))
    if found:
        way_out = " (or, where you know who made the file: --trust)" if found.kind == CODE else ""
        raise ModelError(f"{file.path} is refused: {found}{way_out}")


def _refuse_unregistered(file: KerasFile, imports: Sequence[str]) -> None:
    for found in serialized(file.config):
        if not _is_known(found):
            raise ModelError(_unregistered(file.path, found, imports))


def _is_known(found: dict[str, Any]) -> bool:
    module = found.get("module")
    if not isinstance(module, str) or is_kerases(module):
        return True  # Keras checks its own
    import keras

    return keras.saving.get_registered_object(_registered_name(found)) is not None


def _registered_name(found: dict[str, Any]) -> str:
    name = found["config"] if found["class_name"] == "function" else found.get("registered_name")
    return name if isinstance(name, str) else found["class_name"]


def _unregistered(path: Path, found: dict[str, Any], imports: Sequence[str]) -> str:
    module, name = found["module"], _registered_name(found).rpartition(">")[2]
    what = f"{path} needs {name!r}, of the module {module}, which is not registered"
    if module == "__main__" or module in imports:
        return f"{what}; put @keras.saving.register_keras_serializable() on it in a module, and --import that module"
    return f"{what}; import that module first: --import {module}"


@contextlib.contextmanager
def _weights_limited(keras: Any, limit: int) -> Iterator[None]:
    """Refuse to make more weights than the file can fill, before their memory is taken.

    limit: in bytes. Keras offers no hook for it, so the method that makes every layer's weights is wrapped meanwhile.
    """
    make = keras.layers.Layer.add_weight
    made = 0

    def add_weight(self: Any, shape: Any = None, *args: Any, **options: Any) -> Any:
        nonlocal made
        made += math.prod(shape) if isinstance(shape, tuple | list) else int(shape or 1)
        if made > limit:
            raise ModelError(
                f"the layer {self.name!r} declares weights of shape {shape}, more than the file holds; "
                "it is not whole, or was changed"
            )
        return make(self, shape, *args, **options)

    keras.layers.Layer.add_weight = add_weight
    try:
        yield
    finally:
        keras.layers.Layer.add_weight = make
