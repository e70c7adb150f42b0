"""The cells of the matrix: what they are, what makes one green, and the file in which they are kept."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

STATE = Path(__file__).parent.parent / "build/matrix/cells.jsonl"

COLUMNS = {
    "SavedModel": ("saved_model", ""),
    "int8": ("saved_model", "int8"),
    "weight-only": ("saved_model", "weight_only"),
    "float16": ("saved_model", "float16"),
    "ONNX": ("onnx", ""),
    "ONNX int8": ("onnx", "int8"),
    "TFLite": ("tflite", ""),
}
"""Column -> format and scheme of the exporter."""

MAX_ERRORS = {"float16": 0.01, "weight_only": 0.1, "int8": 0.2}
"""The error that each scheme may cause: the limits of the exporter's own gate (exporter/gate.py says why these).

Weights here are random, where neighbouring classes lie closer and errors weigh more than in a trained network; what is
found is thus no verdict on accuracy. What passes is still the model: a wrong kernel, scale or axis gives 1 and more.
"""

MIN_AGREEMENT = {"float16": 0.95, "weight_only": 0.9, "int8": 0.8}
"""The share of integers, flags and words that must be the same. Scores of random weights are close to each other, and
a difference of the size above turns the class in so many rows."""

CLOSE = 0.02
"""Integers of a quantized artifact count as the same within this share of the largest: pixels are quantities."""

Verdict = Literal["green", "refused", "FAILED", "WRONG"]


@dataclass(frozen=True)
class Cell:
    """One artifact of one model.

    verdict: green; refused, by a sentence that names the layer or the operation; FAILED, where the exporter broke or
    refused without such a name; WRONG, where it would have published what does not answer as the model does.
    error: the root mean square error over that of the Keras model's answers, on rows that the exporter has not seen.
    agreement: the share of rows with the same top class. bytes: the artifact's file. milliseconds: the median at one
    row, in a process that holds only the runtime. ratio: to the float artifact of the same format.
    seconds: to make and check it.
    """

    model: str
    column: str
    verdict: Verdict
    reason: str = ""
    error: float | None = None
    agreement: float | None = None
    bytes: int | None = None
    milliseconds: float | None = None
    ratio: float | None = None
    seconds: float = 0.0

    def short(self) -> str:
        """For a line of progress."""
        if self.verdict != "green":
            return self.reason
        return f"{self.error:.1e}  {(self.bytes or 0) / 1e6:.2f} MB  {self.milliseconds or 0:.2f} ms"


def latest() -> dict[tuple[str, str], Cell]:
    """What was found, the last run of each cell."""
    if not STATE.exists():
        return {}
    cells = [Cell(**json.loads(line)) for line in STATE.read_text().splitlines()]
    return {(cell.model, cell.column): cell for cell in cells}
