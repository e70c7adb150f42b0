from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from keraship.errors import DataError
from keraship.models import task
from keraship.models.data import ArrayRows, Dataset, Rows, fetch_all, load, order, split


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits", seed=0)


def rows(part: Rows) -> set[tuple[bytes, int]]:
    inputs, labels = fetch_all(part)
    return {(image.tobytes(), int(label)) for image, label in zip(inputs["images"], labels, strict=True)}


def test_form(digits: Dataset) -> None:
    """Raw float32 images of 0 to 16 with one channel, int64 labels, named classes."""
    for part in (digits.train, digits.validation, digits.test):
        inputs, labels = fetch_all(part)
        assert inputs["images"].dtype == np.float32
        assert inputs["images"].shape == (len(part), 8, 8, 1)
        assert labels.dtype == np.int64
        assert (inputs["images"].min(), inputs["images"].max()) == (0, 16)
    assert digits.task == task.of_images((8, 8, 1), tuple("0123456789"), maximum=16.0)


def test_every_image_is_in_one_split(digits: Dataset) -> None:
    """The three splits together are scikit-learn's digits, each with its own label, and no image is in two."""
    parts = [rows(part) for part in (digits.train, digits.validation, digits.test)]
    source = load_digits()
    everything = rows(ArrayRows({"images": source.images.astype(np.float32)[..., None]}, source.target))
    assert set.union(*parts) == everything
    assert sum(map(len, parts)) == len(everything) == len(digits.train) + len(digits.validation) + len(digits.test)


def test_stratified(digits: Dataset) -> None:
    """Every class has the same share of each split, to within one image; the shares are 60, 20 and 20 %."""
    total = np.bincount(load_digits().target)
    for part, share in ((digits.train, 0.6), (digits.validation, 0.2), (digits.test, 0.2)):
        assert np.abs(np.bincount(fetch_all(part)[1]) - total * share).max() <= 1.5
        assert len(part) == pytest.approx(total.sum() * share, abs=1.5)


def test_seed(digits: Dataset) -> None:
    """One seed gives one split; another gives another."""
    again, other = load("digits", seed=0), load("digits", seed=1)
    np.testing.assert_array_equal(fetch_all(digits.train)[0]["images"], fetch_all(again.train)[0]["images"])
    np.testing.assert_array_equal(fetch_all(digits.test)[1], fetch_all(again.test)[1])
    assert rows(digits.test) != rows(other.test)


@pytest.mark.parametrize(("name", "columns", "classes"), [("wine", 13, 3), ("breast_cancer", 30, 2)])
def test_bundled_tables(name: str, columns: int, classes: int) -> None:
    """Scikit-learn's tables are float32 columns under names that a model's inputs can have."""
    data = load(name, seed=0)
    assert (len(data.task.inputs), len(data.task.classes)) == (columns, classes)
    inputs, _ = fetch_all(data.train)
    for spec in data.task.inputs:
        assert re.fullmatch(r"[A-Za-z]\w*", spec.name)
        assert (spec.dtype, spec.shape, inputs[spec.name].dtype) == ("float32", (None,), np.float32)


def test_too_few_images() -> None:
    """A class with a single image cannot be in three splits, and that is said, with the class."""
    labels = np.array([0] * 50 + [1])
    source = ArrayRows({"images": np.zeros((51, 8, 8, 1), np.float32)}, labels)
    with pytest.raises(DataError, match=r"every class.*'b' 1, 'a' 50 of 51 .*: add more, leave the class out"):
        split(source, task=task.of_images((8, 8, 1), ("a", "b"), maximum=1.0), seed=0)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("digit", r"out of digits, wine, breast_cancer, or the path of one; got 'digit', did you mean 'digits'\?"),
        (Path("nowhere.npz"), "there is no such file"),
        (Path("nowhere.csv"), "there is no such file"),
        (7, "name or path of a data set, or a data frame; got int"),
    ],
)
def test_nothing_there(data: object, says: str) -> None:
    """What leads nowhere is answered with what there is."""
    with pytest.raises(DataError, match=says):
        load(data, seed=0)


def test_an_unknown_way_with_bad_files() -> None:
    """on_bad is one of two."""
    with pytest.raises(DataError, match="one of refuse, skip; got 'ignore'"):
        load("digits", seed=0, on_bad="ignore")


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    """A file that is neither .npz nor .csv is named."""
    (tmp_path / "data.xlsx").touch()
    with pytest.raises(DataError, match=r"an .npz or a .csv file of data; got .*data.xlsx"):
        load(tmp_path / "data.xlsx", seed=0)


def test_order() -> None:
    """Every epoch has all rows in an order of its own, the same each time; without a seed they stay as they are."""
    first, second = order(50, seed=1, epoch=0), order(50, seed=1, epoch=1)
    assert sorted(first) == sorted(second) == list(range(50))
    assert first.tolist() != second.tolist()
    np.testing.assert_array_equal(first, order(50, seed=1, epoch=0))
    np.testing.assert_array_equal(order(4, seed=None, epoch=3), [0, 1, 2, 3])
