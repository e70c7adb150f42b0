"""An ONNX model to files: one, or beyond what a message may hold, the model and its weights beside it."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import onnx
from onnx import TensorProto, numpy_helper

from keraship import bundle
from keraship.exporter.canonical_onnx import tensors
from keraship.exporter.onnx_check import LIMIT, invalid

_ALIGNMENT = 4096  # so that runtimes can map the file into memory
_SMALL = 1024  # bytes; such tensors stay in the model, where shape inference finds them


def write_onnx(model: Any, folder: Path, *, limit: int = LIMIT) -> list[str]:
    """Write model.onnx into `folder`, and model.onnx.data where it would pass `limit` bytes; the files' names.

    Raises ExportError for a model that is too large even so, and for one of two files that is not valid ONNX.
    """
    path = folder / bundle.ONNX
    if _size(model) <= limit:
        path.write_bytes(model.SerializeToString(deterministic=True))
        return [bundle.ONNX]
    light = _without_weights(model, folder / bundle.ONNX_DATA)
    path.write_bytes(light.SerializeToString(deterministic=True))
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise invalid(error) from error
    return [bundle.ONNX, bundle.ONNX_DATA]


def _size(model: Any) -> int:
    """ByteSize, which fails for messages that are too large to be written."""
    weights = sum(len(tensor.raw_data) for tensor in tensors(model.graph))
    return weights if weights > LIMIT else int(model.ByteSize())


def _without_weights(model: Any, data: Path) -> Any:
    light = onnx.ModelProto()
    light.CopyFrom(model)
    with data.open("wb") as file:
        for tensor in tensors(light.graph):
            _move(tensor, file)
    return light


def _move(tensor: Any, file: IO[bytes]) -> None:
    if tensor.data_type == TensorProto.STRING:
        return
    raw = tensor.raw_data or numpy_helper.to_array(tensor).tobytes()
    if len(raw) < _SMALL:
        return
    file.write(b"\0" * (-file.tell() % _ALIGNMENT))
    entries = {"location": bundle.ONNX_DATA, "offset": str(file.tell()), "length": str(len(raw))}
    file.write(raw)
    bare = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    bare.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        bare.external_data.add(key=key, value=value)
    tensor.CopyFrom(bare)
