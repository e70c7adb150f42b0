"""How good a classifier is: curves, areas, confusions and calibration, by scikit-learn's definitions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from keraship.errors import DataError
from keraship.models.estimates import Estimate, Ranking, bootstrap, mean_of_finite, share
from keraship.models.predictions import Predictions

Array = np.ndarray[Any, Any]

BINS = 10
_SUM_TOLERANCE = 0.02  # quantized models' softmax adds up to 1 no better


@dataclass(frozen=True, eq=False)
class Curve:
    """A curve by its points, float64: recall to precision, or false to true positive rate."""

    x: Array
    y: Array


@dataclass(frozen=True, eq=False)
class ClassScores:
    """One class against the rest.

    positives: its rows. recall: the share of them that was found; precision: the share of what was taken for it that is
    of it, None where nothing was. average_precision and auc: the areas under the two curves, as scikit-learn has them.
    """

    name: str
    positives: int
    precision: float | None
    recall: float
    f1: float
    average_precision: Estimate
    auc: Estimate
    precision_recall: Curve
    roc: Curve


@dataclass(frozen=True)
class Bin:
    """The rows whose highest score is in (low, high]: their number, its mean, and the share that is right."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: Estimate


@dataclass(frozen=True)
class Calibration:
    """Whether the highest score is the chance to be right.

    bins: those that have rows. error: the expected calibration error, the mean of |confidence - accuracy| over rows.
    Source: Guo et al., On Calibration of Modern Neural Networks (2017).
    """

    error: float
    bins: tuple[Bin, ...]


@dataclass(frozen=True, eq=False)
class ClassificationScores:
    """All of it.

    metrics: the headlines by name. per_class: the classes that have rows; left_out: the names of the others.
    confusion: int64 [classes, classes], truth by row, answer by column. calibration: None for scores that are no
    probabilities, which do not add up to 1.
    """

    metrics: dict[str, Estimate]
    per_class: tuple[ClassScores, ...]
    left_out: tuple[str, ...]
    confusion: Array
    calibration: Calibration | None
    micro_precision_recall: Curve
    micro_roc: Curve


def classification_scores(predictions: Predictions, *, seed: int = 0) -> ClassificationScores:
    """Judge a classifier; seed: decides the resamples, and with them the last digits of the intervals.

    Raises DataError where the rows are all of one class: no curve can be drawn of them.
    """
    truth, scores = predictions.y_true, predictions.y_pred
    counts = np.bincount(truth, minlength=scores.shape[1])
    present = [int(number) for number in np.flatnonzero(counts)]
    if len(present) < 2:
        raise DataError(
            f"expected rows of two classes or more, to tell one from another; "
            f"all {len(truth)} are of class {predictions.classes[present[0]]!r}"
        )
    confusion = _confusion(predictions)
    areas = _areas(predictions, present, seed)
    calibrated = _calibration(predictions) if _are_probabilities(scores) else None
    return ClassificationScores(
        metrics={"accuracy": share(int(np.trace(confusion)), len(truth)), **_headlines(areas)},
        per_class=tuple(_class_scores(predictions, number, confusion, areas) for number in present),
        left_out=tuple(name for name, count in zip(predictions.classes, counts, strict=True) if not count),
        confusion=confusion,
        calibration=calibrated,
        micro_precision_recall=_precision_recall(*_flat(predictions)),
        micro_roc=_roc(*_flat(predictions)),
    )


def _headlines(areas: dict[Any, Estimate]) -> dict[str, Estimate]:
    return {name: areas[name] for name in _AVERAGES}


_AVERAGES = ("average_precision_macro", "average_precision_micro", "auc_macro", "auc_micro")


