"""How good a model's answers are on data with labels: accuracy, with a 95 % confidence interval."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from keraship.bundle import Drop, Quality
from keraship.errors import DataError
from keraship.intervals import Z_95, wilson

Array = np.ndarray[Any, Any]


def accuracy(right: Array) -> Quality:
    """The share of rows that are right, as `correct` tells it."""
    count = int(right.sum())
    return Quality("accuracy", count / len(right), *wilson(count, len(right)), len(right))


def drop(before: Array, after: Array) -> Drop:
    """How much worse `after` is than `before`, in percentage points, from the same rows put to both.

    The interval is that of a mean of paired differences (each -1, 0 or 1), which is narrow where few rows change.
    """
    differences = (before.astype(float) - after.astype(float)) * 100
    half = Z_95 * float(differences.std()) / math.sqrt(len(differences))
    points = float(differences.mean())
    return Drop(points, points - half, points + half)


def correct(outputs: Mapping[str, Array], labels: Array) -> Array | None:
    """Whether each row's class is its label, bool (rows,), by the first output that has classes for these labels.

    labels: classes as whole numbers, (rows,) or (rows, 1), or one-hot, (rows, classes).
    None where no output fits: labels that are no classes, outputs that are no scores.
    """
    for scores in outputs.values():
        truth = _classes(labels, scores)
        if truth is not None:
            return np.asarray(_predicted(scores) == truth)
    return None


def check_labels(outputs: Mapping[str, Array], labels: Array) -> None:
    """Raise DataError for whole-number labels that no output has a class for; other labels may be of another kind.

    outputs: answers to any number of rows.
    """
    classes = [scores.shape[1] for scores in outputs.values() if has_classes(scores)]
    if not classes or labels.dtype.kind not in "iu" or labels.size != len(labels):
        return
    if labels.min() < 0 or labels.max() >= max(classes):
        raise DataError(
            f"expected labels from 0 to {max(classes) - 1}, the model's classes; "
            f"got labels from {labels.min()} to {labels.max()}"
        )


def has_classes(scores: Array) -> bool:
    """Whether an output is a row of scores for each sample: floats of shape (rows, 2 or more)."""
    return scores.ndim == 2 and scores.shape[1] >= 2 and scores.dtype.kind in "fV"


def _classes(labels: Array, scores: Array) -> Array | None:
    """The labels as class numbers, where `scores` can be judged by them."""
    if len(scores) != len(labels) or not (has_classes(scores) or _is_probability(scores)):
        return None
    if has_classes(scores) and labels.shape == scores.shape:
        return np.asarray(labels.argmax(axis=1))
    flat = labels.reshape(len(labels), -1)
    if flat.shape[1] != 1 or labels.dtype.kind not in "iubf" or not np.array_equal(flat, np.round(flat)):
        return None
    top = scores.shape[1] if has_classes(scores) else 2
    return flat[:, 0].astype(int) if flat.min() >= 0 and flat.max() < top else None


def _predicted(scores: Array) -> Array:
    if has_classes(scores):
        return np.asarray(scores.astype(np.float32).argmax(axis=1))
    return (scores.reshape(len(scores)) > 0.5).astype(int)


def _is_probability(scores: Array) -> bool:
    """One number from 0 to 1 for each row, as a sigmoid gives it."""
    return scores.size == len(scores) and scores.dtype.kind == "f" and bool(np.all((scores >= 0) & (scores <= 1)))
