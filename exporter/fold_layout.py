"""Ops that only move values, where another op can do without them: Pad, SpaceToBatch, Dense's Tensordot."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
import tensorflow as tf

from keraship.exporter.contractions import layer
from keraship.exporter.graph import Array, Graph, Shape, name_of

_FLOATS = (tf.float32.as_datatype_enum, tf.float64.as_datatype_enum)


def simplify_shapes(graph: Graph) -> None:
    """GatherV2(Shape(x), [0, 1, ...]), as Dense calculates shapes, becomes a slice, which shape inference follows."""
    for node in graph.of("GatherV2"):
        places, axis = (graph.constant(ref) for ref in node.input[1:3])
        if graph.producer(node.input[0]).op == "Shape" and axis is not None and not axis.any() and _is_range(places):
            _slice(graph, node, places)


def simplify_products(graph: Graph) -> None:
    """Products with a constant matrix on the right become Reshape, MatMul, Reshape with as few ops as can be."""
    for node in graph.of("BatchMatMulV2", "BatchMatMul"):
        _lower_batch_product(graph, node)
    for node in graph.of("Einsum"):
        _lower_einsum(graph, node)
    for node in graph.of("MatMul"):
        _flatten_plainly(graph, node)
    for node in graph.of("Reshape"):
        _fix_shape(graph, node)


def use_dilations(graph: Graph) -> None:
    """SpaceToBatchND, Conv2D, BatchToSpaceND, which TensorFlow traces a dilated convolution to, in one op."""
    for node in graph.of("BatchToSpaceND"):
        _merge_dilation(graph, node)


def fold_pads(graph: Graph) -> None:
    """A Pad of zeros before a convolution becomes the convolution's own padding."""
    for node in graph.of("Conv2D", "DepthwiseConv2dNative"):
        _fold_pad(graph, node)


def merge_constants(graph: Graph) -> None:
    """Of several equal constants, one is left."""
    alike: dict[bytes, list[Any]] = {}
    for node in graph.of("Const"):
        if node.name not in graph.kept and not node.input:
            alike.setdefault(_kind(node), []).append(node)
    for nodes in alike.values():
        first: dict[bytes, str] = {}
        for node in nodes if len(nodes) > 1 else ():
            name = first.setdefault(node.attr["value"].SerializeToString(deterministic=True), node.name)
            if name != node.name:
                graph.redirect(node.name, name)


def _kind(node: Any) -> bytes:
    """What equal constants have in common, and is quickly compared."""
    tensor = node.attr["value"].tensor
    return bytes(tensor.dtype.to_bytes(2, "big") + tensor.tensor_shape.SerializeToString(deterministic=True))


def _is_range(places: Array | None) -> TypeGuard[Array]:
    return places is not None and places.ndim == 1 and places.size > 0 and bool(np.all(np.diff(places) == 1))


def _slice(graph: Graph, node: Any, places: Array) -> None:
    ends = (places[0], places[-1] + 1, 1)
    bounds = [graph.add_constant(f"{node.name}/bound", np.array([end], np.int32)) for end in ends]
    sliced = graph.add("StridedSlice", f"{node.name}/slice", [node.input[0], *bounds], Index=tf.int32)
    graph.nodes[sliced].attr["T"].type = node.attr["Tparams"].type
    for mask in ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask"):
        graph.nodes[sliced].attr[mask].i = 0
    graph.bypass(node, sliced)


def _lower_batch_product(graph: Graph, node: Any) -> None:
    """BatchMatMul(x, matrix): the rows of all batches at once."""
    matrix = graph.constant(node.input[1])
    if matrix is not None and matrix.ndim == 2 and not node.attr["adj_x"].b:
        size, width = matrix.shape[::-1] if node.attr["adj_y"].b else matrix.shape
        _lower(graph, node, _Product((size,), (width,), node.input[1], node.attr["adj_y"].b))


