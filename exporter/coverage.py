"""How much of a graph is quantized: counts of ops and of weights' elements."""

from __future__ import annotations

import numpy as np

from keraship.exporter.freeze import Frozen

_FLOATS = "fV"  # V: bfloat16


def elements(frozen: Frozen) -> int:
    """The number of a graph's weights: of all floating point constants with an axis, those of functions included."""
    import tensorflow as tf

    bodies = [node for function in frozen.graph.library.function for node in function.node_def]
    tensors = (node.attr["value"].tensor for node in (*frozen.graph.node, *bodies) if node.op == "Const")
    floats = (tensor for tensor in tensors if tf.as_dtype(tensor.dtype).is_floating and tensor.tensor_shape.dim)
    return sum(int(np.prod([dim.size for dim in tensor.tensor_shape.dim])) for tensor in floats)


def share(part: int, whole: int) -> float:
    """A part of all; 0 of nothing."""
    return part / whole if whole else 0.0
