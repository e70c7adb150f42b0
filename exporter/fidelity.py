"""How true an artifact is to the Keras model on the user's data: agreement, error, and quality by its labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from keraship.bundle import Drop, Quality
from keraship.exporter import quality, scores
from keraship.exporter.curves import precision_recall
from keraship.exporter.outcome import Curve
from keraship.exporter.scores import Scores

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]


@dataclass(frozen=True)
class Reference:
    """The Keras model's answers to the data, and the labels that it should have given, if there are any."""

    outputs: Arrays
    labels: Array | None = None

    @property
    def quality(self) -> Quality | None:
        """The Keras model's own quality; None where there are no labels for it."""
        own = self.scores
        return None if own is None else scores.summary(own)

    def curves(self, outputs: Arrays | None = None) -> tuple[Curve, ...]:
        """Precision-recall curves of the Keras model, or of other answers to the same data, of the same classes."""
        if self.labels is None:
            return ()
        own = precision_recall(self.outputs, self.labels)
        return own if outputs is None or not own else precision_recall(outputs, self.labels, like=own)

    @property
    def scores(self) -> Scores | None:
        """How good each row is; None where there are no labels that the outputs can be judged by."""
        return None if self.labels is None else scores.score(self.outputs, self.labels)


@dataclass(frozen=True)
class Fidelity:
    """What `measure` found.

    agreement: the smallest share of rows with the same top-1 class, over the outputs that have classes; None without.
    error: the root mean square of the difference over that of the reference, of the output where it is largest.
    quality, drop: where the data has labels for the model.
    """

    rows: int
    agreement: float | None
    error: float
    quality: Quality | None = None
    drop: Drop | None = None


def measure(reference: Reference, answers: Arrays) -> Fidelity:
    """Compare answers, arrays by output name of the reference's shapes, with the reference."""
    agreements = [
        _agreement(array, answers[name]) for name, array in reference.outputs.items() if quality.has_classes(array)
    ]
    before, after = reference.scores, Reference(answers, reference.labels).scores
    judged = before is not None and after is not None and before.metric == after.metric
    return Fidelity(
        rows=len(next(iter(reference.outputs.values()))),
        agreement=min(agreements, default=None),
        error=max((relative_error(array, answers[name]) for name, array in reference.outputs.items()), default=0.0),
        quality=scores.summary(after) if after is not None else None,
        drop=scores.drop(before, after) if judged and before is not None and after is not None else None,
    )


def relative_error(expected: Array, got: Array) -> float:
    """The root mean square of the difference over that of `expected`; of texts the share that differs."""
    if expected.dtype.kind in "OSUb":
        return float(np.mean(expected != got)) if expected.size else 0.0
    wide = complex if expected.dtype.kind == "c" else float
    left, right = expected.astype(wide), got.astype(wide)
    finite = np.isfinite(left)
    if not np.array_equal(finite, np.isfinite(right)):
        return float("inf")
    size = _rms(left[finite])
    return _rms(left[finite] - right[finite]) / (size or 1.0)


def _rms(array: Array) -> float:
    return float(np.sqrt(np.mean(np.abs(array) ** 2))) if array.size else 0.0


def _agreement(expected: Array, got: Array) -> float:
    return float(np.mean(_top(expected) == _top(got)))


def _top(scores: Array) -> Array:
    return np.asarray(scores.astype(np.float32).argmax(axis=1))
