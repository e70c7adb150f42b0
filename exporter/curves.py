"""Precision-recall curves of a classifier's answers, by scikit-learn's definition, with numpy alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keraship.exporter import quality
from keraship.exporter.outcome import Curve

Array = np.ndarray[Any, Any]

ALL = "all classes"
"""The name of the curve of all decisions, class by class and row by row, taken as one class (micro average)."""

_CLASSES = 8  # more small pictures than these nobody looks at
_POINTS = 100  # of a stored curve; its area is that of all points


def precision_recall(outputs: Mapping[str, Array], labels: Array, *, like: Sequence[Curve] = ()) -> tuple[Curve, ...]:
    """The curve of all classes, then of those with the least average precision, by the first output that has classes.

    outputs, labels: as `quality.correct` takes them. like: other curves of the same labels, whose classes are taken
    instead. Nothing where no output fits the labels.
    """
    for scores in outputs.values():
        truth = quality.true_classes(labels, scores)
        if truth is not None:
            columns = _columns(scores)
            wanted = [int(curve.name) for curve in like if curve.name != ALL] or None
            return _curves(columns, truth[:, np.newaxis] == np.asarray(sorted(columns)), wanted)
    return ()


def _columns(scores: Array) -> dict[int, Array]:
    """The scores of each class, float64 (rows,); of one probability, those of class 1."""
    if quality.has_classes(scores):
        wide = np.nan_to_num(scores.astype(np.float64), nan=-np.inf, posinf=np.inf, neginf=-np.inf)
        return {index: wide[:, index] for index in range(wide.shape[1])}
    return {1: scores.astype(np.float64).reshape(-1)}


def _curves(columns: Mapping[int, Array], truth: Array, wanted: Sequence[int] | None) -> tuple[Curve, ...]:
    """truth: bool (rows, classes)."""
    each = [_curve(str(number), truth[:, index], columns[number]) for index, number in enumerate(columns)]
    have = [curve for curve in each if curve.positives]
    if len(columns) == 1:
        return tuple(have)
    if wanted is None:
        wanted = [int(curve.name) for curve in sorted(have, key=lambda curve: curve.average_precision)[:_CLASSES]]
    total = _curve(ALL, truth.reshape(-1), np.stack(list(columns.values()), axis=1).reshape(-1))
    return (total, *(curve for number in wanted for curve in have if curve.name == str(number)))


def _curve(name: str, truth: Array, scores: Array) -> Curve:
    """One class; truth: bool (rows,), scores: float64 (rows,)."""
    positives = int(truth.sum())
    if not positives:
        return Curve(name, 0, 0.0, (), ())
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(scores[order][1:] != scores[order][:-1]), len(scores) - 1)  # of equal scores
    found = np.cumsum(truth[order])[last]
    recall, precision = found / positives, found / (last + 1)
    area = float(np.sum(np.diff(recall, prepend=0.0) * precision))
    kept = _thinned(recall)
    return Curve(name, positives, area, _plain(recall[kept]), _plain(precision[kept]))


def _thinned(recall: Array) -> Array:
    """The indices of points to keep: the last at or before each of some values of recall, the first and the last."""
    steps = np.searchsorted(recall, np.linspace(0, 1, _POINTS), side="right") - 1
    return np.unique(np.clip([0, *steps, len(recall) - 1], 0, None))


def _plain(array: Array) -> tuple[float, ...]:
    """Four digits are more than a picture shows, and half of a file's size."""
    return tuple(np.round(array, 4).tolist())
