"""Which layers of a folded graph can be computed in 8 bits, and what goes into one op with each; why others can't.

Stock TensorFlow has oneDNN's 8-bit kernels for Conv2D, DepthwiseConv2dNative and MatMul, with what follows fused:
a bias, an activation, and for a convolution a summand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from keraship import dtypes
from keraship.bundle import KeptFloat
from keraship.exporter.contractions import Layer, contraction, layer
from keraship.exporter.graph import Array, Graph, name_of
from keraship.exporter.int8_gelu import gelu
from keraship.exporter.layer_names import layer_of

KERNELS = {
    "Conv2D": "_FusedQuantizedConv2D",
    "DepthwiseConv2dNative": "_FusedQuantizedDepthwiseConv2D",
    "MatMul": "_QuantizedMatMul",
}
"""TensorFlow's op -> the one that computes it in 8 bits."""

WEIGHTED = (
    *KERNELS,
    "Conv3D",
    "Conv2DBackpropInput",
    "Conv3DBackpropInputV2",
    "BatchMatMulV2",
    "BatchMatMul",
    "Einsum",
)
"""The ops that a network's time goes to."""

MOVES = ("Reshape", "Squeeze", "ExpandDims")
"""What may stand between a layer and its activation: it moves values, and works on 8 bits as on others."""


@dataclass(frozen=True)
class Target:
    """A layer to compute in 8 bits, and what goes into its op.

    name: the Keras layer's. bias: one for each channel, zeros where it has none. activation: "", Relu, Relu6 or
    GeluExact. moves: the Reshapes between the layer and its activation. out: the node whose value the op takes over.
    summand: the tensor that is added before the activation, "" where none is; `before_sum` is then the node that would
    be the end without it.
    """

    layer: Layer
    name: str
    bias: Array
    out: str
    activation: str = ""
    moves: tuple[str, ...] = ()
    summand: str = ""
    before_sum: str = ""

    @property
    def node(self) -> Any:
        """The layer's own node."""
        return self.layer.node

    @property
    def is_product(self) -> bool:
        return str(self.node.op) == "MatMul"

    def without_sum(self) -> Target:
        """The same with the addition left to float."""
        return replace(self, summand="", activation="", out=self.before_sum, before_sum="")


@dataclass(frozen=True)
class Plan:
    """targets: in the order in which they are computed. kept: what stays float whatever is measured."""

    targets: tuple[Target, ...]
    kept: tuple[KeptFloat, ...]


def plan(graph: Graph, keep_float: Sequence[str] = ()) -> Plan:
    """What can be computed in 8 bits. keep_float: names of layers, or of nodes, that may not."""
    order = graph.ordered()
    names = {name: layer_of(name) for name in order}
    targets, kept = [], []
    for node in [graph.nodes[name] for name in order if graph.nodes[name].op in WEIGHTED]:
        why = _obstacle(graph, node)
        if not why and _is_asked(node.name, names[node.name], keep_float):
            why = "asked to stay float"
        if why:
            kept.append(KeptFloat(names[node.name], node.op, why))
        else:
            targets.append(_target(graph, node, names[node.name]))
    kept += [
        KeptFloat(names[name], op, "inside a loop, a branch or a compiled function, which stay float")
        for name, op in bodies(graph)
    ]
    return Plan(tuple(_share_sums(graph, targets, order)), tuple(kept))


def bodies(graph: Graph) -> Iterator[tuple[str, str]]:
    """The node of each loop or branch, and the ops with weights in its functions."""
    functions = {function.signature.name: function for function in graph.library.function}
    for node in graph.nodes.values():
        stack, seen = [node], set[str]()
        while stack:
            for name in _called(stack.pop()) - seen:
                seen.add(name)
                inside = functions[name].node_def if name in functions else ()
                yield from ((node.name, item.op) for item in inside if item.op in WEIGHTED)
                stack += inside


def _called(node: Any) -> set[str]:
    values = node.attr.values()
    return {value.func.name for value in values if value.HasField("func")} | {
        function.name for value in values for function in value.list.func
    }


def _is_asked(node: str, name: str, asked: Sequence[str]) -> bool:
    return any(item in (node, name) or name.startswith(f"{item}/") for item in asked)


