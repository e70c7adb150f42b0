"""Is a model ONNX, and can onnxruntime run it? Asked of every model before it is written."""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
import onnx
import onnxruntime

from keraship import bundle
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
    _load(model, _options(onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL))


def slimmed(model: Any) -> Any:
    """The same model with less in it: constants computed, scales of convolutions inside of them, nothing twice.

    onnxruntime does it, at the level that keeps to the standard's operations, and drops nothing that it is not sure of.
    onnxslim was tried: over 186 models it was no better where it was right, eight times slower, and made another
    function of two (Keras' median and quantile). A model beyond 2 GB stays as it is.
    Raises ExportError for a model that onnxruntime refuses.
    """
    if model.ByteSize() > LIMIT:
        return model
    with tempfile.TemporaryDirectory(prefix="keraship-") as folder:
        path = f"{folder}/{bundle.ONNX}"
        options = _options(onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC)
        options.optimized_model_filepath = path
        _load(model, options)
        return onnx.load(path)


def invalid(error: Exception) -> ExportError:
    """What to raise for a model that the checker refuses."""
    return ExportError(f"the converted model is not valid ONNX: {reason(error)}; leave onnx out of --formats")


def session(model: Any, *, optimize: bool = True) -> Any:
    """The model in onnxruntime, on the CPU; optimize: as it is served, which takes longer to load."""
    levels = onnxruntime.GraphOptimizationLevel
    options = _options(levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(session: Any, names: list[str], rows: dict[str, Any]) -> list[Any]:
    """The outputs called `names`, for arrays by input name; texts are bytes, as everywhere here."""
    feeds = {value.name: _as_text(rows[value.name]) for value in session.get_inputs()}
    return list(session.run(names, feeds))


def rows_at_once(model: Any, most: int) -> int:
    """How many rows the model takes: `most`, or the number that it was built for."""
    sizes = [value.type.tensor_type.shape.dim[:1] for value in model.graph.input]
    fixed = [size[0].dim_value for size in sizes if size and size[0].dim_value]
    return fixed[0] if fixed else most


def _as_text(array: Any) -> Any:
    return np.vectorize(bytes.decode, otypes=[object])(array) if array.dtype.kind == "O" else array


def _options(level: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = level
    return options


def _load(model: Any, options: Any) -> None:
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common base
        raise ExportError(
            f"onnxruntime cannot run the converted model: {reason(error)}; leave onnx out of --formats"
        ) from error
