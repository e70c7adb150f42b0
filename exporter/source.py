"""What is recorded of the model that was exported: where it came from, how large it is, how good it is."""

from __future__ import annotations

import hashlib
import json
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from keraship import __version__, bundle
from keraship.bundle import Quality, Source

_PACKAGES = ("tensorflow", "keras", "onnx", "tf2onnx", "onnxruntime", "numpy")


def source(model: Any, path: Path | None, quality: Quality | None) -> Source:
    """The Source of a Keras model; path: its file or folder, None for a model that only was in memory."""
    return Source(
        file=path.name if path else "",
        sha256=_digest_path(path) if path else _digest(model),
        model=type(model).__name__,
        weights_bytes=sum(int(np.prod(weight.shape)) * _item_size(weight) for weight in model.weights),
        quality=quality,
    )


def tools() -> dict[str, str]:
    """The versions of what made the artifacts."""
    found = {package: _version(package) for package in _PACKAGES}
    return {"keraship": __version__} | {package: number for package, number in found.items() if number}


def _version(package: str) -> str:
    """A package's version: of what is imported, else of what is installed under that name, else none."""
    if package in sys.modules:
        return str(sys.modules[package].__version__)
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _digest_path(path: Path) -> str:
    """Of a file; of a folder's files with their names."""
    if not path.is_dir():
        return bundle.file_entry(path).sha256
    digest = hashlib.sha256()
    for name, entry in sorted(bundle.file_entries(path, ".").items()):
        digest.update(f"{name} {entry.sha256}\n".encode())
    return digest.hexdigest()


def _digest(model: Any) -> str:
    """Of the configuration and the weights, where there is no file."""
    digest = hashlib.sha256(json.dumps(model.get_config(), sort_keys=True, default=str).encode())
    for weight in model.weights:
        digest.update(np.ascontiguousarray(weight.numpy()).tobytes())
    return digest.hexdigest()


def _item_size(weight: Any) -> int:
    import tensorflow as tf

    size: int = tf.as_dtype(weight.dtype).size
    return size