def _lower_einsum(graph: Graph, node: Any) -> None:
    """abc,cde->abde, abcd,cde->abe and their like: what is summed over stands last on the left, first on the right."""
    match = re.fullmatch(r"(.*?)(\w+),(\2)(\w*)->\1\4", node.attr["equation"].s.decode().replace(" ", ""))
    tensor = graph.constant(node.input[1]) if match and len(node.input) == 2 else None
    letters = match[0].partition("->")[0].replace(",", "").replace("...", "") if match else ""
    if match is None or tensor is None or len(set(letters)) != len(letters) - len(match[2]):
        return
    summed, free = tensor.shape[: len(match[2])], tensor.shape[len(match[2]) :]
    matrix = graph.add_constant(f"{node.name}/matrix", tensor.reshape(math.prod(summed), math.prod(free)))
    _lower(graph, node, _Product(summed, free, matrix))


@dataclass(frozen=True)
class _Product:
    """x times a constant matrix: x's last sizes, which are summed over; those that take their place."""

    summed: tuple[int, ...]
    free: tuple[int, ...]
    matrix: str
    transposed: bool = False


def _lower(graph: Graph, node: Any, product: _Product) -> None:
    """Put Reshape, MatMul, Reshape in the place of a node."""
    shape, dtype = graph.shape(node.input[0]), node.attr["T"].type
    size, width = math.prod(product.summed), math.prod(product.free)
    if shape is None or len(shape) <= len(product.summed) or dtype not in _FLOATS or not size * width:
        return
    flat = _reshape(graph, f"{node.name}/flat", node.input[0], (-1, size), dtype)
    multiplied = graph.add(
        "MatMul", f"{node.name}/MatMul", [flat, product.matrix], transpose_a=False, transpose_b=product.transposed
    )
    graph.nodes[multiplied].attr["T"].type = dtype
    graph.shapes[multiplied] = (None, width)
    result_shape = (*shape[: len(shape) - len(product.summed)], *product.free)
    target = _result_shape(graph, node, result_shape, len(product.free))
    result = graph.add("Reshape", f"{node.name}/unflat", [multiplied, target], Tshape=tf.int32)
    graph.nodes[result].attr["T"].type = dtype
    graph.shapes[result] = result_shape
    graph.bypass(node, result)


def _result_shape(graph: Graph, node: Any, shape: Shape, free: int) -> str:
    """A product's shape as a tensor: constant where no more than one size is open. Its last `free` sizes are known."""
    if sum(size is None for size in shape) <= 1 and 0 not in shape:
        return graph.add_constant(f"{node.name}/shape", np.array([-1 if s is None else s for s in shape], np.int32))
    whole = graph.add("Shape", f"{node.name}/shape", [node.input[0]], out_type=tf.int32)
    graph.nodes[whole].attr["T"].type = node.attr["T"].type
    begin, size = (graph.add_constant(f"{node.name}/lead", np.array([n], np.int32)) for n in (0, len(shape) - free))
    lead = graph.add("Slice", f"{node.name}/lead_sizes", [whole, begin, size], T=tf.int32, Index=tf.int32)
    if not free:
        return lead
    last = graph.add_constant(f"{node.name}/last_sizes", np.array(shape[-free:], np.int32))
    axis = graph.add_constant(f"{node.name}/axis", np.int32(0))
    return graph.add("ConcatV2", f"{node.name}/sizes", [lead, last, axis], N=2, T=tf.int32, Tidx=tf.int32)


def _reshape(graph: Graph, name: str, ref: str, shape: tuple[int, ...], dtype: int) -> str:
    """A Reshape to a constant shape; the one that is there already, where another product has the same input."""
    for user in graph.users.get(name_of(ref), Counter()):
        node = graph.nodes[user]
        if node.op == "Reshape" and node.input[0] == ref and _is(graph.constant(node.input[1]), shape):
            return user
    target = graph.add_constant(f"{name}/shape", np.array(shape, np.int32))
    added = graph.add("Reshape", name, [ref, target], Tshape=tf.int32)
    graph.nodes[added].attr["T"].type = dtype
    graph.shapes[added] = tuple(None if size == -1 else size for size in shape)
    return added


def _is(value: Array | None, shape: tuple[int, ...]) -> bool:
    return value is not None and value.tolist() == list(shape)


