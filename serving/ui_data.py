"""What the page for people shows, as values that JSON has: the models and their versions, and one version in full."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from keraship import __version__, bundle, dtypes
from keraship.errors import BundleError
from keraship.serving.backend import Array
from keraship.serving.class_labels import class_labels
from keraship.serving.engine import Description, Engine, ModelSpec
from keraship.serving.rest_json import WRITABLE
from keraship.serving.servable import VersionStatus
from keraship.serving.status import text
from keraship.signature import DEFAULT_SIGNATURE, Signature, TensorSpec

_LARGEST_EXAMPLE = 4096  # elements; more than that nobody edits by hand


def overview(engine: Engine) -> dict[str, Any]:
    """Every model, every version, how it stands and why. Versions are strings: JavaScript's numbers end at 2^53."""
    return {
        "keraship": __version__,
        "models": [
            {
                "name": name,
                "labels": {label: str(version) for label, version in engine.labels(name).items()},
                "versions": [_version(status) for status in versions],
            }
            for name, versions in sorted(engine.models().items())
        ],
    }


def version_in_full(engine: Engine, name: str, version: int) -> dict[str, Any]:
    """A version's signatures with an example for each, and the names of its classes; raises NotFound."""
    found = engine.describe(ModelSpec(name, version))
    return {
        "model": found.model,
        "version": str(found.version),
        "classes": class_labels(found.path),
        "signatures": [_signature(found, each) for each in sorted(found.signatures, key=_default_first)],
    }


def _version(status: VersionStatus) -> dict[str, Any]:
    error = status.error or status.last_error
    return {
        "version": str(status.version),
        "state": status.state.name,
        "error": None if error is None or status.state.name == "AVAILABLE" else text(error),
    }


def _default_first(name: str) -> tuple[bool, str]:
    return name != DEFAULT_SIGNATURE, name


def _signature(found: Description, name: str) -> dict[str, Any]:
    signature = found.signatures[name]
    return {
        "name": name,
        "method": signature.method_name.rpartition("/")[2],
        "inputs": [_tensor(spec) for spec in signature.inputs],
        "outputs": [_tensor(spec) for spec in signature.outputs],
        "example": _example(found, name, signature),
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    """json: whether TensorFlow Serving's JSON has such numbers; half has not."""
    tf_name = dtypes.by_name(spec.dtype).tf_name
    return {"name": spec.name, "dtype": spec.dtype, "shape": spec.shape, "json": tf_name in WRITABLE}


def _example(found: Description, name: str, signature: Signature) -> dict[str, Any] | None:
    """The first row of the golden samples, where the version has them for these inputs and they are not too many."""
    names = {spec.name for spec in signature.inputs}
    default = found.signatures.get(DEFAULT_SIGNATURE)
    kept_as = DEFAULT_SIGNATURE if default is not None and default.inputs == signature.inputs else name
    if not (found.path / bundle.golden_path(kept_as)).is_file():
        return None
    try:
        inputs, _ = bundle.read_golden(found.path, kept_as)
    except BundleError:
        return None  # keraship verify says what is wrong; an example of zeros does here
    if inputs.keys() != names or not all(array.ndim and len(array) for array in inputs.values()):
        return None
    rows = {name: array[0] for name, array in inputs.items()}
    if sum(np.size(row) for row in rows.values()) > _LARGEST_EXAMPLE:
        return None
    return {name: _plain(np.asarray(row)) for name, row in rows.items()}


def _plain(array: Array) -> Any:
    """An array as JSON's lists: floats by the fewest digits that are theirs, bytes as base64 objects."""
    flat = [_element(item) for item in array.reshape(-1)]
    for size in reversed(array.shape[1:]):
        flat = [flat[start : start + size] for start in range(0, len(flat), size)] if size else []
    return flat if array.ndim else flat[0]


def _element(item: Any) -> Any:
    if isinstance(item, bytes):
        return _text(item)
    if isinstance(item, np.floating):
        return float(str(item)) if np.isfinite(item) else 0.0  # JSON has no other numbers
    return item.item() if isinstance(item, np.generic) else item


def _text(item: bytes) -> Any:
    try:
        return item.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(item).decode()}
