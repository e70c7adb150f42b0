"""int8 with ranges from calibration data: onnxruntime's own quantizer, which marks tensors with QuantizeLinear and
DequantizeLinear, and which its runtime turns into int8 kernels.

Activations are uint8 and weights int8, with a scale for each channel: with int8 activations the kernels were slow.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType, TensorsData

from keraship.exporter import onnx_check
from keraship.exporter.onnx_weights import Holder

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]

OPS = frozenset({"Conv", "MatMul", "Gemm"})
"""The operations with weights that run in 8 bits."""

BETWEEN = (
    "Relu",
    "Clip",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "Add",
    "Concat",
    "Reshape",
    "Transpose",
    "Flatten",
)
"""What may stand between them, and keeps to 8 bits where its neighbours do."""

_ROWS = 32  # run at once


def ranges(model: Any, calibration: Arrays) -> Any:
    """The smallest and the largest value of every float tensor over the calibration rows, in onnxruntime's form.

    Minimum and maximum of all, not a percentile: on trained networks clipping cost more than it gained.
    """
    inferred = onnx.shape_inference.infer_shapes(model)
    wanted = [name for name, dtype in _types(inferred.graph).items() if dtype == TensorProto.FLOAT]
    observed = onnx.ModelProto()
    observed.CopyFrom(model)
    outputs = {value.name for value in observed.graph.output}
    observed.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in wanted if name not in outputs
    )
    session = onnx_check.session(observed, optimize=False)
    found: dict[str, tuple[Array, Array]] = {}
    for rows in _parts(calibration, onnx_check.rows_at_once(model, 0)):
        for name, array in zip(wanted, onnx_check.run(session, wanted, rows), strict=True):
            _widen(found, name, array)
    for name, array in calibration.items():
        if array.dtype == np.float32:
            _widen(found, name, array)
    return TensorsData(CalibrationMethod.MinMax, found)


def build(model: Any, chosen: Sequence[Holder], tensors_range: Any) -> Any:
    """The model with `chosen` in 8 bits, and what stands between them."""
    inferred = onnx.shape_inference.infer_shapes(model)
    names = {holder.node for holder in chosen}
    weighty = {node.name for node in model.graph.node if node.op_type in OPS}
    with _quiet():
        quantizer = QDQQuantizer(
            inferred,
            True,  # a scale for each channel
            False,  # all 8 bits
            QuantType.QInt8,
            QuantType.QUInt8,
            tensors_range,
            [],
            sorted(weighty - names),
            [*sorted(OPS), *BETWEEN],
            {"MatMulConstBOnly": True},
        )
        quantizer.quantize_model()
    return quantizer.model.model


def _types(graph: Any) -> dict[str, int]:
    made = {output for node in graph.node for output in node.output}
    values = (*graph.value_info, *graph.output)
    return {value.name: value.type.tensor_type.elem_type for value in values if value.name in made}


def _parts(calibration: Arrays, fixed: int) -> Iterator[Arrays]:
    """Some rows after others; where the model takes a fixed number, as often as they make it full."""
    count = len(next(iter(calibration.values())))
    size = fixed or _ROWS
    for start in range(0, count - fixed + 1 if fixed else count, size):
        yield {name: array[start : start + size] for name, array in calibration.items()}


def _widen(found: dict[str, tuple[Array, Array]], name: str, array: Array) -> None:
    array = array[np.isfinite(array)]  # 8 bits hold no infinity, and no scale comes of one
    if not array.size:
        return
    low, high = np.float32(array.min()), np.float32(array.max())
    before = found.get(name, (low, high))
    found[name] = np.minimum(before[0], low), np.maximum(before[1], high)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """It logs what it leaves alone, which the coverage says."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
