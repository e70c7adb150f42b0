"""Where an ONNX model holds its weights, and how they are stored in fewer bits.

Standard operations give them back as float32: Cast for 16 bits, Cast and Mul for 8. onnxruntime computes both once, at
load, and is then as fast as with float weights. It does not do so with DequantizeLinear, which it keeps for its own
rewriting: three convolutions and four dense layers took 23 ms a row with it, 8 to 11 with Cast and Mul, 11 as float.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from keraship.exporter.canonical_onnx import bodies, tensors, walk

Array = np.ndarray[Any, Any]

SMALL = 64
"""Elements; a tensor with fewer is not worth its scales."""


@dataclass(frozen=True)
class Holder:
    """A node with weights. node: its name; weights: their initializers, each with the axis that has a scale for each
    index; inner: whether it stands in the body of a loop or a branch."""

    node: str
    op: str
    layer: str
    weights: dict[str, int]
    inner: bool = False


@dataclass(frozen=True)
class Stored:
    """What stands for an initializer: other initializers, and nodes of which the last gives its value back."""

    initializers: list[Any]
    nodes: list[Any]


def holders(model: Any) -> list[Holder]:
    """The nodes with weights of SMALL or more elements, in the model's order."""
    sizes = {tensor.name: tensor for tensor in tensors(model.graph) if _is_large(tensor)}
    outer = {node.name for node in model.graph.node}
    found = []
    for node in walk(model.graph):
        weights = {node.input[index]: axis for index, axis in _axes(node) if node.input[index] in sizes}
        if weights:
            layer = node.name.rpartition("/")[0] or node.name
            found.append(Holder(node.name, node.op_type, layer, weights, node.name not in outer))
    return found


def floats(model: Any) -> dict[str, int]:
    """The number of elements of each floating point initializer, and of those that stand in for one."""
    return {tensor.name: _elements(tensor) for tensor in tensors(model.graph) if tensor.data_type in _FLOATS}


def store(model: Any, names: dict[str, int], encode: Callable[[str, Array, int], Stored]) -> None:
    """Replace initializers in place. names: with the axis of their scales; encode: what stands for one."""
    _store(model.graph, names, encode)


def float16(name: str, array: Array, _axis: int) -> Stored:
    """Half the size; 11 bits of each number stay."""
    half = numpy_helper.from_array(array.astype(np.float16), f"{name}_float16")
    return Stored([half], [helper.make_node("Cast", [half.name], [f"{name}_float32"], to=TensorProto.FLOAT)])


def int8(name: str, array: Array, axis: int) -> Stored:
    """A quarter of the size; symmetric, with a scale for each index of `axis`."""
    integers, scales = quantized(array, axis)
    shape = [1] * array.ndim
    shape[axis] = -1
    stored = [
        numpy_helper.from_array(integers, f"{name}_int8"),
        numpy_helper.from_array(scales.reshape(shape), f"{name}_scale"),
    ]
    wide = f"{name}_wide"
    return Stored(
        stored,
        [
            helper.make_node("Cast", [stored[0].name], [wide], to=TensorProto.FLOAT),
            helper.make_node("Mul", [wide, stored[1].name], [f"{name}_float32"]),
        ],
    )


def quantized(array: Array, axis: int) -> tuple[Array, Array]:
    """int8 from -127 to 127, and the scales along `axis`, so that their product is near `array`."""
    others = tuple(index for index in range(array.ndim) if index != axis % array.ndim)
    largest = np.abs(array).max(axis=others, keepdims=True)
    scales = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return np.clip(np.rint(array / scales), -127, 127).astype(np.int8), scales.reshape(-1)


_FLOATS = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}


def _is_large(tensor: Any) -> bool:
    return tensor.data_type == TensorProto.FLOAT and len(tensor.dims) > 1 and _elements(tensor) >= SMALL


def _elements(tensor: Any) -> int:
    return int(np.prod(tensor.dims))


OPS = ("Conv", "ConvTranspose", "MatMul", "Gemm", "Gather", "Einsum", "LSTM", "GRU", "RNN")
"""The operations whose weights are known."""


def _axes(node: Any) -> Iterator[tuple[int, int]]:
    """The inputs of a node that may be weights, and the axis along which their scales run: that of the outputs."""
    known = _AXES.get(node.op_type, ())
    if node.op_type == "Gemm":
        transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        known = ((1, 0 if transposed else 1),)
    yield from (pair for pair in known if pair[0] < len(node.input))


_AXES = {
    "Conv": ((1, 0),),
    "ConvTranspose": ((1, 1),),
    "MatMul": ((1, -1), (0, -2)),
    "Gather": ((0, 0),),  # an embedding: each word has its scale
    "Einsum": ((0, 0), (1, 0)),
    "LSTM": ((1, 1), (2, 1)),
    "GRU": ((1, 1), (2, 1)),
    "RNN": ((1, 1), (2, 1)),
}


def _store(graph: Any, names: dict[str, int], encode: Callable[[str, Array, int], Stored]) -> None:
    for node in graph.node:
        for body in bodies(node):
            _store(body, names, encode)
    chosen = [tensor for tensor in graph.initializer if tensor.name in names]
    made = {tensor.name: encode(tensor.name, numpy_helper.to_array(tensor), names[tensor.name]) for tensor in chosen}
    _rename(graph, {name: stored.nodes[-1].output[0] for name, stored in made.items()})
    kept = [tensor for tensor in graph.initializer if tensor.name not in made]
    nodes = [node for stored in made.values() for node in stored.nodes] + list(graph.node)
    for field, items in (
        (graph.initializer, kept + [item for stored in made.values() for item in stored.initializers]),
        (graph.node, nodes),
    ):
        del field[:]
        field.extend(items)


def _rename(graph: Any, new: dict[str, str]) -> None:
    for node in walk(graph):
        node.input[:] = [new.get(name, name) for name in node.input]
