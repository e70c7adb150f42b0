"""What a frozen graph can be written as: formats, and the schemes that quantize each, in one table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keraship import bundle
from keraship.bundle import Coverage
from keraship.exporter import golden

if TYPE_CHECKING:
    from keraship.exporter.freeze import Frozen

OPSET = 18
"""Of the ONNX standard: old enough for the runtimes in use, new enough for Keras' operations."""


@dataclass(frozen=True)
class Material:
    """What artifacts are made of.

    frozen: the folded graph. name: the model's, without a scheme. inputs: the golden samples. calibration: rows of the
    user's data, for schemes that need some. report: called with what is being done.
    """

    frozen: Frozen
    name: str
    inputs: golden.Arrays
    calibration: golden.Arrays | None
    report: Callable[[str], None]

    @cached_property
    def onnx(self) -> Any:
        """The float model as an ONNX ModelProto, converted once."""
        from keraship.exporter.to_onnx import to_onnx

        return to_onnx(self.frozen, opset=OPSET)


Write = Callable[[Material, str, Path, Sequence[str]], Coverage | None]
"""Write an artifact of a scheme ("" for float) into a folder, these layers in float; its coverage where quantized."""


@dataclass(frozen=True)
class Format:
    """A way to write a frozen graph: the function, the schemes it knows, the files it may make, what it needs."""

    write: Write
    schemes: tuple[str, ...]
    files: tuple[str, ...]
    packages: tuple[str, ...]
    opset: int | None = None


def _saved_model(material: Material, scheme: str, folder: Path, keep_float: Sequence[str]) -> Coverage | None:
    from keraship.exporter.quantize import quantize
    from keraship.exporter.savedmodel import write_saved_model
    from keraship.exporter.warmup import write_warmup

    frozen, coverage = material.frozen, None
    if scheme:
        quantized = quantize(
            frozen, scheme, calibration=material.calibration, keep_float=keep_float, report=material.report
        )
        frozen, coverage = quantized.frozen, quantized.coverage
    write_saved_model(frozen, folder)
    inputs = material.inputs
    batches = [golden.rows(inputs, 0, 1), inputs] if golden.is_batchable(frozen.signature) else [inputs]
    write_warmup(folder, model_name(material.name, scheme), frozen.signature, batches)
    return coverage


def _onnx(material: Material, scheme: str, folder: Path, keep_float: Sequence[str]) -> Coverage | None:
    from keraship.exporter.onnx_file import write_onnx

    if not scheme:
        write_onnx(material.onnx, folder)
        return None
    from keraship.exporter.onnx_quantize import quantize_onnx

    quantized = quantize_onnx(
        material.onnx, scheme, calibration=material.calibration, keep_float=keep_float, report=material.report
    )
    write_onnx(quantized.model, folder)
    return quantized.coverage


def _tflite(material: Material, scheme: str, folder: Path, _keep_float: Sequence[str]) -> Coverage | None:
    from keraship.exporter.tflite_coverage import coverage
    from keraship.exporter.to_tflite import to_tflite

    model = to_tflite(material.frozen, scheme, calibration=material.calibration)
    (folder / bundle.TFLITE).write_bytes(model)
    return coverage(model) if scheme else None


_NEEDED = ("tensorflow", "keras")

FORMATS = {
    "saved_model": Format(
        _saved_model,
        ("", "int8", "weight_only", "float16"),
        (bundle.SAVED_MODEL, bundle.VARIABLES, bundle.WARMUP),
        (*_NEEDED, "tensorflow_serving"),
    ),
    "onnx": Format(
        _onnx,
        ("", "int8", "weight_only", "float16", "dynamic"),
        (bundle.ONNX, bundle.ONNX_DATA),
        (*_NEEDED, "onnx", "tf2onnx", "onnxruntime"),
        OPSET,
    ),
    "tflite": Format(_tflite, ("", "int8", "float16", "dynamic"), (bundle.TFLITE,), _NEEDED),
}
"""What a model can be exported to."""

DEFAULT_FORMATS = ("saved_model", "onnx")

SCHEMES = ("int8", "weight_only", "float16", "dynamic")
"""How it can be quantized. int8: weights and activations, calibrated on data, computed with in 8 bits. weight_only:
weights stored in 8 bits. float16: weights stored in 16 bits. dynamic: weights in 8 bits, activations as they come."""

CALIBRATED = ("int8",)
"""The schemes that need data to be calibrated on."""


def model_name(name: str, scheme: str) -> str:
    """The name of a model's variant in the repository: each is a model of its own."""
    return f"{name}-{scheme}" if scheme else name
