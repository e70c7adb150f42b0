from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.calibration import calibration_curve

from keraship.errors import DataError
from keraship.intervals import wilson
from keraship.models.classification_scores import ClassificationScores, classification_scores
from keraship.models.estimates import Ranking, bootstrap
from keraship.models.predictions import Predictions
from keraship.models.segmentation_scores import segmentation_scores


def random_predictions(seed: int, *, rows: int = 80, classes: int = 4, levels: int | None = None) -> Predictions:
    """levels: scores are rounded to so many, so that there are ties."""
    random = np.random.default_rng(seed)
    labels = np.append(np.arange(classes), random.integers(0, classes, rows - classes))
    scores = random.dirichlet(np.ones(classes), rows)
    scores[np.arange(rows), labels] += 0.2
    if levels:
        scores = np.round(scores * levels) / levels
    return Predictions(labels, scores / np.maximum(scores.sum(axis=1, keepdims=True), 1e-9))


@pytest.fixture(params=[(0, None), (1, 3), (2, None)], scope="module")
def judged(request: Any) -> tuple[Predictions, ClassificationScores]:
    seed, levels = request.param
    predictions = random_predictions(seed, levels=levels)
    return predictions, classification_scores(predictions)


def test_headlines_are_scikit_learns(judged: tuple[Predictions, ClassificationScores]) -> None:
    """Accuracy, average precision and AUC, macro and micro, ties included; each within its interval."""
    predictions, scores = judged
    truth, given_scores = predictions.y_true, predictions.y_pred
    one_hot = np.eye(4)[truth]
    expected = {
        "accuracy": metrics.accuracy_score(truth, given_scores.argmax(axis=1)),
        "average_precision_macro": metrics.average_precision_score(one_hot, given_scores, average="macro"),
        "average_precision_micro": metrics.average_precision_score(one_hot, given_scores, average="micro"),
        "auc_macro": metrics.roc_auc_score(one_hot, given_scores, average="macro"),
        "auc_micro": metrics.roc_auc_score(one_hot, given_scores, average="micro"),
    }
    assert {name: estimate.value for name, estimate in scores.metrics.items()} == pytest.approx(expected)
    assert all(each.low is not None and each.low < each.value < each.high for each in scores.metrics.values())
    right = int((given_scores.argmax(axis=1) == truth).sum())
    assert (scores.metrics["accuracy"].low, scores.metrics["accuracy"].high) == wilson(right, len(truth))


def test_classes_are_scikit_learns(judged: tuple[Predictions, ClassificationScores]) -> None:
    """Precision, recall, F1, both curves and the confusion matrix of every class."""
    predictions, scores = judged
    truth, top1 = predictions.y_true, predictions.top1
    precision, recall, f1, support = metrics.precision_recall_fscore_support(truth, top1, zero_division=np.nan)
    for number, each in enumerate(scores.per_class):
        assert (each.precision, each.recall, each.f1) == pytest.approx((precision[number], recall[number], f1[number]))
        assert each.positives == support[number]
        one, column = truth == number, predictions.y_pred[:, number]
        expected_precision, expected_recall, _ = metrics.precision_recall_curve(one, column)
        np.testing.assert_array_equal(each.precision_recall.y, expected_precision)
        np.testing.assert_array_equal(each.precision_recall.x, expected_recall)
        assert metrics.auc(each.roc.x, each.roc.y) == pytest.approx(metrics.roc_auc_score(one, column))
    np.testing.assert_array_equal(scores.confusion, metrics.confusion_matrix(truth, top1))


def test_calibration_is_scikit_learns(judged: tuple[Predictions, ClassificationScores]) -> None:
    """The bins are those of calibration_curve, and the error is their mean gap, weighed by rows."""
    predictions, scores = judged
    right, confidence = predictions.top1 == predictions.y_true, predictions.y_pred.max(axis=1)
    accuracy, mean_confidence = calibration_curve(right, confidence, n_bins=10)
    assert scores.calibration is not None
    bins = scores.calibration.bins
    assert [each.accuracy.value for each in bins] == pytest.approx(list(accuracy))
    assert [each.confidence for each in bins] == pytest.approx(list(mean_confidence))
    gaps = [each.count * abs(a - c) for each, a, c in zip(bins, accuracy, mean_confidence, strict=True)]
    assert scores.calibration.error == pytest.approx(sum(gaps) / len(right))
    assert sum(each.count for each in bins) == len(right)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_weighted_areas_are_scikit_learns(data: st.DataObject) -> None:
    """The bootstrap's fast areas equal scikit-learn's with sample weights: ties, zero weights and all."""
    count = data.draw(st.integers(2, 30))
    positive = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    scores = np.array(data.draw(st.lists(st.integers(0, 6), min_size=count, max_size=count))) / 6
    weights = np.array(data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count)))
    (precision,), (auc,) = Ranking(positive, scores).areas(weights[np.newaxis])
    has_positives, has_negatives = weights[positive].sum() > 0, weights[~positive].sum() > 0
    assert np.isnan(precision) == (not has_positives)
    assert np.isnan(auc) == (not (has_positives and has_negatives))
    if has_positives:
        assert precision == pytest.approx(metrics.average_precision_score(positive, scores, sample_weight=weights))
    if has_positives and has_negatives:
        assert auc == pytest.approx(metrics.roc_auc_score(positive, scores, sample_weight=weights))


