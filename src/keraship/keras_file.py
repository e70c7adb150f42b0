"""A .keras file to a Keras model, without running anything that the file brings.

The archive is checked before Keras opens it; classes are only found where an imported module registered them; Lambda
layers, which are Python code inside the file, are refused.
"""

from __future__ import annotations

import importlib
import json
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from keraship.errors import ModelError
from keraship.quiet import import_keras
from keraship.reasons import reason

CONFIG = "config.json"
METADATA = "metadata.json"
WEIGHTS = "model.weights.h5"

_MAX_CONFIG = 256 << 20  # bytes; the largest Keras models stay far below
_KERAS_PACKAGES = {"keras", "keras_hub", "keras_cv", "keras_nlp"}  # those that Keras finds without a registration


def load(path: Path, *, imports: Sequence[str] = ()) -> Any:
    """The Keras model in the file at `path`, not compiled.

    imports: modules that register the model's own classes; imported first.
    Raises ModelError for a file that is missing, truncated or no .keras archive, for a class that nobody registered,
    for a Lambda layer, for a module that cannot be imported.
    """
    config = read_config(path)
    _refuse_code(path, config)
    keras = import_keras()
    import_modules(imports)
    _refuse_unregistered(path, config, imports)
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # what Keras raises on a broken file has no common class
        raise ModelError(
            f"Keras {keras.__version__} cannot load {path}, "
            f"which Keras {keras_version(path) or '?'} saved: {reason(error)}"
        ) from error


def read_config(path: Path) -> dict[str, Any]:
    """The model's configuration, out of an archive that was checked from end to end; imports nothing.

    Raises ModelError.
    """
    if not path.is_file():
        raise ModelError(f"expected a .keras file at {path}; there is {'a folder' if path.is_dir() else 'none'}")
    try:
        with zipfile.ZipFile(path) as archive:
            _check_archive(path, archive)
            config = json.loads(archive.read(CONFIG))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is no .keras file: its {CONFIG} cannot be read ({reason(error)})") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:  # RuntimeError: encrypted
        raise ModelError(
            f"{path} is not a whole .keras file ({reason(error)}); save the model again with model.save()"
        ) from error
    if not isinstance(config, dict) or "class_name" not in config:
        raise ModelError(f"{path} is no .keras file: its {CONFIG} describes no model")
    return config


def keras_version(path: Path) -> str:
    """The version of Keras that saved the file, as it says itself; empty where it does not."""
    with zipfile.ZipFile(path) as archive:
        if METADATA not in archive.namelist():
            return ""
        try:
            metadata = json.loads(archive.read(METADATA))
        except (ValueError, RecursionError) as error:
            raise ModelError(f"{path} is no .keras file: its {METADATA} cannot be read ({reason(error)})") from error
    return str(metadata.get("keras_version", "")) if isinstance(metadata, dict) else ""


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


def foreign_modules(config: dict[str, Any]) -> tuple[str, ...]:
    """The modules, not of Keras, whose classes a configuration names: those to be given to --import."""
    modules = {found.get("module") for found in _serialized(config)}
    return tuple(sorted(module for module in modules if isinstance(module, str) and not _is_kerases(module)))


def _check_archive(path: Path, archive: zipfile.ZipFile) -> None:
    names = archive.namelist()
    unsafe = [name for name in names if name.startswith("/") or ".." in PurePosixPath(name).parts or "\\" in name]
    if unsafe:
        raise ModelError(f"{path} is refused: it holds the path {unsafe[0]!r}, which leads out of the archive")
    if CONFIG not in names:
        raise ModelError(f"expected a .keras file, an archive with a {CONFIG}; {path} holds {', '.join(names[:3])}")
    if archive.getinfo(CONFIG).file_size > _MAX_CONFIG:
        raise ModelError(f"{path} is refused: its {CONFIG} claims {archive.getinfo(CONFIG).file_size} bytes")
    broken = archive.testzip()
    if broken is not None:
        raise zipfile.BadZipFile(f"the content of {broken} is damaged")


def _refuse_code(path: Path, config: dict[str, Any]) -> None:
    if any(found["class_name"] == "__lambda__" for found in _serialized(config)):
        raise ModelError(
            f"{path} is refused: it holds Python code (a Lambda layer); "
            "write the layer as a registered class, save the model again and name its module with --import"
        )


def _refuse_unregistered(path: Path, config: dict[str, Any], imports: Sequence[str]) -> None:
    for found in _serialized(config):
        if not _is_known(found):
            raise ModelError(_unregistered(path, found, imports))


def _serialized(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a configuration; not those that only training needs."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            if isinstance(item.get("class_name"), str):
                yield item
            pending += [child for key, child in item.items() if key != "compile_config"]
        elif isinstance(item, list):
            pending += item


def _is_known(found: dict[str, Any]) -> bool:
    module = found.get("module")
    if not isinstance(module, str) or _is_kerases(module):
        return True  # Keras checks its own
    import keras

    return keras.saving.get_registered_object(_registered_name(found)) is not None


def _is_kerases(module: str) -> bool:
    return module == "builtins" or module.partition(".")[0] in _KERAS_PACKAGES


def _registered_name(found: dict[str, Any]) -> str:
    name = found["config"] if found["class_name"] == "function" else found.get("registered_name")
    return name if isinstance(name, str) else found["class_name"]


def _unregistered(path: Path, found: dict[str, Any], imports: Sequence[str]) -> str:
    module, name = found["module"], _registered_name(found).rpartition(">")[2]
    what = f"{path} needs {name!r}, of the module {module}, which is not registered"
    if module == "__main__" or module in imports:
        return f"{what}; put @keras.saving.register_keras_serializable() on it in a module, and --import that module"
    return f"{what}; import that module first: --import {module}"
