"""A frozen graph to an ONNX model. Only this file, onnx_ops.py and onnx_inference.py import tf2onnx.

tf2onnx leaves an op that it does not know in the file and says so only in its log; its optimizer goes on after an
error. Here an op outside the ONNX standard, and an error of the optimizer, end the export.
"""

from __future__ import annotations

from typing import Any

import onnx
import tensorflow as tf
from tf2onnx import optimizer, tf_loader, tfonnx
from tf2onnx import utils as tf2onnx_utils

from keraship.errors import ExportError
from keraship.exporter import onnx_ops, onnx_prepare
from keraship.exporter.canonical_onnx import canonicalize, tensors, walk
from keraship.exporter.freeze import Frozen
from keraship.exporter.layer_names import layer_of
from keraship.exporter.onnx_check import DOMAINS, ML_OPSET, check, is_standard, slimmed
from keraship.exporter.onnx_inference import broadcasting_selects
from keraship.reasons import reason
from keraship.signature import TensorSpec

_LABELLED = {"Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum", "Gather", "LSTM", "GRU", "RNN"}
"""What may hold weights: such a node is called after its layer, "encoder/query/MatMul"."""

_TEXT = ("String", "Regex", "Unicode", "Lookup", "HashTable", "SparseCross", "AsString", "Substr", "Base64", "of text")


def to_onnx(frozen: Frozen, *, opset: int) -> Any:
    """The ONNX ModelProto for a frozen graph, with the signature's names and a batch dimension called `batch`.

    It is checked against the standard, and onnxruntime loads it; a model of more than 2 GB is checked where it is
    written. The same graph gives the same bytes.
    Raises ExportError, which names the layers with operations that ONNX has not.
    """
    model = _converted(frozen, opset)
    _refuse([*_comparisons_of_text(frozen.graph), *_unknown(model, opset)], opset)
    _name_dimensions(model, frozen)
    _label(model)
    _tidy(model)
    canonicalize(model)
    check(model)
    result = slimmed(model)
    _tidy(result)
    canonicalize(result)
    check(result)
    return result


def _converted(frozen: Frozen, opset: int) -> Any:
    inputs = [spec.tensor for spec in frozen.signature.inputs]
    outputs = [spec.tensor for spec in frozen.signature.outputs]
    prepared = onnx_prepare.prepared(frozen)
    tables = onnx_prepare.tables(prepared)
    tf2onnx_utils.INTERNAL_NAME = 1  # names are numbered by a counter of the process; files shall not depend on it
    try:
        with tf.Graph().as_default():
            tf.import_graph_def(prepared, name="")
            folded = tf_loader.tf_optimize(inputs, outputs, prepared)
        with tf.Graph().as_default() as graph, broadcasting_selects():
            tf.import_graph_def(folded, name="")
            converted = tfonnx.process_tf_graph(
                graph,
                continue_on_error=True,  # so that all missing ops are found, not the first
                opset=opset,
                extra_opset=[onnx.helper.make_opsetid("ai.onnx.ml", ML_OPSET)],
                input_names=inputs,
                output_names=outputs,
                custom_op_handlers=onnx_ops.handlers(tables),
                tensors_to_rename={spec.tensor: spec.name for spec in _specs(frozen)},
            )
            return optimizer.optimize_graph(converted, catch_errors=False).make_model("keraship")
    except Exception as error:  # tf2onnx raises whatever comes up
        raise ExportError(
            f"the model cannot be converted to ONNX{_blamed(frozen.graph, str(error))} "
            f"({type(error).__name__}: {reason(error)}); export it with --formats saved_model"
        ) from error


def _blamed(graph: Any, said: str) -> str:
    """Where an error of tf2onnx lies: the layer of the longest node's name in it; empty where it names none."""
    named = [node.name for node in graph.node if node.name in said and layer_of(node.name) != node.name]
    return f", for {_place(max(named, key=len))}" if named else ""


def _specs(frozen: Frozen) -> tuple[TensorSpec, ...]:
    return frozen.signature.inputs + frozen.signature.outputs


def _comparisons_of_text(graph: Any) -> list[tuple[str, str]]:
    """What tf2onnx makes comparisons of numbers: op and node."""
    comparing = [node for node in graph.node if node.op in ("Equal", "NotEqual")]
    text = tf.string.as_datatype_enum
    return [(f"{node.op} of text", node.name) for node in comparing if node.attr["T"].type == text]


def _unknown(model: Any, opset: int) -> list[tuple[str, str]]:
    """What the standard does not hold: op and node."""
    return [(_qualified(node), node.name) for node in walk(model.graph) if not is_standard(node, opset)]


def _refuse(unknown: list[tuple[str, str]], opset: int) -> None:
    """Raise for operations, each with the name of its node; there may be none."""
    if not unknown:
        return
    places: dict[str, set[str]] = {}
    for op, node in unknown:
        places.setdefault(_place(node), set()).add(op)
    said = "; ".join(f"{', '.join(sorted(ops))} in {place}" for place, ops in sorted(places.items()))
    remedy = _remedy([op for op, _ in unknown])
    raise ExportError(f"the model has operations that ONNX (opset {opset}) has not: {said}; {remedy}")


def _place(node: str) -> str:
    layer = layer_of(node)
    return f"the layer {layer!r}" if layer != node else "the model's own code"


def _remedy(ops: list[str]) -> str:
    if any(word in op for op in ops for word in _TEXT):
        return (
            "ONNX does not work on text: export the whole model with --formats saved_model, or the part behind these "
            "layers, keras.Model(the outputs of these layers, model.outputs), and look text up before it is sent"
        )
    return "export the model with --formats saved_model, or make these layers of other operations"


def _qualified(node: Any) -> str:
    return f"{node.domain}:{node.op_type}" if node.domain not in DOMAINS else str(node.op_type)


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


def _label(model: Any) -> None:
    """Call nodes that hold weights after their layers; the others are named when all is put in order."""
    weights = {tensor.name for tensor in tensors(model.graph) if len(tensor.dims) > 1}
    for node in walk(model.graph):
        layer = layer_of(node.name)
        known = node.op_type in _LABELLED and layer != node.name and not weights.isdisjoint(node.input)
        node.name = f"{layer}/{node.op_type}" if known else ""


def _tidy(model: Any) -> None:
    """Drop what nothing needs, and mend what tf2onnx gives that no runtime takes."""
    model.graph.ClearField("value_info")  # runtimes infer shapes, and tf2onnx's hold dimensions with numbered names
    for node in walk(model.graph):
        if node.op_type == "ConvTranspose":
            _mend_padding(node)
    domains = {DOMAINS[node.domain] for node in walk(model.graph)} | {""}
    kept = [opset for opset in model.opset_import if DOMAINS.get(opset.domain) in domains]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def _mend_padding(node: Any) -> None:
    """Padding below zero, which stands for rows to be added at the end: `output_padding` in ONNX."""
    pads = next((attribute for attribute in node.attribute if attribute.name == "pads"), None)
    if pads is None or min(pads.ints) >= 0:
        return
    half = len(pads.ints) // 2
    totals = [begin + end for begin, end in zip(pads.ints[:half], pads.ints[half:], strict=True)]
    node.attribute.append(onnx.helper.make_attribute("output_padding", [max(0, -total) for total in totals]))
    begins = [begin if total >= 0 else 0 for begin, total in zip(pads.ints[:half], totals, strict=True)]
    ends = [end if total >= 0 else 0 for end, total in zip(pads.ints[half:], totals, strict=True)]
    pads.ints[:] = [*begins, *ends]
