"""Is a model ONNX, and can onnxruntime run it? Asked of every model before it is written."""

from __future__ import annotations

from typing import Any

import onnx
import onnxruntime

from keraship.errors import ExportError
from keraship.reasons import reason

DOMAINS = {"": "", "ai.onnx": "", "ai.onnx.ml": "ai.onnx.ml"}
"""The standard's domains, by what they are called in files."""

ML_OPSET = 3

LIMIT = 2**31 - 1
"""A message's largest size, in bytes."""


def is_standard(node: Any, opset: int) -> bool:
    """Whether a node's operation is one of the standard's."""
    if node.domain not in DOMAINS:
        return False
    version = ML_OPSET if node.domain == "ai.onnx.ml" else opset
    try:
        return not onnx.defs.get_schema(node.op_type, version, DOMAINS[node.domain]).deprecated
    except onnx.defs.SchemaError:
        return False


def check(model: Any) -> None:
    """Raise ExportError for a model that is not valid, or that onnxruntime refuses; one beyond 2 GB is left alone."""
    if model.ByteSize() > LIMIT:
        return
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise invalid(error) from error
    try:
        session(model, optimize=False)
    except Exception as error:  # onnxruntime's exceptions have no common base
        raise ExportError(
            f"onnxruntime cannot run the converted model: {reason(error)}; leave onnx out of --formats"
        ) from error


def invalid(error: Exception) -> ExportError:
    """What to raise for a model that the checker refuses."""
    return ExportError(f"the converted model is not valid ONNX: {reason(error)}; leave onnx out of --formats")


def session(model: Any, *, optimize: bool = True) -> Any:
    """The model in onnxruntime, on the CPU; optimize: as it is served, which takes longer to load."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
