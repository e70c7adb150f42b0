"""Keras models with weights as training leaves them, frozen; and frozen graphs run as they are."""

from collections import Counter

import numpy as np
import tensorflow as tf

from keraship.exporter.freeze import freeze
from keraship.exporter.trace import trace


def frozen(model, seed=0):
    """Freeze a model whose weights, means and variances are no longer those of a new model."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        if "float" in str(weight.dtype):
            weight.assign(_drawn(random, weight))
    return freeze(trace(model))


def _drawn(random, weight):
    if "variance" in weight.path:
        return random.uniform(0.3, 2, weight.shape)
    if len(weight.shape) < 2:
        return random.normal(size=weight.shape)
    return random.normal(size=weight.shape) / np.sqrt(np.prod(weight.shape[:-1]))


def run(graph, feed):
    """The answers of a frozen graph, arrays by name."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.import_graph_def(graph.graph, name="")
        if graph.init:
            session.run(graph.init)
        tensors = {spec.name: spec.tensor for spec in graph.signature.outputs}
        return session.run(tensors, {spec.tensor: feed[spec.name] for spec in graph.signature.inputs})


def drawn(graph, rows=3, seed=1, open_size=7):
    """Random inputs for a frozen graph's signature."""
    random = np.random.default_rng(seed)
    return {
        spec.name: random.normal(size=_sizes(spec.shape, rows, open_size)).astype(spec.dtype)
        for spec in graph.signature.inputs
    }


def _sizes(shape, rows, open_size):
    return [size or (open_size if axis else rows) for axis, size in enumerate(shape)]


def ops(graph):
    """How many nodes a graph has of each op."""
    return Counter(node.op for node in graph.graph.node)


def error(expected, got):
    """The largest difference over the largest magnitude of its output."""
    return max(
        np.abs(expected[name].astype(float) - got[name].astype(float)).max()
        / np.abs(expected[name].astype(float)).max()
        for name in expected
    )
