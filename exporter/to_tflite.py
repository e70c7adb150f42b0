"""A frozen graph to a TFLite model that needs nothing but TFLite's own operations.

TensorFlow's converter names tensors after what it is given; it is given the canonical graph, so that the same model
gives the same bytes.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from keraship import dtypes
from keraship.errors import ExportError
from keraship.exporter.freeze import Frozen
from keraship.exporter.layer_names import layer_of
from keraship.quiet import stderr_held_back
from keraship.reasons import reason

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]

_ROWS = 256  # of the calibration data; the converter asks for them one by one
_OP = re.compile(r"\btf\.([A-Z]\w*)")


def to_tflite(frozen: Frozen, scheme: str = "", *, calibration: Arrays | None = None) -> bytes:
    """A TFLite model whose signature serving_default has the names of the frozen graph's; sizes that are open stay so.

    scheme: "" for float; "float16": weights in 16 bits; "dynamic": weights in 8 bits, activations as they come; "int8":
    both in 8 bits, inputs and outputs float, which needs calibration: rows by input name.
    Raises ExportError for what it can't be given, and for operations that TFLite has not, with their layers.
    """
    configure = _SCHEMES.get(scheme)
    if configure is None:
        raise ExportError(f"expected a scheme out of {', '.join(filter(None, _SCHEMES))}; got {scheme!r}")
    if scheme == "int8" and not calibration:
        raise ExportError("int8 takes the ranges of activations from data; give some: --calibrate DATA")
    _check(frozen)
    module, function = _function(frozen.canonical())
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], module)
    configure(converter, calibration or {})
    try:
        with warnings.catch_warnings(), stderr_held_back(shown_after_errors=False):
            warnings.simplefilter("ignore")  # the converter's advice to its own developers
            return bytes(converter.convert())
    except Exception as error:  # the converter's own, and whatever the code below it raises
        raise _refusal(frozen, error) from error


def _float(_converter: Any, _calibration: Arrays) -> None:
    return


def _smaller(converter: Any, _calibration: Arrays) -> None:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]


def _half(converter: Any, calibration: Arrays) -> None:
    _smaller(converter, calibration)
    converter.target_spec.supported_types = [tf.float16]


def _integer(converter: Any, calibration: Arrays) -> None:
    _smaller(converter, calibration)
    converter.representative_dataset = lambda: _single_rows(calibration)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.lite.OpsSet.TFLITE_BUILTINS]


_SCHEMES: dict[str, Callable[[Any, Arrays], None]] = {
    "": _float,
    "int8": _integer,
    "dynamic": _smaller,
    "float16": _half,
}


def _single_rows(calibration: Arrays) -> Iterator[Arrays]:
    count = min(_ROWS, len(next(iter(calibration.values()))))
    for row in range(count):
        yield {name: array[row : row + 1] for name, array in calibration.items()}


def _check(frozen: Frozen) -> None:
    """What the converter would take, and the interpreter refuse or answer wrongly."""
    text = [spec.name for spec in frozen.signature.inputs + frozen.signature.outputs if spec.dtype == "string"]
    if text or frozen.init:
        what = f"takes or gives text ({', '.join(text)})" if text else "looks numbers or text up in a table"
        raise ExportError(
            f"the model {what}, and a TFLite artifact holds arithmetic alone; export the whole model with --formats "
            "saved_model, or the part behind that, keras.Model(the outputs of those layers, model.outputs)"
        )


def _function(frozen: Frozen) -> tuple[Any, Any]:
    """The graph as a concrete function with the signature's names, and the module that keeps it alive."""
    inputs, outputs = frozen.signature.inputs, frozen.signature.outputs

    def serve(*tensors: Any) -> dict[str, Any]:
        results = tf.graph_util.import_graph_def(
            frozen.graph,
            input_map={spec.tensor: tensor for spec, tensor in zip(inputs, tensors, strict=True)},
            return_elements=[spec.tensor for spec in outputs],
            name="",
        )
        return {spec.name: result for spec, result in zip(outputs, results, strict=True)}

    specs = [tf.TensorSpec(spec.shape, dtypes.by_name(spec.dtype).number, name=spec.name) for spec in inputs]
    module = tf.Module()
    module.serve = tf.function(serve, input_signature=specs, autograph=False)
    return module, module.serve.get_concrete_function()


def _refusal(frozen: Frozen, error: Exception) -> ExportError:
    """What the converter says, with the layers that it does not know."""
    missing = set(_OP.findall(str(error)))
    nodes = [*frozen.graph.node, *(node for function in frozen.graph.library.function for node in function.node_def)]
    places: dict[str, set[str]] = {}
    for node in nodes:
        if node.op in missing:
            places.setdefault(_place(node.name), set()).add(node.op)
    if not places:
        return ExportError(
            f"the model cannot be converted to TFLite ({type(error).__name__}: {reason(error)}); leave tflite out"
        )
    said = "; ".join(f"{', '.join(sorted(ops))} in {place}" for place, ops in sorted(places.items()))
    return ExportError(f"the model has operations that TFLite has not by itself: {said}; {_remedy(missing)}")


def _place(node: str) -> str:
    layer = layer_of(node)
    return "the model's own code" if layer == node else f"the layer {layer!r}"


def _remedy(missing: set[str]) -> str:
    if any(op.startswith("TensorList") for op in missing):
        return "a recurrent layer needs sequences of one length and unroll=True, or leave tflite out"
    return "leave tflite out, or make these layers of other operations"
