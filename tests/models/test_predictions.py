from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from keraship.errors import DataError
from keraship.models.predictions import Predictions, in_order, predict_with_y_true
from keraship.models.rows import ArrayRows

SCORES = np.eye(3, dtype=np.float32)[[0, 1, 2, 2]]


def scores_of_marks(inputs: Any) -> Any:
    """A model whose score for class 1 is the row's own mark, so that a row out of step is seen."""
    marks = np.asarray(inputs["mark"] if isinstance(inputs, dict) else inputs, np.float64)
    return np.stack([1 - marks, marks], axis=1)


@pytest.mark.parametrize("batch_size", [1, 3, 10, 64])
def test_rows_are_asked_in_order(batch_size: int) -> None:
    """Whatever the batch size, every answer stands beside the truth of its own row, in the data's order."""
    marks = np.linspace(0, 1, 10)
    labels = np.array([0, 1, 1, 0, 1, 0, 0, 1, 0, 1])
    sizes = []

    def ask(inputs: Any) -> Any:
        sizes.append(len(inputs["mark"]))
        return scores_of_marks(inputs)

    rows = ArrayRows({"mark": marks}, labels)
    predictions = predict_with_y_true(ask, in_order(rows, batch_size=batch_size))
    np.testing.assert_array_equal(predictions.y_true, labels)
    np.testing.assert_array_equal(predictions.y_pred[:, 1], marks)
    assert max(sizes) == min(batch_size, 10)


def test_a_shuffled_data_set_stays_aligned() -> None:
    """A tf.data pipeline that draws a new order at every pass cannot bring truth and answers out of step."""
    labels = np.random.default_rng(0).integers(0, 2, 200)
    marks = labels * 0.5 + np.linspace(0, 0.4, 200)  # the mark tells the label
    data = tf.data.Dataset.from_tensor_slices((marks, labels)).shuffle(200, reshuffle_each_iteration=True).batch(32)
    predictions = predict_with_y_true(scores_of_marks, data)
    np.testing.assert_array_equal(predictions.y_true, (predictions.y_pred[:, 1] >= 0.5).astype(int))
    assert not np.array_equal(predictions.y_true, labels)
    assert sorted(predictions.y_pred[:, 1]) == pytest.approx(sorted(marks))


@pytest.mark.parametrize("wrong", [np.zeros((3, 2)), np.zeros((5, 2)), np.float32(0)])
def test_an_answer_with_other_rows_is_refused(wrong: Any) -> None:
    """A model that loses, adds or folds rows cannot be aligned."""
    with pytest.raises(DataError, match="expected scores for each of a batch's 4 rows; the model gave shape"):
        predict_with_y_true(lambda _inputs: wrong, [(np.zeros((4, 1)), np.zeros(4, int))])


def test_no_rows() -> None:
    """Nothing to evaluate on is said."""
    with pytest.raises(DataError, match="at least one row"):
        predict_with_y_true(scores_of_marks, [])


@pytest.mark.parametrize(
    "labels", [[0, 1, 2, 2], [0.0, 1.0, 2.0, 2.0], [[0], [1], [2], [2]], SCORES.astype(int), np.uint8([0, 1, 2, 2])]
)
def test_forms_of_labels(labels: Any) -> None:
    """Whole numbers of any type, with a last axis of 1, and one-hot rows are the same truth."""
    predictions = Predictions(np.asarray(labels), SCORES)
    np.testing.assert_array_equal(predictions.y_true, [0, 1, 2, 2])
    assert predictions.y_true.dtype == np.int64
    assert predictions.classes == ("0", "1", "2")
    assert not predictions.is_segmentation


@pytest.mark.parametrize("scores", [[0.2, 0.9], [[0.2], [0.9]]])
def test_one_score_from_0_to_1(scores: Any) -> None:
    """A sigmoid's answer is the score of class 1 of two."""
    predictions = Predictions(np.array([0, 1]), np.asarray(scores))
    np.testing.assert_allclose(predictions.y_pred, [[0.8, 0.2], [0.1, 0.9]])


def test_masks() -> None:
    """A class for every pixel is a segmentation, with or without a channel axis."""
    scores = np.random.default_rng(0).random((2, 4, 5, 3))
    for masks in (np.zeros((2, 4, 5), int), np.zeros((2, 4, 5, 1), int)):
        predictions = Predictions(masks, scores)
        assert predictions.is_segmentation
        assert predictions.y_true.shape == predictions.top1.shape == (2, 4, 5)


@pytest.mark.parametrize(
    ("labels", "scores", "classes", "message"),
    [
        ([0, 1, 3, 3], SCORES, (), r"labels from 0 to 2.*got 3 in row 2 \(2 of 4 labels"),
        ([0, 1, -1, 2], SCORES, (), r"labels from 0 to 2.*got -1 in row 2"),
        ([0, 1, 2], SCORES, (), r"labels of shape \[4\].*got \[3\]"),
        (np.zeros((4, 8, 8), int), SCORES, (), r"labels of shape \[4\].*got \[4, 8, 8\]"),
        ([0, 0.5, 1, 2], SCORES, (), "labels as class numbers.*float64"),
        (["a", "b", "a", "b"], SCORES, (), "labels as class numbers"),
        ([0, 1, 2, 2], SCORES, ("cat", "dog"), r"2 classes \(cat, dog\); the model gives 3"),
        ([0, 1, 2, 2], SCORES * np.nan, (), "finite scores; the model gives nan in row 0"),
        ([0, 1, 0, 1], np.full((4, 1), 7.0), (), "two classes or more, or one from 0 to 1"),
        ([0, 1, 0, 1], np.full((4, 2), "cat"), (), "scores as numbers"),
        (np.zeros(0, int), np.zeros((0, 3)), (), "expected scores; the model gives none"),
    ],
)
def test_what_cannot_be_aligned(labels: Any, scores: Any, classes: tuple[str, ...], message: str) -> None:
    """What is wrong is one sentence that names what was expected and what came."""
    with pytest.raises(DataError, match=message) as caught:
        Predictions(np.asarray(labels), np.asarray(scores), classes)
    assert "\n" not in str(caught.value)