def _flatten_plainly(graph: Graph, node: Any) -> None:
    """Before a Dense of rank 3 Keras calculates the number of rows, which Reshape does too."""
    found = layer(graph, node)
    before = graph.producer(node.input[0])
    if found is None or before.op != "Reshape" or len(before.input) != 2:
        return
    size = found.channels(found.kind.inputs)
    shape = graph.shape(before.input[0])
    if shape is None or shape[-1:] != (size,):
        return
    if graph.constant(before.input[1]) is None:
        flat = _reshape(graph, f"{node.name}/flat", before.input[0], (-1, size), node.attr["T"].type)
        graph.set_input(node, 0, flat)


def _fix_shape(graph: Graph, node: Any) -> None:
    """Give a Reshape a constant shape, where all sizes but one are known."""
    shape = graph.shape(node.name)
    calculated = graph.constant(node.input[1]) is None and len(node.input) == 2
    if calculated and shape is not None and sum(size is None for size in shape) <= 1 and 0 not in shape:
        sizes = np.array([-1 if size is None else size for size in shape], np.int32)
        graph.set_input(node, 1, graph.add_constant(f"{node.name}/shape", sizes))
        node.attr["Tshape"].type = tf.int32.as_datatype_enum


def _merge_dilation(graph: Graph, after: Any) -> None:
    convolution = graph.producer(after.input[0])
    if convolution.op != "Conv2D" or graph.only_user(convolution) is not after or after.name in graph.kept:
        return
    before = graph.producer(convolution.input[0])
    if before.op != "SpaceToBatchND" or graph.only_user(before) is not convolution:
        return
    blocks, pads, ends, crops = (graph.constant(ref) for ref in (*before.input[1:3], *after.input[1:3]))
    if blocks is None or pads is None or ends is None or crops is None or not np.array_equal(blocks, ends):
        return
    padding = pads - crops  # what is cut off behind was there to fill the last block
    if not _is_plain(convolution) or blocks.shape != (2,) or np.any(crops[:, 0]) or np.any(padding < 0):
        return
    _set_padding(convolution, [0, 0, *padding.reshape(-1).tolist(), 0, 0])
    convolution.attr["dilations"].list.i[:] = [1, *blocks.tolist(), 1]
    graph.set_input(convolution, 0, before.input[0])
    graph.shapes[convolution.name] = graph.shape(after.name)
    graph.bypass(after, convolution.name)


def _is_plain(node: Any) -> bool:
    """A convolution of channels last that neither pads, nor strides, nor dilates."""
    ones = all(size == 1 for key in ("strides", "dilations") for size in node.attr[key].list.i)
    return node.attr["padding"].s == b"VALID" and ones and _is_float(node) and node.attr["data_format"].s == b"NHWC"


def _is_float(node: Any) -> bool:
    return node.attr["T"].type in _FLOATS


def _fold_pad(graph: Graph, node: Any) -> None:
    pad = graph.producer(node.input[0])
    if pad.op not in ("Pad", "PadV2") or node.attr["padding"].s != b"VALID" or node.attr["data_format"].s != b"NHWC":
        return
    sizes = graph.constant(pad.input[1])
    if sizes is None or sizes.shape != (4, 2) or np.any(sizes[[0, 3]]) or np.any(sizes < 0) or not _is_float(node):
        return
    if pad.op == "PadV2" and not _is_zero(graph.constant(pad.input[2])):
        return
    if any(graph.nodes[user].op not in ("Conv2D", "DepthwiseConv2dNative") for user in graph.users[pad.name]):
        return  # padded for others all the same
    _set_padding(node, sizes.reshape(-1).tolist())
    graph.set_input(node, 0, pad.input[0])


def _is_zero(value: Array | None) -> bool:
    return value is not None and not np.any(value)


def _set_padding(node: Any, sizes: list[int]) -> None:
    if not any(sizes):
        return
    node.attr["padding"].s = b"EXPLICIT"
    node.attr["explicit_paddings"].list.i[:] = [int(size) for size in sizes]
