"""How good each row's answer is, 1 at best; the metric follows from what the outputs and the labels are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from keraship.bundle import Drop, Quality
from keraship.exporter import quality
from keraship.intervals import Z_95, wilson

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Scores:
    """A metric and its value for each row, float64 (rows,); the metric is their mean."""

    metric: str
    values: Array


def score(outputs: Mapping[str, Array], labels: Array) -> Scores | None:
    """The rows' scores by the first metric of METRICS, and the first output, that the labels fit.

    labels: a row for each row of the outputs. None where no metric fits.
    """
    for metric, rate in METRICS.items():
        for output in outputs.values():
            values = rate(output, labels) if len(output) == len(labels) else None
            if values is not None:
                return Scores(metric, values)
    return None


def summary(scores: Scores) -> Quality:
    """The metric with its 95 % interval: Wilson's for a share of rows, else that of a mean."""
    mean, count = float(scores.values.mean()), len(scores.values)
    if scores.metric == "accuracy":
        low, high = wilson(int(scores.values.sum()), count)
    else:
        half = Z_95 * float(scores.values.std()) / math.sqrt(count)
        low, high = mean - half, mean + half
    return Quality(scores.metric, mean, low, high, count)


def drop(before: Scores, after: Scores) -> Drop:
    """How much worse `after` is than `before`, in percentage points, from the same rows put to both.

    The interval is that of a mean of paired differences, which is narrow where few rows change.
    """
    differences = (before.values - after.values) * 100
    half = Z_95 * float(differences.std()) / math.sqrt(len(differences))
    points = float(differences.mean())
    return Drop(points, points - half, points + half)


def _accuracy(output: Array, labels: Array) -> Array | None:
    """Classes: whether the highest score, or a probability beyond .5, is the label's."""
    if labels.shape == output.shape and labels.ndim == 2 and labels.shape[1] > 1 and not _one_hot(labels):
        return None
    right = quality.correct({"": output}, labels)
    return None if right is None else right.astype(float)


def _binary_accuracy(output: Array, labels: Array) -> Array | None:
    """Several labels a row, each 0 or 1: the share of them that a probability is on the right side of .5 for."""
    if labels.shape != output.shape or labels.ndim < 2 or not _floats(output) or not np.isin(labels, (0, 1)).all():
        return None
    return _by_row((output.astype(float) > 0.5) == (labels > 0))


def _pixel_accuracy(output: Array, labels: Array) -> Array | None:
    """Masks of class ids, with or without a last axis of 1: the share of places whose highest score is right."""
    masks = labels[..., 0] if labels.ndim == output.ndim and labels.shape[-1] == 1 else labels
    if masks.ndim < 2 or masks.shape != output.shape[:-1] or masks.dtype.kind not in "iub" or not _floats(output):
        return None
    if masks.min() < 0 or masks.max() >= output.shape[-1]:
        return None
    return _by_row(output.argmax(axis=-1) == masks)


def _d2_absolute_error(output: Array, labels: Array) -> Array | None:
    """Numbers: 1 less the absolute error over that of the labels' median, as scikit-learn's d2_absolute_error_score."""
    if labels.size != output.size or not _floats(output) or labels.dtype.kind not in "iuf":
        return None
    truth, got = (array.astype(float).reshape(len(labels), -1) for array in (labels, output))
    spread = np.abs(truth - np.median(truth, axis=0)).mean(axis=0)
    if not (spread > 0).all() or not np.isfinite(truth).all():
        return None
    return np.asarray((1 - np.abs(truth - got) / spread).mean(axis=1))


METRICS = {
    "accuracy": _accuracy,
    "binary_accuracy": _binary_accuracy,
    "pixel_accuracy": _pixel_accuracy,
    "d2_absolute_error": _d2_absolute_error,
}
"""Name -> the scores of an output's rows, or None where the metric is not for them."""


def _one_hot(labels: Array) -> bool:
    return bool(np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all())


def _floats(array: Array) -> bool:
    return array.dtype.kind in "fV"


def _by_row(right: Array) -> Array:
    return np.asarray(right.reshape(len(right), -1).mean(axis=1))