def _obstacle(graph: Graph, node: Any) -> str:
    """Why a node can't be computed in 8 bits; "" where it can."""
    kind, dtype = contraction(node), node.attr["T"].type
    if node.op not in KERNELS and (kind is None or graph.constant(node.input[kind.weights]) is not None):
        constant = any(graph.constant(ref) is not None for ref in node.input)
        return _NO_KERNEL if kind is not None or constant else _TWO_ACTIVATIONS
    if dtype != tf.float32.as_datatype_enum:
        return f"computes in {dtypes.by_number(dtype).name}, and 8-bit kernels take the place of float32 ones"
    if kind is None:
        return "its channels come first" if node.op != "MatMul" else "its left side is transposed"
    weights = graph.constant(node.input[kind.weights])
    if weights is None:
        return _TWO_ACTIVATIONS
    if not weights.size:
        return "its weights have no elements"
    if not np.all(np.isfinite(weights)):
        return "its weights hold numbers that are not finite"
    if layer(graph, node) is None:
        return "its channels are grouped, which 8-bit kernels can't do"
    return ""


_NO_KERNEL = "TensorFlow has no 8-bit kernel for it"
_TWO_ACTIVATIONS = "an activation times an activation"


def _target(graph: Graph, node: Any, name: str) -> Target:
    """A layer with the bias, the summand and the activation that follow it."""
    found = layer(graph, node)
    assert found is not None  # noqa: S101  nothing stood in its way
    end, bias = _with_bias(graph, node, found.channels(found.kind.outputs))
    target = Target(found, name, bias, end.name)
    summed = _with_sum(graph, target, end) if node.op == "Conv2D" else None
    if summed is not None:
        return summed
    end, moves = _with_moves(graph, end)
    last, activation = _with_activation(graph, end, gelus=target.is_product)
    return replace(target, out=last.name, activation=activation, moves=moves) if activation else target


def _with_bias(graph: Graph, node: Any, count: int) -> tuple[Any, Array]:
    user = graph.only_user(node)
    bias = graph.constant(user.input[1]) if user is not None and user.op == "BiasAdd" else None
    return (node, np.zeros(count, np.float32)) if bias is None else (user, bias)


def _with_sum(graph: Graph, target: Target, end: Any) -> Target | None:
    """AddV2 and Relu behind a convolution, where what is added is computed and not fed."""
    add = graph.only_user(end)
    relu = graph.only_user(add) if add is not None and add.op in ("AddV2", "Add") else None
    if add is None or relu is None or relu.op != "Relu":
        return None
    (other,) = [ref for ref in add.input if name_of(ref) != end.name]
    known = graph.shape(other) is not None and graph.shape(other) == graph.shape(end.name)
    if not known or graph.producer(other).op in ("Const", "Placeholder", "Identity", *MOVES):
        return None
    return replace(target, out=relu.name, activation="Relu", summand=other, before_sum=end.name)


def _with_moves(graph: Graph, end: Any) -> tuple[Any, tuple[str, ...]]:
    moves: list[str] = []
    user = graph.only_user(end)
    while user is not None and user.op in MOVES and name_of(user.input[0]) == end.name:
        moves.append(user.name)
        end, user = user, graph.only_user(user)
    return end, tuple(moves)


def _with_activation(graph: Graph, end: Any, *, gelus: bool) -> tuple[Any, str]:
    user = graph.only_user(end)
    if user is not None and user.op in ("Relu", "Relu6"):
        return user, user.op
    last = gelu(graph, end) if gelus else None
    return (end, "") if last is None else (last, "GeluExact")


def _share_sums(graph: Graph, targets: list[Target], order: list[str]) -> Iterator[Target]:
    """Each addition goes to one convolution, the last to be computed; and only where its summand may be overwritten."""
    place = {name: index for index, name in enumerate(order)}
    claims = {target.out: target for target in sorted(targets, key=lambda item: place[item.node.name])}
    for target in targets:
        mine = not target.summand or (claims[target.out] is target and _is_free(graph, target))
        yield target if mine else target.without_sum()


def _is_free(graph: Graph, target: Target) -> bool:
    """Whether nobody needs the summand after the convolution, which writes its result where the summand was.

    Its other users have to be among what the convolution is computed from: they are done by then.
    """
    producer = graph.producer(target.summand)
    add = name_of(graph.nodes[target.out].input[0])
    others = set(graph.users[producer.name]) - {add}
    return producer.name not in graph.kept and others <= graph.ancestors(target.node.name)
