"""Truth and scores, row by row: the answers of one model beside what they should have been, never out of step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from keraship.errors import DataError
from keraship.models.rows import Rows

Array = np.ndarray[Any, Any]

Ask = Callable[[Any], Any]
"""Inputs (an array, or arrays by name) of so many rows to scores, a row for each."""

_MIN_CLASSES = 2


@dataclass(frozen=True, eq=False)
class Predictions:
    """What is true and what a model said, of the same rows in the same order.

    y_true: class numbers, int64 [n], or masks of them, int64 [n, height, width]; given as whole numbers of any type,
    with or without a last axis of 1, or one-hot.
    y_pred: scores, float32 or float64 [n, classes] or [n, height, width, classes]; one score from 0 to 1 for each row
    (or pixel), as a sigmoid gives it, is taken for that of class 1 of two.
    classes: their names; the numbers where none are given. source: what the scores are of.
    Raises DataError where the two cannot be of the same rows, a label is no class, or a score is no finite number.
    """

    y_true: Array
    y_pred: Array
    classes: tuple[str, ...] = ()
    source: str = "the model"

    def __post_init__(self) -> None:
        scores = _scores(np.asarray(self.y_pred), self.source)
        truth = _truth(np.asarray(self.y_true), scores, self.source)
        names = tuple(self.classes) or tuple(str(number) for number in range(scores.shape[-1]))
        if len(names) != scores.shape[-1]:
            raise DataError(
                f"expected scores of the data's {len(names)} classes ({_shortened(names)}); "
                f"{self.source} gives {scores.shape[-1]}"
            )
        _check_range(truth, names, self.source)
        for field, value in {"y_true": truth, "y_pred": scores, "classes": names}.items():
            object.__setattr__(self, field, value)

    def __len__(self) -> int:
        return len(self.y_true)

    @property
    def top1(self) -> Array:
        """The class with the highest score, the first of equals: int64, of y_true's shape."""
        return np.asarray(self.y_pred.argmax(axis=-1))

    @property
    def is_segmentation(self) -> bool:
        """Whether y_true is masks: a class for every pixel."""
        return self.y_true.ndim > 1


def predict_with_y_true(
    ask: Ask, batches: Iterable[tuple[Any, Any]], *, classes: tuple[str, ...] = (), source: str = "the model"
) -> Predictions:
    """Ask for the scores of every batch, and keep its targets beside them.

    batches: pairs of inputs and targets, gone through once, so that the truth is of the rows that were asked even where
    their order is drawn at random: a tf.data.Dataset, the items of a PyDataset, or `in_order(rows)`.
    Raises DataError where an answer has not one row for each row of its batch.
    """
    truth, scores = [], []
    for inputs, targets in batches:
        expected, given = np.array(targets), np.asarray(ask(inputs))
        if not given.shape or len(given) != len(expected):
            raise DataError(
                f"expected scores for each of a batch's {len(expected)} rows; {source} gave shape {list(given.shape)}"
            )
        truth.append(expected)
        scores.append(given)
    if not truth:
        raise DataError("expected at least one row of data to evaluate on; got none")
    return Predictions(_joined(truth, "labels"), _joined(scores, "scores"), classes, source)


def in_order(rows: Rows, *, batch_size: int) -> Iterator[tuple[Any, Array]]:
    """All rows in the order of their numbers, `batch_size` at a time: no more are in memory for it."""
    for start in range(0, len(rows), batch_size):
        yield rows.fetch(np.arange(start, min(start + batch_size, len(rows))))


def _scores(scores: Array, source: str) -> Array:
    if scores.dtype.kind not in "fVbiu":
        raise DataError(f"expected scores as numbers; {source} gives {scores.dtype}")
    scores = scores.astype(scores.dtype if scores.dtype == np.float64 else np.float32)
    if scores.size == 0:
        raise DataError(f"expected scores; {source} gives none, in shape {list(scores.shape)}")
    _check_finite(scores, source)
    if scores.ndim == 1:
        scores = scores[:, np.newaxis]
    return scores if scores.shape[-1] >= _MIN_CLASSES else _of_two_classes(scores, source)


def _check_finite(scores: Array, source: str) -> None:
    wrong = np.argwhere(~np.isfinite(scores))
    if len(wrong):
        at = tuple(wrong[0])
        raise DataError(f"expected finite scores; {source} gives {scores[at]} in row {at[0]}")


def _of_two_classes(scores: Array, source: str) -> Array:
    if scores.min() < 0 or scores.max() > 1:
        raise DataError(
            f"expected scores of two classes or more, or one from 0 to 1; {source} gives one of "
            f"{scores.min():.4g} to {scores.max():.4g}"
        )
    return np.concatenate([1 - scores, scores], axis=-1)


def _truth(labels: Array, scores: Array, source: str) -> Array:
    """int64, with a class for each of the rows (or pixels) of `scores`."""
    if labels.shape == scores.shape and _is_one_hot(labels):
        return np.asarray(labels.argmax(axis=-1))
    if labels.shape == (*scores.shape[:-1], 1):
        labels = labels[..., 0]
    if labels.shape != scores.shape[:-1]:
        raise DataError(
            f"expected labels of shape {list(scores.shape[:-1])} (or one-hot, {list(scores.shape)}) for the scores of "
            f"{source}; got {list(labels.shape)}"
        )
    if labels.dtype.kind not in "biuf" or not np.array_equal(labels, np.round(labels)):
        raise DataError(f"expected labels as class numbers, 0, 1, 2 ...; got {labels.dtype} such as {labels.flat[0]!r}")
    return labels.astype(np.int64)


def _is_one_hot(labels: Array) -> bool:
    if labels.dtype.kind not in "biuf":
        return False
    return bool(np.isin(labels, (0, 1)).all() and (labels.sum(axis=-1) == 1).all())


def _check_range(truth: Array, names: tuple[str, ...], source: str) -> None:
    wrong = np.argwhere((truth < 0) | (truth >= len(names)))
    if len(wrong):
        at = tuple(wrong[0])
        raise DataError(
            f"expected labels from 0 to {len(names) - 1}, the {len(names)} classes of {source}; "
            f"got {truth[at]} in row {at[0]} ({len(wrong)} of {truth.size} labels are outside)"
        )


def _joined(parts: list[Array], what: str) -> Array:
    try:
        return np.concatenate(parts)
    except ValueError as error:
        shapes = sorted({str(list(part.shape[1:])) for part in parts})
        raise DataError(f"expected {what} of one shape; got rows of {' and '.join(shapes)}") from error


def _shortened(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
