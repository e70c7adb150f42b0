"""A frozen graph to one that computes the same with less: constants folded, affine layers inside the weights."""

from __future__ import annotations

from collections.abc import Callable

from keraship.exporter.fold_affine import fold_affine_after, fold_affine_before
from keraship.exporter.fold_layout import fold_pads, merge_constants, simplify_products, simplify_shapes, use_dilations
from keraship.exporter.freeze import Frozen
from keraship.exporter.graph import Graph
from keraship.exporter.grappler import optimized

PASSES: tuple[Callable[[Graph], None], ...] = (
    simplify_products,  # a Dense of rank 3 becomes Reshape, MatMul, Reshape, so that what follows is seen
    use_dilations,  # SpaceToBatch, Conv2D, BatchToSpace become one convolution
    fold_pads,  # before affine layers: what is padded must not be shifted
    fold_affine_after,  # a batch normalization behind a convolution moves into its weights and a BiasAdd
    fold_affine_before,  # one before it too, where that is exact
    merge_constants,  # equal weights are stored once
)
"""In this order."""


def fold(frozen: Frozen) -> Frozen:
    """The same function of the same inputs, equal up to rounding, that is smaller and quicker to load and to run.

    Convolutions and products keep their nodes' names, and layers' with them. float16 and bfloat16 layers, channels
    first, and the bodies of loops are left as TensorFlow's optimizer makes them.
    Raises ExportError where that optimizer fails.
    """
    graph = Graph(optimized(frozen))
    simplify_shapes(graph)
    graph = Graph(graph.frozen())  # more shapes are known now
    for rewrite in PASSES:
        rewrite(graph)
    return graph.frozen()
