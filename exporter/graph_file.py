"""What a SavedModel or an ONNX file holds, whoever made it: read by its fields, without TensorFlow or onnx."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from google.protobuf.message import DecodeError

from keraship import bundle
from keraship.errors import InvalidArgument, ModelError
from keraship.exporter import protobuf_walk as walk
from keraship.reasons import reason
from keraship.signature import Signature, TensorSpec
from keraship.wire.messages import SignatureDef
from keraship.wire.signatures import to_signature

_Read = TypeVar("_Read")


@dataclass(frozen=True)
class GraphFile:
    """A model as a graph.

    bytes: of all its files. producer: what wrote it, as it says itself. opsets: of ONNX, by domain. ops: how many there
    are by type, those in functions, loops and branches too.
    """

    path: Path
    format: str
    producer: str
    bytes: int
    opsets: dict[str, int]
    signatures: dict[str, Signature]
    ops: dict[str, int]


def read_saved_model(folder: Path) -> GraphFile:
    """The SavedModel in a folder; raises ModelError where it is not whole."""
    return _whole(folder / bundle.SAVED_MODEL, lambda message: _saved_model(folder, message))


def read_onnx(path: Path) -> GraphFile:
    """The model in an ONNX file; raises ModelError where it is not whole."""
    return _whole(path, lambda message: _onnx(path, message))


def _whole(path: Path, read: Callable[[memoryview], _Read]) -> _Read:
    try:
        return read(walk.mapped(path))
    except (OSError, ValueError, DecodeError, InvalidArgument) as error:
        raise ModelError(f"expected a whole model in {path}: {reason(error)}") from error


def _saved_model(folder: Path, message: memoryview) -> GraphFile:
    if not any(True for _ in walk.path(message, 2, 2)):
        raise ValueError("it holds no graph of TensorFlow")
    version = next((walk.text(info, 5) for info in walk.path(message, 2, 1)), "")
    found = {
        walk.text(entry, 1): to_signature(SignatureDef.FromString(bytes(value)))
        for entry in walk.path(message, 2, 5)
        for value in walk.messages(entry, 2)
        if not walk.text(entry, 1).startswith("__")
    }
    top = (walk.text(node, 2) for node in walk.path(message, 2, 2, 1))
    inner = (walk.text(node, 2) for node in walk.path(message, 2, 2, 2, 1, 3))
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    producer = f"TensorFlow {version}" if version else ""
    return GraphFile(folder, "SavedModel", producer, size, {}, found, _counted([*top, *inner]))


def _onnx(path: Path, message: memoryview) -> GraphFile:
    opsets = {walk.text(opset, 1): walk.integer(opset, 2) for opset in walk.messages(message, 8)}
    graphs = list(walk.messages(message, 7))
    if not graphs or not opsets:
        raise ValueError("it holds no graph of ONNX")
    held = {walk.text(tensor, 8) for graph in graphs for tensor in walk.messages(graph, 5)}
    inputs = [_spec(value) for graph in graphs for value in walk.messages(graph, 11)]
    outputs = [_spec(value) for graph in graphs for value in walk.messages(graph, 12)]
    signature = Signature(tuple(spec for spec in inputs if spec.name not in held), tuple(outputs))
    producer = " ".join(filter(None, (walk.text(message, 2), walk.text(message, 3))))
    ops = _counted([op for graph in graphs for op in _ops(graph)])
    return GraphFile(path, "ONNX", producer, path.stat().st_size, opsets, {"serving_default": signature}, ops)


def _ops(graph: memoryview) -> Iterator[str]:
    """The types of all nodes, those of loops and branches too; by hand, for graphs may be deep."""
    pending = [graph]
    while pending:
        for node in walk.messages(pending.pop(), 1):
            yield walk.text(node, 4)
            for attribute in walk.messages(node, 5):
                pending += [body for field in (6, 11) for body in walk.messages(attribute, field)]


_DTYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string", 9: "bool",
    10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 14: "complex64", 15: "complex128", 16: "bfloat16",
}  # fmt: skip
"""onnx.TensorProto.DataType."""


def _spec(value: memoryview) -> TensorSpec:
    tensor = next(walk.path(value, 2, 1), memoryview(b""))
    number = walk.integer(tensor, 1)
    shapes = list(walk.messages(tensor, 2))
    return TensorSpec(walk.text(value, 1), _DTYPES.get(number, f"type {number}"), _shape(shapes[0]) if shapes else None)


def _shape(message: memoryview) -> tuple[int | None, ...]:
    """A size that has a name, or none at all, is open."""
    return tuple(
        next((number for field, number in walk.fields(dim) if field == 1 and isinstance(number, int)), None)
        for dim in walk.messages(message, 1)
    )


def _counted(ops: list[str]) -> dict[str, int]:
    """The most frequent first."""
    return dict(sorted(Counter(ops).items(), key=lambda item: (-item[1], item[0])))
