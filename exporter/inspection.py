"""What a version, a .keras or an .h5 file holds, read without importing TensorFlow or anything that the file names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keraship import bundle
from keraship.bundle import Manifest
from keraship.check_config import foreign_modules
from keraship.danger import first_danger
from keraship.errors import ModelError
from keraship.exporter.graph_file import GraphFile, read_onnx, read_saved_model
from keraship.keras_read import is_folder, read_keras


@dataclass(frozen=True)
class Version:
    """A published version: its folder and its manifest."""

    folder: Path
    manifest: Manifest


@dataclass(frozen=True)
class Layer:
    """A layer of a model file: its name, its class, and the module that registers the class."""

    name: str
    class_name: str
    module: str


@dataclass(frozen=True)
class Input:
    """An input that a model file declares; shape: None stands for an open size."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class ModelFile:
    """A .keras or .h5 file: the model's class and name, Keras' version, its parts, and its weights in bytes.

    needs: the modules that must be imported before the file can be loaded.
    """

    path: Path
    class_name: str
    name: str
    keras_version: str
    inputs: tuple[Input, ...]
    layers: tuple[Layer, ...]
    weights_bytes: int
    needs: tuple[str, ...]


def look(path: Path | str) -> Version | ModelFile | GraphFile:
    """What stands at `path`: a version's folder, a model's folder (its latest version) or a model file of any origin.

    Raises BundleError and ModelError.
    """
    path = Path(path)
    if is_folder(path):
        return _version(path)
    return read_onnx(path) if path.suffix == ".onnx" else _model_file(path)


def _version(path: Path) -> Version | GraphFile:
    folder = bundle.resolve(path)
    if (folder / bundle.SAVED_MODEL).is_file() and not (folder / bundle.MANIFEST).exists():
        return read_saved_model(folder)
    return Version(folder, bundle.read_manifest(folder))


def _model_file(path: Path) -> ModelFile:
    file = read_keras(path)
    refused = first_danger(file.findings)
    if refused and not file.config:
        raise ModelError(f"{path} is refused: {refused}")
    own = file.config.get("config")
    if not isinstance(own, dict):
        raise ModelError(f"{path} is no model of Keras: its configuration holds none of the model")
    return ModelFile(
        path=path,
        class_name=str(file.config["class_name"]),
        name=str(own.get("name", "")),
        keras_version=file.keras_version,
        inputs=tuple(_inputs(own)),
        layers=tuple(_layers(own)),
        weights_bytes=file.weights_bytes,
        needs=foreign_modules(file.config),
    )


def _layers(config: dict[str, Any]) -> Iterator[Layer]:
    for layer in _declared(config):
        yield Layer(_name(layer), str(layer.get("class_name", "")), str(layer.get("module", "")))


def _inputs(config: dict[str, Any]) -> Iterator[Input]:
    for layer in _declared(config):
        if layer.get("class_name") == "InputLayer":
            own = _dict(layer.get("config"))
            shape = own.get("batch_shape")
            sizes = [size if isinstance(size, int) else None for size in shape] if isinstance(shape, list) else []
            yield Input(_name(layer), _dtype(own.get("dtype")), tuple(sizes))


def _declared(config: dict[str, Any]) -> list[dict[str, Any]]:
    """The layers in a configuration; models that are code declare none."""
    layers = config.get("layers")
    return [layer for layer in layers if isinstance(layer, dict)] if isinstance(layers, list) else []


def _name(layer: dict[str, Any]) -> str:
    return str(layer.get("name") or _dict(layer.get("config")).get("name", ""))


def _dtype(value: Any) -> str:
    """A dtype, or the name of the policy that Keras writes in its place."""
    return str(_dict(value.get("config")).get("name", "")) if isinstance(value, dict) else str(value)


def _dict(value: Any) -> dict[str, Any]:
    """What should be a dict in a file that anybody may have written."""
    return value if isinstance(value, dict) else {}
