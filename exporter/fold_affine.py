"""What multiplies and shifts each channel by constants moves into the weights of the layer before it, or after it.

Keras writes a batch normalization as Mul and AddV2 (or Sub); a bias is an AddV2. y = (x * w) * s + b becomes
y = x * (w * s) + b, one op and a BiasAdd that runtimes fuse with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keraship.exporter.contractions import Layer, layer
from keraship.exporter.graph import Array, Graph, Shape, name_of


def fold_affine_after(graph: Graph) -> None:
    """Constant factors and shifts of each channel behind a contraction go into its weights and a BiasAdd."""
    found = {node.name: chain for node in graph.of(*_FOLLOWED) for chain in _chain(graph, node)}
    for chain in found.values():
        if _is_worthwhile(chain) and _is_alone_with_weights(graph, chain, found):
            _apply(graph, chain)


def fold_affine_before(graph: Graph) -> None:
    """Constant factors before a contraction go into its weights; shifts into its bias, where nothing is padded."""
    for fold in (_fold_shift, _fold_factor):  # BN shifts last, which is the first to be moved
        for node in graph.of(*_PRECEDED):
            found = layer(graph, node)
            if found is not None:
                fold(graph, found)


@dataclass
class _Affine:
    """y = x * factor + shift for each output channel of a layer, and the nodes that it stands for.

    layout: the shape that a channel has at the end of the tensors, (channels,) unless a Reshape has split it.
    """

    layer: Layer
    factor: Array
    shift: Array
    layout: tuple[int, ...]
    nodes: list[Any] = field(default_factory=list)  # those that calculate
    shifted: bool = False

    @property
    def scaled(self) -> bool:
        return bool(np.any(self.factor != 1))


_FOLLOWED = ("Conv2D", "Conv3D", "DepthwiseConv2dNative", "Conv2DBackpropInput", "Conv3DBackpropInputV2", "MatMul")
_PRECEDED = ("Conv2D", "Conv3D", "DepthwiseConv2dNative", "MatMul")


def _chain(graph: Graph, node: Any) -> Iterator[_Affine]:
    """What follows `node`, as far as it is affine and nothing else uses what lies between; none where nothing is."""
    found = layer(graph, node)
    if found is None:
        return
    count = found.channels(found.kind.outputs)
    affine = _Affine(found, np.ones(count), np.zeros(count), (count,))
    user = graph.only_user(node)
    before = node
    while user is not None and user.name not in graph.kept and _step(graph, affine, before, user):
        before, user = user, graph.only_user(user)
    if affine.nodes:
        yield affine


def _step(graph: Graph, affine: _Affine, before: Any, user: Any) -> bool:
    """Take one more node into the chain; False where it is not affine."""
    if user.op in _LAYOUTS:
        return _relayout(graph, affine, before, user)
    values = _values(graph, affine, before, user)
    if values is None:
        return False
    factor, shift = values
    affine.factor, affine.shift = affine.factor * factor, affine.shift * factor + shift
    affine.nodes.append(user)
    affine.shifted |= user.op not in ("Mul", "RealDiv")
    return True


_LAYOUTS = ("Reshape", "Squeeze", "ExpandDims", "BatchToSpaceND", "Identity")


def _relayout(graph: Graph, affine: _Affine, before: Any, user: Any) -> bool:
    """Whether the channels still stand last, in the same order, after an op that moves values without changing them."""
    shape = graph.shape(user.name)
    if name_of(user.input[0]) != before.name or shape is None:
        return False
    if user.op == "BatchToSpaceND" and (graph.shape(user.input[1]) or (None,))[0] not in range(len(shape) - 1):
        return False  # its blocks take in the channels
    layout = _trailing(shape, math.prod(affine.layout))
    if layout is None:
        return False
    affine.layout = layout
    return True


def _trailing(shape: Shape, count: int) -> tuple[int, ...] | None:
    """The last axes of a shape whose product is `count`; None where no run of them has it."""
    product, sizes = 1, []
    for size in reversed(shape):
        if size is None:
            return None
        product *= size
        sizes.append(size)
        if product == count:
            return tuple(reversed(sizes))
        if product > count or not product:
            return None
    return None


def _values(graph: Graph, affine: _Affine, before: Any, user: Any) -> tuple[Array, Array] | None:
    """The factor and the shift of each channel by a node; None where it has none that are constant."""
    if user.op == "FusedBatchNormV3":
        return _normalization(graph, before, user)
    if user.op not in _STEPS or len(user.input) != 2:  # others wait on controls
        return None
    first = name_of(user.input[0]) == before.name
    value = graph.constant(user.input[1 if first else 0])
    rank = len(graph.shape(user.name) or ())
    spread = None if value is None else _spread(value, affine.layout, rank)
    return None if spread is None else _STEPS[user.op](spread.astype(np.float64), first)


def _spread(value: Array, layout: tuple[int, ...], rank: int) -> Array | None:
    """A constant as a number for each channel; None where it differs along other axes, or adds any."""
    lead = max(0, value.ndim - len(layout))
    if value.ndim > rank or any(size != 1 for size in value.shape[:lead]):
        return None
    tail = value.reshape(value.shape[lead:])
    try:
        return np.broadcast_to(tail, layout).reshape(-1)
    except ValueError:
        return None


_STEPS: dict[str, Callable[[Array, bool], tuple[Array, Array] | None]] = {
    "Mul": lambda value, _first: (value, np.zeros_like(value)),
    "AddV2": lambda value, _first: (np.ones_like(value), value),
    "Add": lambda value, _first: (np.ones_like(value), value),
    "BiasAdd": lambda value, _first: (np.ones_like(value), value),
    "Sub": lambda value, first: (np.ones_like(value), -value) if first else (-np.ones_like(value), value),
    "RealDiv": lambda value, first: (1 / value, np.zeros_like(value)) if first and np.all(value != 0) else None,
}
"""(constant, whether it comes second) -> (factor, shift)."""


def _normalization(graph: Graph, before: Any, node: Any) -> tuple[Array, Array] | None:
    """A fused batch normalization at inference."""
    constants = [graph.constant(ref) for ref in node.input[1:5]]
    if node.attr["is_training"].b or name_of(node.input[0]) != before.name or any(item is None for item in constants):
        return None
    if node.attr["data_format"].s == b"NCHW":
        return None
    scale, offset, mean, variance = (np.asarray(item, np.float64) for item in constants)
    factor = scale / np.sqrt(variance + node.attr["epsilon"].f)
    return factor, offset - mean * factor


def _is_worthwhile(chain: _Affine) -> bool:
    """Not where all there is is a BiasAdd where it should be."""
    first, *others = chain.nodes
    return bool(others) or first.op != "BiasAdd" or first.input[0] != chain.layer.node.name


def _is_alone_with_weights(graph: Graph, chain: _Affine, found: dict[str, _Affine]) -> bool:
    """Whether no other layer wants these weights in another scale, which would store them twice."""
    users = graph.users[name_of(chain.layer.node.input[chain.layer.kind.weights])]
    return not chain.scaled or all(user in found and np.array_equal(found[user].factor, chain.factor) for user in users)


def _apply(graph: Graph, chain: _Affine) -> None:
    scaled = chain.layer.weights * chain.layer.by_output(chain.factor)
    if chain.scaled and not _set_weights(graph, chain.layer, scaled):
        return
    for step in chain.nodes:
        data = next(ref for ref in step.input if graph.constant(ref) is None)
        graph.bypass(step, data)
    if chain.shifted:
        _add_bias(graph, chain.layer, chain.shift)


def _set_weights(graph: Graph, found: Layer, scaled: Array) -> bool:
    """Give a layer other weights; False where they are no numbers that the type can hold."""
    with np.errstate(over="ignore"):
        new = scaled.astype(found.weights.dtype)
    if not np.all(np.isfinite(new)):
        return False
    graph.set_input(found.node, found.kind.weights, graph.add_constant(f"{found.node.name}/weights", new))
    return True


def _add_bias(graph: Graph, found: Layer, shift: Array) -> None:
    """Shift each output channel of a layer: by the BiasAdd that it has, or a new one."""
    node = found.node
    user = graph.only_user(node)
    bias = graph.constant(user.input[1]) if user is not None and user.op == "BiasAdd" else None
    total = (shift if bias is None else shift + bias).astype(found.weights.dtype)
    constant = graph.add_constant(f"{node.name}/bias", total)
    if bias is not None:
        graph.set_input(user, 1, constant)
        return
    added = graph.add("BiasAdd", f"{node.name}/BiasAdd", [node.name, constant], data_format="NHWC")
    graph.nodes[added].attr["T"].type = node.attr["T"].type
    graph.shapes[added] = graph.shape(node.name)
    graph.redirect(node.name, added)


def _fold_shift(graph: Graph, found: Layer) -> None:
    """Mul, AddV2, contraction: the AddV2 becomes a bias.

    Only behind a Mul, as batch normalization has it: where a mean is subtracted first, as Normalization does, that is
    what keeps large inputs exact.
    """
    before = _before(graph, found, "AddV2", "Add", "BiasAdd")
    if before is None or _is_padded(found) or graph.producer(before.data).op != "Mul":
        return
    moved = found.weights.astype(np.float64) * found.by_input(before.value)
    summed = tuple(axis for axis in range(moved.ndim) if axis not in found.kind.outputs)
    _add_bias(graph, found, moved.sum(axis=summed).reshape(-1))
    graph.bypass(before.node, before.data)


def _fold_factor(graph: Graph, found: Layer) -> None:
    """Mul, contraction: into the weights, unless another layer shares them. Zeros around stay zeros."""
    before = _before(graph, found, "Mul")
    shared = graph.users[name_of(found.node.input[found.kind.weights])].total() > 1
    if before is not None and not shared:
        scaled = found.weights * found.by_input(before.value.astype(np.float64))
        if _set_weights(graph, found, scaled):
            graph.bypass(before.node, before.data)


@dataclass(frozen=True)
class _Before:
    """A node right before a layer, its number for each input channel, and the tensor that it is applied to."""

    node: Any
    value: Array
    data: str


def _before(graph: Graph, found: Layer, *ops: str) -> _Before | None:
    user, node = found.node, graph.producer(found.data)
    while node.op in _RESHAPES and graph.only_user(node) is user:
        user, node = node, graph.producer(node.input[0])
    shape = graph.shape(node.name)
    if node.op not in ops or len(node.input) != 2 or graph.only_user(node) is not user or shape is None:
        return None
    layout = _trailing(shape, found.channels(found.kind.inputs))
    for value_at, data_at in ((1, 0), (0, 1)):
        value, data = graph.constant(node.input[value_at]), node.input[data_at]
        spread = None if value is None or layout is None else _spread(value, layout, len(shape))
        if spread is not None and graph.shape(data) == shape:
            return _Before(node, spread, data)
    return None


_RESHAPES = ("Reshape", "Squeeze", "ExpandDims", "Identity")


def _is_padded(found: Layer) -> bool:
    """Whether a convolution sees zeros around its input, which a shift before would have changed."""
    if found.node.op == "MatMul":  # reading an attribute that a node has not would give it one
        return False
    padding = found.node.attr["padding"].s
    if padding == b"VALID":
        return False
    return padding != b"SAME" or any(size != 1 for size in found.weights.shape[:-2])
