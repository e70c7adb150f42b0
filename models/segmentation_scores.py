"""How good a segmentation is: overlap of the answered and the true area of every class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from keraship.models.estimates import Estimate, bootstrap, mean_of_finite
from keraship.models.predictions import Predictions

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class AreaScores:
    """One class: its true pixels, intersection over union, and Dice, 2 * intersection over the sum of both areas."""

    name: str
    pixels: int
    iou: Estimate
    dice: Estimate


@dataclass(frozen=True, eq=False)
class SegmentationScores:
    """All of it.

    metrics: the headlines by name; mean_iou and mean_dice are over the classes that are in the truth or in the answers,
    as in Keras' MeanIoU. Intervals are of a bootstrap over images, for their pixels are not independent; none for one.
    per_class: those classes; one that is answered without being true anywhere has an overlap of 0. left_out: the names
    of the others. confusion: int64 [classes, classes], pixels, truth by row, answer by column.
    """

    metrics: dict[str, Estimate]
    per_class: tuple[AreaScores, ...]
    left_out: tuple[str, ...]
    confusion: Array


def segmentation_scores(predictions: Predictions, *, seed: int = 0) -> SegmentationScores:
    """Judge a segmentation; seed: decides the resamples."""
    classes = len(predictions.classes)
    images = [
        _confusion(truth, answer, classes) for truth, answer in zip(predictions.y_true, predictions.top1, strict=True)
    ]
    # Of every image and class, float64 [images, classes]: pixels in both, in the truth, in the answer.
    sides = [np.stack([count(image) for image in images]).astype(np.float64) for count in _COUNTS]
    everything = np.ones((1, len(images)))
    (values,) = _statistics(everything, sides)
    intervals = bootstrap(lambda weights: _statistics(weights, sides), len(images), seed=seed, width=3 * classes)
    estimates = [Estimate(float(value), *interval) for value, interval in zip(values, intervals, strict=True)]
    accuracy, mean_iou, mean_dice, *each = estimates
    confusion = np.sum(images, axis=0)
    return SegmentationScores(
        metrics={"mean_iou": mean_iou, "mean_dice": mean_dice, "pixel_accuracy": accuracy},
        per_class=tuple(
            AreaScores(name, int(confusion[number].sum()), each[number], each[classes + number])
            for number, name in enumerate(predictions.classes)
            if np.isfinite(each[number].value)
        ),
        left_out=tuple(name for number, name in enumerate(predictions.classes) if not np.isfinite(each[number].value)),
        confusion=confusion,
    )


_COUNTS = (np.diagonal, lambda image: image.sum(axis=1), lambda image: image.sum(axis=0))


def _confusion(truth: Array, answer: Array, classes: int) -> Array:
    """Of one image; scikit-learn's takes a second for a megapixel."""
    return np.bincount(truth.ravel() * classes + answer.ravel(), minlength=classes**2).reshape(classes, classes)


def _statistics(weights: Array, sides: list[Array]) -> Array:
    """Pixel accuracy, mean IoU, mean Dice, then every class's IoU and Dice: [resamples, 3 + 2 * classes]."""
    both, true, answered = (weights @ side for side in sides)
    iou = _share(both, true + answered - both)
    dice = _share(2 * both, true + answered)
    accuracy = both.sum(axis=1) / true.sum(axis=1)
    return np.column_stack([accuracy, mean_of_finite(iou), mean_of_finite(dice), iou, dice])


def _share(part: Array, whole: Array) -> Array:
    """NaN where a class is in neither the truth nor the answers."""
    quotients: Array = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return quotients
