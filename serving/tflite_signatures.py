"""The SignatureDefs of a TFLite file: those in its metadata, or the one that its tensors' names make.

Source: tensorflow_serving/servables/tensorflow/tflite_session.cc,
tensorflow/lite/tools/signature/signature_def_util.cc.
The signatures that TensorFlow's newer converter writes elsewhere in the file are not looked at, as there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flatbuffers import flexbuffers
from google.protobuf.message import DecodeError
from tensorflow.lite.python import schema_py_generated as schema

from keraship.errors import AlreadyExists, Internal, InvalidArgument
from keraship.signature import DEFAULT_SIGNATURE, Signature, TensorSpec
from keraship.wire.messages import SignatureDef
from keraship.wire.signatures import to_signature_def

_METADATA = b"signature_defs_metadata"


@dataclass(frozen=True)
class Tensors:
    """A file's inputs or outputs: name -> index and what it holds."""

    indices: Mapping[str, int]
    specs: Mapping[str, TensorSpec]


def read_tensors(details: Sequence[Mapping[str, Any]], specs: Sequence[TensorSpec], what: str) -> Tensors:
    """An interpreter's details and what they say; what: "Input" or "Output". Raises AlreadyExists for a name twice."""
    indices: dict[str, int] = {}
    for detail in details:
        if detail["name"] in indices:
            raise AlreadyExists(f"{what} tensor name: {detail['name']} has multiple indices")
        indices[detail["name"]] = int(detail["index"])
    return Tensors(indices, dict(zip(indices, specs, strict=True)))


def signature_defs(file: bytes, inputs: Tensors, outputs: Tensors) -> dict[str, Any]:
    """SignatureDefs by name; the tensors that they name are the file's.

    Raises InvalidArgument for metadata that cannot be read, Internal for a tensor that is not there.
    """
    found = _read_metadata(file)
    for message in found.values():
        _fix_names(message.inputs, inputs, "input")
        _fix_names(message.outputs, outputs, "output")
    return found or {DEFAULT_SIGNATURE: _made_of(inputs, outputs)}


def _made_of(inputs: Tensors, outputs: Tensors) -> Any:
    return to_signature_def(Signature(_renamed(inputs), _renamed(outputs)))


def _renamed(tensors: Tensors) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(_legacy(name), spec.dtype, spec.shape, tensor=name) for name, spec in tensors.specs.items())


def _fix_names(infos: Mapping[str, Any], tensors: Tensors, what: str) -> None:
    """Early converters dropped the `:0` of TensorFlow's names."""
    for alias, info in infos.items():
        if info.name not in tensors.indices:
            if _legacy(info.name) not in tensors.indices:
                raise Internal(
                    f"Unknown tensor '{info.name}'.\n\tSignature {what} {alias} references an unknown tensor"
                )
            info.name = _legacy(info.name)


def _legacy(name: str) -> str:
    return name.partition(":")[0]


def _read_metadata(file: bytes) -> dict[str, Any]:
    model = schema.Model.GetRootAs(file, 0)
    for index in range(model.MetadataLength()):
        entry = model.Metadata(index)
        if entry.Name() == _METADATA:
            try:
                return _read_map(model.Buffers(entry.Buffer()).DataAsNumpy().tobytes())
            except Exception as error:  # flatbuffers' reader fails in whatever way the bytes make it
                raise InvalidArgument(f"Invalid SignatureDefs found in TfLite model: {error}") from error
    return {}


def _read_map(data: bytes) -> dict[str, Any]:
    root = flexbuffers.GetRoot(data)
    if not root.IsMap:
        raise ValueError("expected a map of SignatureDefs")
    found = {}
    for key, value in zip(root.AsMap.Keys, root.AsMap.Values, strict=True):
        message = SignatureDef()
        try:
            message.ParseFromString(bytes(value.AsBlob))
        except DecodeError as error:
            raise ValueError("Failed to parse signature def") from error
        found[key.AsKey] = message
    return found
