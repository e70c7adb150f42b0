from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from keraship.errors import DataError, TrainingError
from keraship.models.data import Dataset, Split, load, split


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits", seed=0)


def rows(part: Split) -> set[tuple[bytes, int]]:
    return {(image.tobytes(), int(label)) for image, label in zip(part.images, part.labels, strict=True)}


def test_form(digits: Dataset) -> None:
    """Raw float32 images of 0 to 16 with one channel, int64 labels, named classes."""
    for part in (digits.train, digits.validation, digits.test):
        assert part.images.dtype == np.float32
        assert part.images.shape == (len(part), 8, 8, 1)
        assert part.labels.dtype == np.int64
        assert (part.images.min(), part.images.max()) == (0, 16)
    assert digits.image_shape == (8, 8, 1)
    assert digits.maximum == 16
    assert digits.classes == tuple("0123456789")


def test_every_image_is_in_one_split(digits: Dataset) -> None:
    """The three splits together are scikit-learn's digits, each with its own label, and no image is in two."""
    parts = [rows(part) for part in (digits.train, digits.validation, digits.test)]
    source = load_digits()
    everything = rows(Split(source.images.astype(np.float32)[..., None], source.target))
    assert set.union(*parts) == everything
    assert sum(map(len, parts)) == len(everything) == len(digits.train) + len(digits.validation) + len(digits.test)


def test_stratified(digits: Dataset) -> None:
    """Every class has the same share of each split, to within one image."""
    total = np.bincount(load_digits().target)
    for part in (digits.train, digits.validation, digits.test):
        expected = total * len(part) / total.sum()
        assert np.abs(np.bincount(part.labels) - expected).max() <= 1


def test_seed(digits: Dataset) -> None:
    """One seed gives one split; another gives another."""
    again, other = load("digits", seed=0), load("digits", seed=1)
    np.testing.assert_array_equal(digits.train.images, again.train.images)
    np.testing.assert_array_equal(digits.test.labels, again.test.labels)
    assert rows(digits.test) != rows(other.test)


def test_too_few_images() -> None:
    """A class with a single image cannot be in three splits, and that is said."""
    labels = np.array([0] * 50 + [1])
    with pytest.raises(DataError, match="every class"):
        split(Split(np.zeros((51, 8, 8, 1), np.float32), labels), classes=("0", "1"), maximum=1.0, seed=0)


def test_unknown_data_set() -> None:
    """An unknown name is answered with the one that was meant, and the list."""
    with pytest.raises(TrainingError, match=r"out of digits; got 'digit', did you mean 'digits'\?"):
        load("digit", seed=0)
