"""The ops that multiply what comes by constant weights: where their weights are, and which axes of them mean what."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from keraship.exporter.graph import Array, Graph


@dataclass(frozen=True)
class Contraction:
    """data, weights: the places of these two among the inputs. outputs, inputs: the weights' axes of channels."""

    data: int
    weights: int
    outputs: tuple[int, ...]
    inputs: tuple[int, ...]


CONTRACTIONS = {
    "Conv2D": Contraction(0, 1, outputs=(3,), inputs=(2,)),
    "Conv3D": Contraction(0, 1, outputs=(4,), inputs=(3,)),
    "DepthwiseConv2dNative": Contraction(0, 1, outputs=(2, 3), inputs=(2,)),
    "Conv2DBackpropInput": Contraction(2, 1, outputs=(2,), inputs=(3,)),
    "Conv3DBackpropInputV2": Contraction(2, 1, outputs=(3,), inputs=(4,)),
    "MatMul": Contraction(0, 1, outputs=(1,), inputs=(0,)),
}
"""With channels last; a convolution's gradient is what a transposed convolution is traced to."""

_TRANSPOSED = Contraction(0, 1, outputs=(0,), inputs=(1,))  # MatMul(transpose_b=True)


def contraction(node: Any) -> Contraction | None:
    """What is known of the node's op; None for other ops, and for channels first."""
    if node.op == "MatMul":
        return (
            None if node.attr["transpose_a"].b else _TRANSPOSED if node.attr["transpose_b"].b else CONTRACTIONS[node.op]
        )
    channels_last = not node.attr["data_format"].s.startswith(b"NC") if "data_format" in node.attr else True
    return CONTRACTIONS.get(node.op) if channels_last else None


@dataclass(frozen=True)
class Layer:
    """A contraction of a graph: its node, what is known of its op, and its constant weights, float32 or float64."""

    node: Any
    kind: Contraction
    weights: Array

    @property
    def data(self) -> str:
        """The tensor that it is applied to."""
        return str(self.node.input[self.kind.data])

    def by_output(self, numbers: Array) -> Array:
        """A number for each output channel, in a shape that multiplies the weights."""
        return self._along(numbers, self.kind.outputs)

    def by_input(self, numbers: Array) -> Array:
        """A number for each input channel, in a shape that multiplies the weights."""
        return self._along(numbers, self.kind.inputs)

    def channels(self, axes: tuple[int, ...]) -> int:
        """The number of channels that stand on these axes of the weights."""
        return math.prod(self.weights.shape[axis] for axis in axes)

    def _along(self, numbers: Array, axes: tuple[int, ...]) -> Array:
        shape = [size if axis in axes else 1 for axis, size in enumerate(self.weights.shape)]
        return np.asarray(numbers).reshape(shape)


def layer(graph: Graph, node: Any) -> Layer | None:
    """`node` as a contraction; None where it is none, its weights are empty, not constant or of half precision, or its
    channels are grouped."""
    kind = contraction(node)
    if kind is None or node.attr["T"].type not in _EXACT:
        return None
    weights = graph.constant(node.input[kind.weights])
    if weights is None or not weights.size or _is_grouped(graph, node, weights):
        return None
    return Layer(node, kind, weights)


def _is_grouped(graph: Graph, node: Any, weights: Array) -> bool:
    """Whether a convolution's channels are grouped: TensorFlow fuses a BiasAdd with it, and then can't run it."""
    size = (graph.shape(node.input[0]) or (None,))[-1]
    return node.op in ("Conv2D", "Conv3D") and size is not None and size != weights.shape[-2]


_EXACT = {tf.float32.as_datatype_enum, tf.float64.as_datatype_enum}
