"""The variables of a graph that is too large to hold its weights: a checkpoint beside it, and the ops that restore it.

As TensorFlow 1 has it: a SaverDef names the op to run and the tensor to feed with the checkpoint's path, and a
collection names the variables. Every loader knows that: tf.saved_model.load, v1 sessions, TensorFlow Serving.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import graph_pb2, variable_pb2
from tensorflow.core.protobuf import saver_pb2

from keraship import bundle
from keraship.errors import BundleError
from keraship.exporter.freeze import Variable

_SCOPE = "restore"
_FILE, _ALL = f"{_SCOPE}/file", f"{_SCOPE}/all"


def add_variables(meta_graph: Any, variables: tuple[Variable, ...]) -> None:
    """Add to a MetaGraphDef, whose graph has the variables' handles, what restores them."""
    meta_graph.graph_def.node.extend(_restoring(variables))
    meta_graph.saver_def.version = saver_pb2.SaverDef.V2
    meta_graph.saver_def.filename_tensor_name = f"{_FILE}:0"
    meta_graph.saver_def.save_tensor_name = f"{_FILE}:0"  # has to name a tensor; nobody saves a served model
    meta_graph.saver_def.restore_op_name = _ALL
    described = meta_graph.collection_def["variables"].bytes_list.value
    for index, variable in enumerate(variables):
        message = variable_pb2.VariableDef(
            variable_name=f"{variable.node}:0",
            initial_value_name=f"{_SCOPE}/values:{index}",
            initializer_name=f"{variable.node}/assign",
            snapshot_name=f"{variable.node}/read:0",
            is_resource=True,
            trainable=True,
        )
        described.append(message.SerializeToString(deterministic=True))


def write_variables(folder: Path, variables: tuple[Variable, ...]) -> None:
    """Write variables/variables.index and its data file into `folder`; raises BundleError where that fails."""
    path = folder / bundle.VARIABLES
    path.mkdir()
    try:
        tf.raw_ops.SaveV2(
            prefix=str(path / "variables"),
            tensor_names=[variable.node for variable in variables],
            shape_and_slices=[""] * len(variables),
            tensors=[variable.value.read_value() for variable in variables],
        )
    except tf.errors.OpError as error:
        raise BundleError(f"cannot write the model's weights: {error.message}") from error


def _restoring(variables: tuple[Variable, ...]) -> list[Any]:
    graph = graph_pb2.GraphDef()

    def add(name: str, op: str, *inputs: str, **types: Any) -> Any:
        node = graph.node.add(name=name, op=op, input=inputs)
        for key, dtype in types.items():
            node.attr[key].type = dtype
        return node

    def constant(name: str, values: Any) -> None:
        node = add(name, "Const", dtype=tf.string.as_datatype_enum)
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(values, tf.string))

    constant(f"{_FILE}/default", "")
    file = add(_FILE, "PlaceholderWithDefault", f"{_FILE}/default", dtype=tf.string.as_datatype_enum)
    file.attr["shape"].shape.SetInParent()
    constant(f"{_SCOPE}/names", [variable.node for variable in variables])
    constant(f"{_SCOPE}/slices", [""] * len(variables))
    values = add(f"{_SCOPE}/values", "RestoreV2", _FILE, f"{_SCOPE}/names", f"{_SCOPE}/slices")
    for index, variable in enumerate(variables):
        dtype = variable.value.dtype.as_datatype_enum
        values.attr["dtypes"].list.type.append(dtype)
        add(f"{variable.node}/assign", "AssignVariableOp", variable.node, f"{_SCOPE}/values:{index}", dtype=dtype)
        add(f"{variable.node}/read", "ReadVariableOp", variable.node, dtype=dtype)
    add(_ALL, "NoOp", *(f"^{variable.node}/assign" for variable in variables))
    return list(graph.node)
