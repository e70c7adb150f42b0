"""What a frozen graph needs before tf2onnx reads it: calls that can be inlined, and no bfloat16."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import graph_pb2

from keraship.errors import ExportError
from keraship.exporter.freeze import Frozen

Tables = dict[str, tuple[Any, Any]]
"""By the table's node: its keys and its values."""

_NOT_INLINED = ("_XlaMustCompile", "_noinline")
_HALF, _SINGLE = tf.bfloat16.as_datatype_enum, tf.float32.as_datatype_enum


def prepared(frozen: Frozen) -> Any:
    """A copy of the graph in which every call can be inlined, and float32 stands for bfloat16.

    ONNX runtimes have next to no bfloat16 operations on a CPU. Its weights are exact in float32, and what is computed
    of them is closer to the model's meaning than what bfloat16 gives.
    Raises ExportError for inputs and outputs that are bfloat16 themselves.
    """
    graph = graph_pb2.GraphDef()
    graph.CopyFrom(frozen.graph)
    for holder in (*_all_nodes(graph), *graph.library.function):
        for mark in _NOT_INLINED:
            holder.attr.pop(mark, None)
    if "bfloat16" in frozen.float_dtypes:
        _check_ends(frozen)
        _widen(graph)
    return graph


def tables(graph: Any) -> Tables:
    """The contents of the lookup tables in a graph."""
    nodes = {node.name: node for node in graph.node}
    return {
        node.input[0].partition(":")[0]: tuple(
            tf.make_ndarray(nodes[part.partition(":")[0]].attr["value"].tensor) for part in node.input[1:]
        )
        for node in graph.node
        if node.op == "InitializeTableV2" and all(part.partition(":")[0] in nodes for part in node.input)
    }


def _check_ends(frozen: Frozen) -> None:
    specs = (*frozen.signature.inputs, *frozen.signature.outputs)
    names = [spec.name for spec in specs if spec.dtype == "bfloat16"]
    if names:
        raise ExportError(
            f"ONNX runtimes on a CPU take and give no bfloat16, which {', '.join(names)} would be; give the model's "
            "first and last layers dtype='float32', or leave onnx out of --formats"
        )


def _widen(graph: Any) -> None:
    for node in _all_nodes(graph):
        for value in node.attr.values():
            _widen_value(value)
    for function in graph.library.function:
        for argument in (*function.signature.input_arg, *function.signature.output_arg):
            if argument.type == _HALF:
                argument.type = _SINGLE


def _widen_value(value: Any) -> None:
    if value.type == _HALF:
        value.type = _SINGLE
    for index, number in enumerate(value.list.type):
        if number == _HALF:
            value.list.type[index] = _SINGLE
    if value.WhichOneof("value") == "tensor" and value.tensor.dtype == _HALF:
        value.tensor.CopyFrom(tf.make_tensor_proto(tf.make_ndarray(value.tensor).astype(np.float32)))


def _all_nodes(graph: Any) -> Iterator[Any]:
    yield from graph.node
    for function in graph.library.function:
        yield from function.node_def
