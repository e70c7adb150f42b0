"""Outputs that are scores of classes, and labels that are classes: which rows are right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from keraship.errors import DataError

Array = np.ndarray[Any, Any]


def correct(outputs: Mapping[str, Array], labels: Array) -> Array | None:
    """Whether each row's class is its label, bool (rows,), by the first output that has classes for these labels.

    labels: classes as whole numbers, (rows,) or (rows, 1), or one-hot, (rows, classes).
    None where no output fits: labels that are no classes, outputs that are no scores.
    """
    for scores in outputs.values():
        truth = true_classes(labels, scores)
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


def true_classes(labels: Array, scores: Array) -> Array | None:
    """The labels as class numbers, int (rows,), where `scores` can be judged by them; else None.

    labels: as `correct` takes them. scores: (rows, classes), or (rows,) or (rows, 1) where they are probabilities.
    """
    if len(scores) != len(labels) or not (has_classes(scores) or _is_probability(scores)):
        return None
    if has_classes(scores) and labels.shape == scores.shape:
        return np.asarray(labels.argmax(axis=1))
    flat = labels.reshape(len(labels), -1)
    if flat.shape[1] != 1 or labels.dtype.kind not in "iubf" or not np.array_equal(flat, np.round(flat)):
        return None
    top = scores.shape[1] if has_classes(scores) else 2
    return flat[:, 0].astype(int) if flat.min() >= 0 and flat.max() < top else None


def has_classes(scores: Array) -> bool:
    """Whether an output is a row of scores for each sample: floats of shape (rows, 2 or more)."""
    return scores.ndim == 2 and scores.shape[1] >= 2 and scores.dtype.kind in "fV"


def _predicted(scores: Array) -> Array:
    if has_classes(scores):
        return np.asarray(scores.astype(np.float32).argmax(axis=1))
    return (scores.reshape(len(scores)) > 0.5).astype(int)


def _is_probability(scores: Array) -> bool:
    """One number from 0 to 1 for each row, as a sigmoid gives it."""
    return scores.size == len(scores) and scores.dtype.kind == "f" and bool(np.all((scores >= 0) & (scores <= 1)))
