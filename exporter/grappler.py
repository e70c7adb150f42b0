"""TensorFlow's own graph optimizer, run before a graph is written rather than each time that it is loaded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2, rewriter_config_pb2
from tensorflow.python.grappler import tf_optimizer

from keraship.errors import ExportError
from keraship.exporter.freeze import Frozen
from keraship.exporter.graph import name_of
from keraship.reasons import reason

OPTIMIZERS = (
    "pruning",  # what no output needs
    "constfold",  # what follows from the weights alone: a batch normalization's factors
    "dependency",  # nodes that only wait for others
    "constfold",  # what has become constant since
    "pruning",
)
"""In this order. Others look at the machine, so that one graph would have other bytes on another."""


def optimized(frozen: Frozen) -> Frozen:
    """The same graph after OPTIMIZERS; raises ExportError where TensorFlow fails at it."""
    config = config_pb2.ConfigProto()
    options = config.graph_options.rewrite_options
    options.optimizers[:] = OPTIMIZERS
    options.meta_optimizer_iterations = rewriter_config_pb2.RewriterConfig.TWO
    options.min_graph_nodes = -1  # small graphs too
    options.meta_optimizer_timeout_ms = -1  # half a result would depend on how busy the machine was
    options.fail_on_optimizer_errors = True
    try:
        graph = tf_optimizer.OptimizeGraph(config, _meta_graph(frozen))
    except Exception as error:  # whatever the C++ code makes of a graph it can't handle
        raise ExportError(
            f"TensorFlow's graph optimizer failed ({type(error).__name__}: {reason(error)}); "
            "please report the model's layers, for this should not happen"
        ) from error
    _restore_names(graph)
    return replace(frozen, graph=graph)


def _meta_graph(frozen: Frozen) -> Any:
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(frozen.graph, name="")
        meta = tf.compat.v1.train.export_meta_graph(graph_def=graph.as_graph_def(add_shapes=True), graph=graph)
    fetched = meta_graph_pb2.CollectionDef()
    fetched.node_list.value.extend(frozen.kept)
    meta.collection_def["train_op"].CopyFrom(fetched)
    return meta


def _restore_names(graph: Any) -> None:
    """Constant folding that moves a Mul into a convolution gives it the Mul's name, which is another layer's.

    The new weights are called after the convolution as it was: "conv/merged_input".
    """
    taken = {node.name for node in graph.node}
    before = {
        node.name: name.removesuffix(_MERGED)
        for node in graph.node
        for name in map(name_of, node.input)
        if name.endswith(_MERGED) and name.removesuffix(_MERGED) not in taken
    }
    for node in graph.node:
        node.name = before.get(node.name, node.name)
        for index, ref in enumerate(node.input):
            if name_of(ref) in before:
                node.input[index] = ref.replace(name_of(ref), before[name_of(ref)], 1)


_MERGED = "/merged_input"
