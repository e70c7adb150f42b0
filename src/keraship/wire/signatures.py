"""TensorFlow's SignatureDef to our Signature, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keraship import dtypes
from keraship.errors import InvalidArgument
from keraship.signature import Shape, Signature, TensorSpec
from keraship.wire.messages import SignatureDef, SignatureDefMap


def to_signature(message: Any) -> Signature:
    """The Signature that a SignatureDef describes; names in alphabetical order, for a protobuf map has none.

    message: our SignatureDef or TensorFlow's own.
    Raises InvalidArgument for inputs that no array can be given for (sparse tensors, resources).
    """
    return Signature(
        inputs=_to_specs(message.inputs),
        outputs=_to_specs(message.outputs),
        method_name=message.method_name,
    )


def to_signature_def(signature: Signature) -> Any:
    """The SignatureDef that describes `signature`."""
    message = SignatureDef(method_name=signature.method_name)
    for specs, infos in ((signature.inputs, message.inputs), (signature.outputs, message.outputs)):
        for spec in specs:
            info = infos[spec.name]
            info.name = spec.tensor or spec.name
            info.dtype = dtypes.by_name(spec.dtype).number
            _write_shape(spec.shape, info.tensor_shape)
    return message


def to_signature_def_map(signatures: Mapping[str, Signature]) -> Any:
    """All of a model's signatures, as GetModelMetadata answers them."""
    message = SignatureDefMap()
    for name, signature in signatures.items():
        message.signature_def[name].CopyFrom(to_signature_def(signature))
    return message


def _to_specs(infos: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name, _read_dtype(name, info), _read_shape(info.tensor_shape), tensor=info.name)
        for name, info in sorted(infos.items())
    )


def _read_dtype(name: str, info: Any) -> str:
    if info.WhichOneof("encoding") not in ("name", None):
        raise InvalidArgument(f"expected '{name}' to be a dense tensor; it is a {info.WhichOneof('encoding')}")
    return dtypes.by_number(info.dtype % _REFERENCE).name


_REFERENCE = 100  # DT_FLOAT_REF is 100 + DT_FLOAT: a variable of TensorFlow 1, whose value is what callers see


def _read_shape(message: Any) -> Shape | None:
    if message.unknown_rank:
        return None
    return tuple(None if dim.size < 0 else dim.size for dim in message.dim)


def _write_shape(shape: Shape | None, message: Any) -> None:
    message.SetInParent()
    if shape is None:
        message.unknown_rank = True
        return
    for size in shape:
        message.dim.add().size = -1 if size is None else size
