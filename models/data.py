"""Labelled images to train on, split into what the model learns from, is chosen by and is judged by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from keraship.errors import DataError
from keraship.extras import require
from keraship.models.choice import choose

Array = np.ndarray[Any, Any]

_TEST_SHARE = 0.2
_VALIDATION_SHARE = 0.2  # with half of it, the best of 30 epochs on digits was too often a lucky one


@dataclass(frozen=True, eq=False)
class Split:
    """Images, float32 [n, height, width, channels] as they were read, and their classes, int64 [n]."""

    images: Array
    labels: Array

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Three splits with no image in common, and the same share of every class in each.

    classes: the name of each label, in the labels' order. maximum: the value of the brightest pixel there can be.
    """

    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    maximum: float

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Height, width and channels."""
        return tuple(self.train.images.shape[1:])


def load(name: str, *, seed: int) -> Dataset:
    """The data set called `name`, one of DATASETS; the same seed gives the same splits.

    Raises TrainingError for a name that is not there, MissingExtra where scikit-learn is not installed.
    """
    return choose("a data set", name, DATASETS)(seed)


def digits(seed: int) -> Dataset:
    """1797 handwritten digits, 8 x 8 pixels of 0 to 16, out of the UCI set that scikit-learn brings."""
    require("train", "sklearn")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = bunch.images.astype(np.float32)[..., np.newaxis]  # [1797, 8, 8, 1]
    classes = tuple(str(name) for name in bunch.target_names)
    return split(Split(images, bunch.target.astype(np.int64)), classes=classes, maximum=16.0, seed=seed)


def split(everything: Split, *, classes: tuple[str, ...], maximum: float, seed: int) -> Dataset:
    """A fifth of the images for the test, a fifth for validation, the rest to train on: drawn class by class.

    Raises DataError where a class has too few images to be in all three.
    """
    rest, test = _draw(everything, _TEST_SHARE, seed)
    train, validation = _draw(rest, _VALIDATION_SHARE / (1 - _TEST_SHARE), seed)
    return Dataset(train, validation, test, classes, maximum)


def _draw(source: Split, share: float, seed: int) -> tuple[Split, Split]:
    """What is left, and a share of the images drawn at random."""
    from sklearn.model_selection import train_test_split

    try:
        left, drawn = train_test_split(
            np.arange(len(source)), test_size=share, stratify=source.labels, random_state=seed
        )
    except ValueError as error:
        raise DataError(f"expected enough images of every class to split them in three: {error}") from error
    return _take(source, left), _take(source, drawn)


def _take(source: Split, rows: Array) -> Split:
    return Split(source.images[rows], source.labels[rows])


DATASETS: dict[str, Callable[[int], Dataset]] = {"digits": digits}
"""Every data set by name: what makes it of a seed."""