def test_a_perfect_classifier() -> None:
    """1 everywhere, a diagonal of confusions, and no calibration error."""
    labels = np.arange(60) % 3
    scores = classification_scores(Predictions(labels, np.eye(3)[labels]))
    assert {estimate.value for estimate in scores.metrics.values()} == {1.0}
    np.testing.assert_array_equal(scores.confusion, np.eye(3) * 20)
    assert scores.calibration is not None
    assert scores.calibration.error == 0


def test_a_useless_classifier() -> None:
    """The same scores for every row: AUC is a half, average precision the share, and what is never answered is None."""
    labels = np.array([0] * 30 + [1] * 10)
    scores = classification_scores(Predictions(labels, np.tile([0.6, 0.4], (40, 1))))
    first, second = scores.per_class
    assert (first.auc.value, second.auc.value) == (0.5, 0.5)
    assert (first.average_precision.value, second.average_precision.value) == (0.75, 0.25)
    assert (second.precision, second.recall, second.f1) == (None, 0.0, 0.0)


def test_classes_without_rows_are_left_out() -> None:
    """They are named, and the macro averages are over the others."""
    full = random_predictions(0, classes=3)
    scores = np.insert(full.y_pred * 0.9, 1, 0.1, axis=1)  # a class between, that nothing is of
    labels = np.array([0, 2, 3])[full.y_true]
    judged = classification_scores(Predictions(labels, scores, ("a", "empty", "b", "c")))
    assert judged.left_out == ("empty",)
    assert [each.name for each in judged.per_class] == ["a", "b", "c"]
    expected = classification_scores(full).metrics["average_precision_macro"]
    assert judged.metrics["average_precision_macro"].value == pytest.approx(expected.value)
    assert all(np.isfinite(each.value) for each in judged.metrics.values())


def test_one_class_only() -> None:
    """Rows that are all alike cannot show how well they are told apart."""
    with pytest.raises(DataError, match=r"two classes or more.*all 5 are of class 'dog'"):
        classification_scores(Predictions(np.ones(5, int), np.full((5, 2), 0.5), ("cat", "dog")))


def test_scores_that_are_no_probabilities() -> None:
    """Logits are ranked as ever; calibration is left out."""
    predictions = random_predictions(0)
    logits = Predictions(predictions.y_true, np.log(predictions.y_pred + 1e-9) * 3)
    judged = classification_scores(logits)
    assert judged.calibration is None
    assert judged.metrics["accuracy"].value == classification_scores(predictions).metrics["accuracy"].value


def test_intervals_are_seeded_and_wide_enough() -> None:
    """The same seed gives the same interval, another seed nearly that; it is that of the normal approximation."""
    values = np.random.default_rng(0).normal(size=400)

    def mean(weights: Any) -> Any:
        return (weights @ values / weights.sum(axis=1))[:, np.newaxis]

    (first,), (again,), (other,) = (bootstrap(mean, 400, seed=seed) for seed in (0, 0, 1))
    assert first == again != other
    half = 1.96 * values.std() / 20
    assert first == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)
    assert bootstrap(lambda weights: weights * np.nan, 1, seed=0) == [(None, None)]


def test_segmentation_is_scikit_learns() -> None:
    """IoU is Jaccard's score and Dice is F1 of pixels; a class of no image is left out, an answered one is not."""
    random = np.random.default_rng(0)
    masks = random.integers(0, 3, (6, 8, 9))
    scores = random.random((6, 8, 9, 5))
    scores[..., 4] = 0
    judged = segmentation_scores(Predictions(masks, scores, ("a", "b", "c", "answered", "nowhere")))
    truth, top1 = masks.ravel(), scores.argmax(axis=-1).ravel()
    labels = [0, 1, 2, 3]
    iou = metrics.jaccard_score(truth, top1, labels=labels, average=None)
    dice = metrics.f1_score(truth, top1, labels=labels, average=None)
    assert [each.iou.value for each in judged.per_class] == pytest.approx(list(iou))
    assert [each.dice.value for each in judged.per_class] == pytest.approx(list(dice))
    assert judged.metrics["mean_iou"].value == pytest.approx(iou.mean())
    assert judged.metrics["pixel_accuracy"].value == pytest.approx((truth == top1).mean())
    assert judged.left_out == ("nowhere",)
    np.testing.assert_array_equal(judged.confusion, metrics.confusion_matrix(truth, top1, labels=range(5)))
    assert all(each.low is not None and each.low < each.value < each.high for each in judged.metrics.values())


def test_one_image_has_no_interval() -> None:
    """Nothing can be said of other images by one; a perfect one is 1."""
    masks = np.array([[[0, 1], [1, 1]]])
    judged = segmentation_scores(Predictions(masks, np.eye(2)[masks]))
    assert {(each.value, each.low, each.high) for each in judged.metrics.values()} == {(1.0, None, None)}
