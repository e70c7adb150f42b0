"""Metrics that hold for pixels as for samples; importing this file registers them, so that saved models load.

All count in one table, targets by predictions, so that many batches give what one gives. What Keras's own metrics of
these names lack, its Precision and Recall too: weights [n] for predictions [n, height, width, ...], masks, exact counts
beyond 2**24, and classes that are nowhere left out of a mean.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import keras
from keras import ops

from keraship.models.alignment import element_weights, holds_ids, mask_of, paired


class _Counting(keras.Metric):  # type: ignore[misc]  # keras has no types
    """The confusion table of everything seen since the last reset: `counts`, float64 [classes, classes].

    A row for each class of the targets, a column for each class of the predictions, summing up weights.
    """

    # Whether more is better; Keras's callbacks ask it where their mode is "auto".
    _direction = "up"
    _default_name = ""

    def __init__(self, num_classes: int, *, name: str | None, dtype: Any) -> None:
        super().__init__(dtype=dtype, name=name or self._default_name)
        self.num_classes = num_classes
        # Not float32: it stops counting at 2**24 pixels.
        self.counts = self.add_variable((num_classes, num_classes), "zeros", dtype="float64", name="counts")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count a batch.

        sample_weight: numbers whose axes are the first of the predictions'; a Keras mask hides what it hides.
        Raises ValueError for shapes that do not fit each other.
        """
        mask = mask_of(y_pred)
        truth, guess = self._ids(ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred))
        weights = element_weights(guess, sample_weight=sample_weight, mask=mask)
        table = _table(truth, guess, self._without_ignored(weights, truth), classes=self.num_classes)
        self.counts.assign(self.counts + table)

    def result(self) -> Any:
        return ops.cast(self._value(ops.convert_to_tensor(self.counts)), self.dtype)

    def _ids(self, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
        """The classes of targets and predictions, int64, both of one shape."""
        raise NotImplementedError

    def _value(self, counts: Any) -> Any:
        """What the table amounts to, a float64."""
        raise NotImplementedError

    def _without_ignored(self, weights: Any, truth: Any) -> Any:
        return weights


class _Overlap(_Counting):
    """How far the regions of each class, in targets and in predictions, overlap; the mean over the classes."""

    def __init__(
        self,
        num_classes: int,
        *,
        class_id: int | None = None,
        ignore_class: int | None = None,
        sparse: bool | None = None,
        threshold: float | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(_class_count(num_classes), name=name, dtype=dtype)
        if class_id is not None and (class_id not in range(num_classes) or class_id == ignore_class):
            raise ValueError(
                f"expected class_id to be a class from 0 to {num_classes - 1}, and not ignore_class; got {class_id!r}"
            )
        if threshold is not None and num_classes != 2:
            raise ValueError(f"expected num_classes=2 where there is a threshold; got num_classes={num_classes!r}")
        self.class_id = class_id
        self.ignore_class = ignore_class
        self.sparse = sparse
        self.threshold = None if threshold is None else _threshold(threshold)

    def per_class(self) -> Any:
        """The score of each class, [num_classes]; NaN for one that is nowhere, or ignored."""
        scores, is_there = self._scores(ops.convert_to_tensor(self.counts))
        return ops.cast(ops.where(is_there, scores, math.nan), self.dtype)

    def get_config(self) -> dict[str, Any]:
        names = ("num_classes", "class_id", "ignore_class", "sparse", "threshold")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    def _fraction(self, both: Any, total: Any) -> tuple[Any, Any]:
        """The score's numerator and denominator, of the weights in both regions and the sum of the regions'."""
        raise NotImplementedError

    def _value(self, counts: Any) -> Any:
        scores, is_there = self._scores(counts)
        if self.class_id is not None:
            return scores[self.class_id]
        return _ratio(ops.sum(scores), ops.sum(ops.cast(is_there, scores.dtype)))

    def _scores(self, counts: Any) -> tuple[Any, Any]:
        """Each class's score, 0 where the class is nowhere or ignored; and which classes are there."""
        total = ops.sum(counts, axis=0) + ops.sum(counts, axis=1)
        above, below = self._fraction(ops.diagonal(counts), total)
        is_there = ops.not_equal(total, 0)
        if self.ignore_class is not None:
            is_there = ops.logical_and(is_there, ops.not_equal(ops.arange(self.num_classes), self.ignore_class))
        return ops.where(is_there, _ratio(above, below), 0.0), is_there

    def _ids(self, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
        guess = self._guess(y_pred)
        if self.threshold is None and not holds_ids(y_true, rank=len(guess.shape), sparse=self.sparse):
            y_true = ops.argmax(paired(y_true, y_pred), axis=-1)
        return paired(ops.cast(y_true, "int64"), guess), guess

    def _guess(self, y_pred: Any) -> Any:
        if self.threshold is not None:
            return ops.cast(_above(y_pred, self.threshold), "int64")
        if y_pred.shape[-1] not in (None, self.num_classes):
            raise ValueError(
                f"expected predictions with num_classes={self.num_classes} on their last axis; got shape "
                f"{tuple(y_pred.shape)}" + ("; for binary networks, give a threshold" if y_pred.shape[-1] == 1 else "")
            )
        return ops.cast(ops.argmax(y_pred, axis=-1), "int64")

    def _without_ignored(self, weights: Any, truth: Any) -> Any:
        if self.ignore_class is None:
            return weights
        return ops.where(ops.equal(truth, self.ignore_class), ops.zeros_like(weights), weights)


@keras.saving.register_keras_serializable(package="keraship")
class IoU(_Overlap):
    """Intersection over union, TP / (TP + FP + FN) of each class; the mean over the classes that are there.

    A class that neither targets nor predictions have is left out of the mean. `per_class()` has each class's own.

    num_classes: how many there are, from 2 on. class_id: gives that class's score instead of the mean.
    ignore_class: the id of targets that do not count ("void", often 255). If it is one of the classes, that class is
    left out of the mean too.
    sparse: whether targets are class ids; None takes it from their shape.
    threshold: for binary networks, whose predictions have no axis of classes: class 1 is what is above it.

    y_pred: scores [n, ..., num_classes]; with a threshold, [n, ...] or [n, ..., 1]. y_true: class ids [n, ...] or
    [n, ..., 1], or one-hot [n, ..., num_classes].
    The result is 0 where nothing was counted, NaN once an id was no class.
    Raises ValueError for arguments and shapes of any other form.

    >>> float(IoU(3)([0, 1], [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]))  # the mean of 1 / 2 and 0 / 1; class 2 is not there
    0.25
    """

    _default_name = "iou"

    def _fraction(self, both: Any, total: Any) -> tuple[Any, Any]:
        return both, total - both


@keras.saving.register_keras_serializable(package="keraship")
class DiceScore(_Overlap):
    """Dice score, 2 TP / (2 TP + FP + FN) of each class, also known as F1; the mean over the classes that are there.

    Arguments, shapes and results are those of IoU.

    >>> float(DiceScore(3)([0, 1], [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]))  # the mean of 2 / 3 and 0
    0.3333333432674408
    """

    _default_name = "dice_score"

    def _fraction(self, both: Any, total: Any) -> tuple[Any, Any]:
        return 2 * both, total


class _Binary(_Counting):
    """What a threshold makes of a binary network's scores, against targets of 0 and 1, every element by itself."""

    def __init__(self, threshold: float = 0.5, *, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(2, name=name, dtype=dtype)
        self.threshold = _threshold(threshold)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "threshold": self.threshold}

    def _ids(self, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
        guess = _above(y_pred, self.threshold)
        truth = _above(paired(y_true, guess), 0.5)
        return ops.cast(truth, "int64"), ops.cast(guess, "int64")


@keras.saving.register_keras_serializable(package="keraship")
class BinaryAccuracy(_Binary):
    """The share of elements on their target's side: of 1 where the score is above `threshold`, of 0 where it is not.

    y_pred: scores of any shape [n, ...]. y_true: 0 and 1 (what is above 0.5 is 1), of the same shape, but for an axis
    of 1 at the end. sample_weight: [n] or more of the axes. The result is 0 where nothing was counted.
    Raises ValueError for a threshold or shapes of any other form.

    >>> float(BinaryAccuracy()([1, 0, 0], [0.9, 0.2, 0.7]))
    0.6666666865348816
    """

    _default_name = "binary_accuracy"

    def _value(self, counts: Any) -> Any:
        return _ratio(counts[0, 0] + counts[1, 1], ops.sum(counts))


@keras.saving.register_keras_serializable(package="keraship")
class Precision(_Binary):
    """The share of right ones among the elements above `threshold`; 0 where none is.

    Shapes are those of BinaryAccuracy.

    >>> float(Precision()([1, 0, 0], [0.9, 0.2, 0.7]))
    0.5
    """

    _default_name = "precision"

    def _value(self, counts: Any) -> Any:
        return _ratio(counts[1, 1], counts[0, 1] + counts[1, 1])


@keras.saving.register_keras_serializable(package="keraship")
class Recall(_Binary):
    """The share of elements above `threshold` among those that should be; 0 where none should.

    Shapes are those of BinaryAccuracy.

    >>> float(Recall()([1, 0, 0], [0.9, 0.2, 0.7]))
    1.0
    """

    _default_name = "recall"

    def _value(self, counts: Any) -> Any:
        return _ratio(counts[1, 1], counts[1, 0] + counts[1, 1])


@keras.saving.register_keras_serializable(package="keraship")
class BinaryTruePositives(_Binary):
    """How many elements, by weight, are above `threshold` and should be. Shapes are those of BinaryAccuracy."""

    _default_name = "binary_true_positives"

    def _value(self, counts: Any) -> Any:
        return counts[1, 1]


@keras.saving.register_keras_serializable(package="keraship")
class BinaryFalsePositives(_Binary):
    """How many elements, by weight, are above `threshold` and should not be. Shapes are those of BinaryAccuracy."""

    _default_name = "binary_false_positives"
    _direction = "down"

    def _value(self, counts: Any) -> Any:
        return counts[0, 1]


@keras.saving.register_keras_serializable(package="keraship")
class BinaryTrueNegatives(_Binary):
    """How many elements, by weight, are not above `threshold` and should not be. Shapes are those of BinaryAccuracy."""

    _default_name = "binary_true_negatives"

    def _value(self, counts: Any) -> Any:
        return counts[0, 0]


@keras.saving.register_keras_serializable(package="keraship")
class BinaryFalseNegatives(_Binary):
    """How many elements, by weight, are not above `threshold` and should be. Shapes are those of BinaryAccuracy."""

    _default_name = "binary_false_negatives"
    _direction = "down"

    def _value(self, counts: Any) -> Any:
        return counts[1, 0]


def _table(truth: Any, guess: Any, weights: Any, *, classes: int) -> Any:
    """The weights summed up by target and prediction, [classes, classes]; NaN if an id that counts is no class."""
    is_class = ops.logical_and(truth >= 0, truth < classes)
    is_fault = ops.any(ops.logical_and(ops.logical_not(is_class), ops.not_equal(weights, 0)))
    cells = ops.where(is_class, truth * classes + guess, ops.zeros_like(truth))
    counted = ops.where(is_class, weights, ops.zeros_like(weights))
    sums = ops.segment_sum(ops.reshape(counted, (-1,)), ops.reshape(cells, (-1,)), num_segments=classes * classes)
    table = ops.reshape(sums, (classes, classes))
    return ops.where(is_fault, ops.full_like(table, math.nan), table)


def _ratio(above: Any, below: Any) -> Any:
    """0 where there is nothing to divide by; NaN stays."""
    is_nothing = ops.equal(below, 0)
    return ops.where(is_nothing, ops.zeros_like(above), above / ops.where(is_nothing, ops.ones_like(below), below))


def _above(values: Any, threshold: float) -> Any:
    """Half precision is compared in float32, where the threshold is what it is said to be."""
    return ops.cast(values, keras.backend.result_type(values.dtype, "float32")) > threshold


def _class_count(value: Any) -> int:
    try:
        count = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        count = 0
    if count < 2:
        raise ValueError(f"expected num_classes to be a whole number from 2 on; got num_classes={value!r}")
    return count


def _threshold(value: Any) -> float:
    if isinstance(value, bool | str) or not math.isfinite(value):
        raise ValueError(f"expected threshold to be a finite number; got threshold={value!r}")
    return float(value)