def _areas(predictions: Predictions, present: list[int], seed: int) -> dict[Any, Estimate]:
    """Average precision and AUC by ("average_precision" or "auc", class), and their averages by name.

    macro: the mean over the classes that have rows. micro: of all rows and classes taken as one.
    """
    truth, scores = predictions.y_true, predictions.y_pred
    rankings = [Ranking(truth == number, scores[:, number]) for number in present]
    flat = Ranking(*_flat(predictions))
    classes = scores.shape[1]

    def statistic(weights: Array) -> Array:
        pairs = [ranking.areas(weights) for ranking in rankings]
        precision, auc = (np.stack(side, axis=1) for side in zip(*pairs, strict=True))  # [resamples, present]
        micro_precision, micro_auc = flat.areas(np.repeat(weights, classes, axis=1))
        averages = mean_of_finite(precision), micro_precision, mean_of_finite(auc), micro_auc
        return np.column_stack([precision, auc, *averages])

    names = [(kind, number) for kind in ("average_precision", "auc") for number in present]
    values = _exact_areas(predictions, present)
    intervals = bootstrap(statistic, len(truth), seed=seed, width=classes)
    keys = (*names, *_AVERAGES)
    return {key: Estimate(values[key], *interval) for key, interval in zip(keys, intervals, strict=True)}


def _exact_areas(predictions: Predictions, present: list[int]) -> dict[Any, float]:
    """On the data itself, scikit-learn's own."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    found: dict[Any, float] = {}
    for kind, score in (("average_precision", average_precision_score), ("auc", roc_auc_score)):
        each: dict[Any, float] = {
            (kind, n): float(score(predictions.y_true == n, predictions.y_pred[:, n])) for n in present
        }
        micro = float(score(*_flat(predictions)))
        found |= {**each, f"{kind}_macro": float(np.mean(list(each.values()))), f"{kind}_micro": micro}
    return found


def _flat(predictions: Predictions) -> tuple[Array, Array]:
    """Every row and class as a row of its own: whether it is so, and the score."""
    classes = np.arange(predictions.y_pred.shape[1])
    return (predictions.y_true[:, np.newaxis] == classes).ravel(), predictions.y_pred.ravel()


def _class_scores(predictions: Predictions, number: int, confusion: Array, areas: dict[Any, Estimate]) -> ClassScores:
    positive, scores = predictions.y_true == number, predictions.y_pred[:, number]
    hits, positives, taken = confusion[number, number], confusion[number].sum(), confusion[:, number].sum()
    return ClassScores(
        name=predictions.classes[number],
        positives=int(positives),
        precision=float(hits / taken) if taken else None,
        recall=float(hits / positives),
        f1=float(2 * hits / (positives + taken)),
        average_precision=areas["average_precision", number],
        auc=areas["auc", number],
        precision_recall=_precision_recall(positive, scores),
        roc=_roc(positive, scores),
    )


def _precision_recall(positive: Array, scores: Array) -> Curve:
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(positive, scores)
    return Curve(recall, precision)


def _roc(positive: Array, scores: Array) -> Curve:
    from sklearn.metrics import roc_curve

    false_rate, true_rate, _ = roc_curve(positive, scores)
    return Curve(false_rate, true_rate)


def _confusion(predictions: Predictions) -> Array:
    from sklearn.metrics import confusion_matrix

    labels = np.arange(len(predictions.classes))
    return np.asarray(confusion_matrix(predictions.y_true, predictions.top1, labels=labels))


def _are_probabilities(scores: Array) -> bool:
    in_range = scores.min() >= 0 and scores.max() <= 1 + _SUM_TOLERANCE
    return bool(in_range and np.abs(scores.sum(axis=1) - 1).max() <= _SUM_TOLERANCE)


def _calibration(predictions: Predictions) -> Calibration:
    confidence = np.clip(predictions.y_pred.max(axis=1).astype(np.float64), 0, 1)
    right = predictions.top1 == predictions.y_true
    edges = np.linspace(0, 1, BINS + 1)
    member = np.searchsorted(edges[1:-1], confidence)  # the bins of sklearn.calibration.calibration_curve
    bins = tuple(
        _bin(edges[number], edges[number + 1], confidence[member == number], right[member == number])
        for number in np.unique(member)
    )
    gaps = sum(each.count * abs(each.confidence - each.accuracy.value) for each in bins)
    return Calibration(gaps / len(predictions), bins)


def _bin(low: float, high: float, confidence: Array, right: Array) -> Bin:
    return Bin(float(low), float(high), len(right), float(confidence.mean()), share(int(right.sum()), len(right)))
