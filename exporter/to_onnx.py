"""A frozen graph to an ONNX model. The only file that imports tf2onnx.

tf2onnx leaves an op that it does not know in the file and says so only in its log; its optimizer goes on after an
error. Here an op outside the ONNX standard, and an error of the optimizer, end the export.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tensorflow as tf
from tf2onnx import optimizer, tf_loader, tfonnx
from tf2onnx import utils as tf2onnx_utils

from keraship import bundle
from keraship.errors import ExportError
from keraship.exporter.canonical_onnx import canonicalize
from keraship.exporter.freeze import LIMIT, Frozen
from keraship.reasons import reason
from keraship.signature import TensorSpec

_DOMAINS = {"": "", "ai.onnx": "", "ai.onnx.ml": "ai.onnx.ml"}
_ML_OPSET = 3


def write_onnx(model: Any, folder: Path) -> None:
    """Write a ModelProto as model.onnx into `folder`; raises ExportError where the file would pass 2 GB."""
    if model.ByteSize() > LIMIT:
        raise ExportError(f"the ONNX file would hold {model.ByteSize()} bytes, and {LIMIT} is the most; leave onnx out")
    (folder / bundle.ONNX).write_bytes(model.SerializeToString(deterministic=True))


def to_onnx(frozen: Frozen, *, opset: int) -> Any:
    """The ONNX ModelProto for a frozen graph: the signature's names, a batch dimension called `batch`.

    Raises ExportError where the model has ops that ONNX has not.
    """
    model = _converted(frozen, opset)
    _check_ops(model, opset)
    _name_dimensions(model, frozen)
    _drop_notes(model)
    canonicalize(model)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(
            f"the converted model is not valid ONNX: {reason(error)}; leave onnx out of --formats"
        ) from error
    return model


def _converted(frozen: Frozen, opset: int) -> Any:
    inputs = [spec.tensor for spec in frozen.signature.inputs]
    outputs = [spec.tensor for spec in frozen.signature.outputs]
    tf2onnx_utils.INTERNAL_NAME = 1  # names are numbered by a counter of the process; files shall not depend on it
    try:
        with tf.Graph().as_default():
            tf.import_graph_def(frozen.graph, name="")
            folded = tf_loader.tf_optimize(inputs, outputs, frozen.graph)
        with tf.Graph().as_default() as graph:
            tf.import_graph_def(folded, name="")
            converted = tfonnx.process_tf_graph(
                graph,
                continue_on_error=True,  # so that all missing ops are found, not the first
                opset=opset,
                input_names=inputs,
                output_names=outputs,
                custom_op_handlers={"Erfc": (_erfc, [])},
                tensors_to_rename={spec.tensor: spec.name for spec in _specs(frozen)},
            )
            return optimizer.optimize_graph(converted, catch_errors=False).make_model("keraship")
    except Exception as error:  # tf2onnx raises whatever comes up
        raise ExportError(
            f"the model cannot be converted to ONNX ({type(error).__name__}: {reason(error)}); "
            "export it with --formats saved_model"
        ) from error


def _specs(frozen: Frozen) -> tuple[TensorSpec, ...]:
    return frozen.signature.inputs + frozen.signature.outputs


def _erfc(graph: Any, node: Any, _name: str, _args: Any) -> None:
    """Erfc, which ONNX has not, and Keras' gelu is made of: 1 - Erf."""
    dtypes, shapes, outputs, (tensor,) = node.output_dtypes, node.output_shapes, node.output, node.input
    graph.remove_node(node.name)
    one = graph.make_const(tf2onnx_utils.make_name("one"), np.ones((), tf2onnx_utils.map_onnx_to_numpy_type(dtypes[0])))
    erf = graph.make_node("Erf", [tensor], dtypes=dtypes, shapes=shapes)
    graph.make_node(
        "Sub", [one.output[0], erf.output[0]], name=node.name, outputs=outputs, dtypes=dtypes, shapes=shapes
    )


def _check_ops(model: Any, opset: int) -> None:
    unknown = sorted({_qualified(node) for node in _nodes(model.graph) if not _is_standard(node, opset)})
    if unknown:
        raise ExportError(
            f"the model has operations that ONNX (opset {opset}) has not: {', '.join(unknown)}; "
            "export it with --formats saved_model, or export the part of the model without them"
        )


def _is_standard(node: Any, opset: int) -> bool:
    if node.domain not in _DOMAINS:
        return False
    version = _ML_OPSET if node.domain == "ai.onnx.ml" else opset
    try:
        return not onnx.defs.get_schema(node.op_type, version, _DOMAINS[node.domain]).deprecated
    except onnx.defs.SchemaError:
        return False


def _qualified(node: Any) -> str:
    return f"{node.domain}:{node.op_type}" if node.domain not in _DOMAINS else str(node.op_type)


def _nodes(graph: Any) -> Iterator[Any]:
    """All nodes, those in the bodies of loops and branches included."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                yield from _nodes(body)


def _name_dimensions(model: Any, frozen: Frozen) -> None:
    """Give the open sizes of inputs and outputs names that say what they are."""
    values = {value.name: value for value in (*model.graph.input, *model.graph.output)}
    for spec in _specs(frozen):
        shape = values[spec.name].type.tensor_type.shape
        if spec.shape is None:
            values[spec.name].type.tensor_type.ClearField("shape")
            continue
        shape.ClearField("dim")
        for axis, size in enumerate(spec.shape):
            if size is None:
                shape.dim.add().dim_param = "batch" if axis == 0 else f"{spec.name}_dim_{axis}"
            else:
                shape.dim.add().dim_value = size


def _drop_notes(model: Any) -> None:
    """Shapes of tensors in between: runtimes infer them, and tf2onnx's hold dimensions with numbered names."""
    model.graph.ClearField("value_info")
