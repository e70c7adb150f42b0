from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, jaccard_score, precision_score, recall_score

from keraship.models.losses import CombinedLoss, DiceLoss, IoULoss
from keraship.models.metrics import (
    BinaryAccuracy,
    BinaryFalseNegatives,
    BinaryFalsePositives,
    BinaryTrueNegatives,
    BinaryTruePositives,
    DiceScore,
    IoU,
    Precision,
    Recall,
)

SETTINGS = settings(max_examples=6, deadline=None)
SIZE = st.integers(1, 5)
SEED = st.integers(0, 2**32 - 1)
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def cell(truth: int, guess: int) -> Callable[..., float]:
    """One cell of scikit-learn's confusion table."""

    def count(y_true: Any, y_pred: Any, sample_weight: Any = None) -> float:
        return float(confusion_matrix(y_true, y_pred, labels=[0, 1], sample_weight=sample_weight)[truth, guess])

    return count


def zero_division(score: Callable[..., float]) -> Callable[..., float]:
    return lambda y_true, y_pred, sample_weight=None: score(
        y_true, y_pred, sample_weight=sample_weight, zero_division=0
    )


BINARY: dict[Any, Callable[..., float]] = {
    BinaryAccuracy: lambda t, p, sample_weight=None: accuracy_score(t, p, sample_weight=sample_weight),
    BinaryTruePositives: cell(1, 1),
    BinaryFalsePositives: cell(0, 1),
    BinaryTrueNegatives: cell(0, 0),
    BinaryFalseNegatives: cell(1, 0),
    Precision: zero_division(precision_score),
    Recall: zero_division(recall_score),
}
OVERLAPS: dict[Any, Callable[..., Any]] = {IoU: jaccard_score, DiceScore: f1_score}
ALL = [*(metric() for metric in BINARY), *(metric(3) for metric in OVERLAPS)]


def scores_for(guess: Any, classes: int) -> Any:
    """Probabilities whose largest is that of `guess`."""
    return (np.eye(classes)[guess] + 0.3 * np.random.default_rng(0).random((*guess.shape, classes))).astype(np.float32)


def there(*ids: Any) -> list[int]:
    """The classes that are anywhere."""
    return sorted(set(np.concatenate([np.ravel(part) for part in ids]).tolist()))


def masked(scores: Any, mask: Any) -> Any:
    """Predictions as a layer with a mask gives them."""
    tensor = tf.constant(scores)
    tensor._keras_mask = tf.constant(mask)
    return tensor


def after(metric: Any, *batches: tuple[Any, ...]) -> float:
    """What a new metric gives after these updates."""
    metric.reset_state()
    for batch in batches:
        metric.update_state(*batch)
    return float(metric.result())


@SETTINGS
@given(seed=SEED, n=SIZE, height=SIZE, width=SIZE, threshold=st.sampled_from([0.3, 0.5, 0.0, 1.0]))
def test_binary(seed: int, n: int, height: int, width: int, threshold: float) -> None:
    """Each is scikit-learn's on the thresholded scores, plain and weighted by samples or by pixels."""
    generator = np.random.default_rng(seed)
    shape = (n, height, width)
    truth, scores = generator.integers(0, 2, shape), generator.choice([0, 0.2, 0.3, 0.5, 0.9, 1], shape)
    of_samples, of_pixels = generator.integers(0, 3, n) + 1, generator.random(shape) + 0.1
    guess = scores > threshold
    for metric, reference in BINARY.items():
        ours = metric(threshold)
        for weights in (None, of_samples, of_samples[:, None, None], of_pixels):
            flat = np.ones(shape) if weights is None else np.broadcast_to(_columns(weights, 3), shape)
            expected = reference(truth.ravel(), guess.ravel(), sample_weight=flat.ravel())
            np.testing.assert_allclose(after(ours, (truth, scores, weights)), expected, **CLOSE)
        expected = reference(truth.ravel(), guess.ravel())
        forms = ((truth[..., None], scores[..., None]), (truth, scores[..., None]), (truth[..., None], scores))
        for form in (*forms, (truth.astype(bool), scores), (truth.astype("float32"), scores)):
            np.testing.assert_allclose(after(ours, form), expected, **CLOSE)


def _columns(weights: Any, rank: int) -> Any:
    return weights.reshape(weights.shape + (1,) * (rank - weights.ndim))


@SETTINGS
@given(seed=SEED, n=SIZE, height=SIZE, width=SIZE, classes=st.integers(2, 6))
def test_overlap(seed: int, n: int, height: int, width: int, classes: int) -> None:
    """The mean over the classes that are there, and each class's own, are scikit-learn's; weighted too."""
    generator = np.random.default_rng(seed)
    present = generator.integers(1, classes + 1)
    truth, guess = generator.integers(0, present, (2, n, height, width))
    scores = scores_for(guess, classes)
    of_samples, of_pixels = generator.integers(0, 3, n) + 1, generator.random(truth.shape) + 0.1
    labels = there(truth, guess)
    for metric, reference in OVERLAPS.items():
        for weights in (None, of_samples, of_pixels):
            flat = np.ones(truth.shape) if weights is None else np.broadcast_to(_columns(weights, 3), truth.shape)
            each = reference(truth.ravel(), guess.ravel(), labels=labels, average=None, sample_weight=flat.ravel())
            for targets in (truth, truth[..., None], np.eye(classes)[truth], truth.astype(np.uint8)):
                ours = metric(classes)
                np.testing.assert_allclose(after(ours, (targets, scores, weights)), each.mean(), **CLOSE)
            expected = np.full(classes, np.nan)
            expected[labels] = each
            np.testing.assert_allclose(ours.per_class(), expected, **CLOSE)
        one = metric(classes, class_id=labels[-1])
        np.testing.assert_allclose(after(one, (truth, scores, weights)), each[-1], **CLOSE)


@SETTINGS
@given(seed=SEED, n=SIZE, classes=st.integers(2, 5), ignored=st.sampled_from([255, -1, 0, 1]))
def test_ignore_class(seed: int, n: int, classes: int, ignored: int) -> None:
    """Targets of that id do not count, and the class, if it is one, is not in the mean."""
    generator = np.random.default_rng(seed)
    truth, guess = generator.integers(0, classes, (2, n, 4))
    truth = np.where(generator.random(truth.shape) < 0.3, ignored, truth)
    seen = truth != ignored
    labels = [label for label in there(truth[seen], guess[seen]) if label != ignored]
    for metric, reference in OVERLAPS.items():
        ours = metric(classes, ignore_class=ignored)
        expected = reference(truth[seen], guess[seen], labels=labels, average="macro") if seen.any() and labels else 0
        np.testing.assert_allclose(after(ours, (truth, scores_for(guess, classes))), expected, **CLOSE)
        assert ignored not in range(classes) or np.isnan(ours.per_class()[ignored])


@SETTINGS
@given(seed=SEED, n=SIZE, height=SIZE)
def test_overlap_of_binary_networks(seed: int, n: int, height: int) -> None:
    """With a threshold, scores need no axis of classes: background and foreground are the two."""
    generator = np.random.default_rng(seed)
    truth, scores = generator.integers(0, 2, (n, height)), generator.random((n, height)).astype(np.float32)
    guess = (scores > 0.4).astype(int)
    for metric, reference in OVERLAPS.items():
        expected = reference(truth.ravel(), guess.ravel(), labels=there(truth, guess), average="macro")
        for t, p in ((truth, scores), (truth, scores[..., None]), (truth[..., None], scores[..., None])):
            np.testing.assert_allclose(after(metric(2, threshold=0.4), (t, p)), expected, **CLOSE)
        foreground = metric(2, threshold=0.4, class_id=1)
        expected = reference(truth.ravel(), guess.ravel(), zero_division=0)
        np.testing.assert_allclose(after(foreground, (truth, scores)), expected, **CLOSE)


@SETTINGS
@given(seed=SEED, n=SIZE, steps=SIZE)
def test_mask(seed: int, n: int, steps: int) -> None:
    """What a Keras mask hides is as good as cut off, whatever it holds; with weights too."""
    generator = np.random.default_rng(seed)
    mask = generator.random((n, steps)) < 0.6
    weights = generator.random(n)
    truth, scores = generator.integers(0, 2, (n, steps)), generator.random((n, steps))
    flat = np.broadcast_to(weights[:, None], mask.shape)[mask]
    for metric in BINARY:
        expected = after(metric(), (truth[mask], scores[mask], flat))
        given_ = (truth[..., None], masked(np.where(mask, scores, np.nan)[..., None], mask), weights)
        np.testing.assert_allclose(after(metric(), given_), expected, **CLOSE)
    truth, guess = generator.integers(0, 3, (2, n, steps))
    scores = scores_for(guess, 3)
    for metric in OVERLAPS:
        expected = after(metric(3), (truth[mask], scores[mask], flat))
        given_ = (np.where(mask, truth, -1), masked(scores, mask), weights)
        np.testing.assert_allclose(after(metric(3), given_), expected, **CLOSE)


@pytest.mark.parametrize("truth", [0, 1])
@pytest.mark.parametrize("guess", [0, 1])
@pytest.mark.parametrize("shape", [(1,), (1, 1, 1), (2, 3, 3)])
def test_edges(truth: int, guess: int, shape: tuple[int, ...]) -> None:
    """All zeros, all ones, one pixel: scikit-learn's values, with the classes that are nowhere left out."""
    t, p = np.full(shape, truth), np.full(shape, float(guess))
    for metric, reference in BINARY.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # scikit-learn's, on one label alone
            assert after(metric(), (t, p)) == reference(t.ravel(), p.ravel() > 0.5)
    for overlap in OVERLAPS:
        assert after(overlap(4), (t, np.eye(4)[p.astype(int)])) == (truth == guess)
        assert after(overlap(2, threshold=0.5), (t, p)) == (truth == guess)


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)
def test_nothing_counted(metric: Any) -> None:
    """Before the first batch, after a reset, and under weights of zero or masks all False, the result is 0."""
    targets = np.zeros((2, 3), np.int64)
    scores = np.ones((2, 3, 1 if metric.num_classes == 2 else 3), np.float32)
    assert float(type(metric).from_config(metric.get_config()).result()) == 0
    assert after(metric, (targets, scores, np.zeros(2))) == 0
    assert after(metric, (targets, scores, np.zeros((2, 3)))) == 0
    assert after(metric, (targets, masked(scores, np.zeros((2, 3), bool)))) == 0
    assert after(metric, (targets[:0], scores[:0])) == 0
    metric.update_state(targets, scores)
    metric.reset_state()
    assert float(metric.result()) == 0


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)
def test_many_updates_are_one(metric: Any) -> None:
    """Batches of any sizes give what all at once gives, and the states of two metrics add up to the whole's."""
    generator = np.random.default_rng(0)
    targets = generator.integers(0, 2, (20, 3))
    scores = generator.random((20, 3, 1 if metric.num_classes == 2 else 3))
    weights = generator.random(20)
    whole = after(metric, (targets, scores, weights))
    parts = [(targets[rows], scores[rows], weights[rows]) for rows in (slice(1), slice(1, 8), slice(8, 20))]
    assert after(metric, *parts) == pytest.approx(whole, rel=1e-6)
    halves = [type(metric).from_config(metric.get_config()) for _ in range(2)]
    halves[0].update_state(*parts[0])
    halves[0].update_state(*parts[1])
    halves[1].update_state(*parts[2])
    metric.reset_state()
    for own, one, other in zip(metric.variables, halves[0].variables, halves[1].variables, strict=True):
        own.assign(one + other)
    assert float(metric.result()) == pytest.approx(whole, rel=1e-6)


def test_equals_keras() -> None:
    """Where Keras's own can (no weights of samples for pixels, no mask), they give the same."""
    generator = np.random.default_rng(0)
    truth, scores = generator.integers(0, 2, (9, 4)), generator.random((9, 4)).astype(np.float32)
    weights = generator.random((9, 4)).astype(np.float32)
    names = {f"Binary{name}": name for name in ("TruePositives", "FalsePositives", "TrueNegatives", "FalseNegatives")}
    for ours in BINARY:
        theirs = getattr(keras.metrics, names.get(ours.__name__, ours.__name__))()
        theirs.update_state(truth, scores, weights)
        assert after(ours(), (truth, scores, weights)) == pytest.approx(float(theirs.result()), rel=1e-5)
    ids = generator.integers(0, 4, (3, 5, 5))
    predicted = generator.random((3, 5, 5, 4)).astype(np.float32)
    theirs = keras.metrics.MeanIoU(4, sparse_y_pred=False)
    theirs.update_state(ids, predicted)
    assert after(IoU(4), (ids, predicted)) == pytest.approx(float(theirs.result()), rel=1e-5)


def test_counts_are_exact() -> None:
    """Beyond the 2**24 at which float32 stops counting, every element still counts."""
    metric = BinaryTruePositives(dtype="float64")
    metric.counts.assign([[0, 0], [0, 2.0**24]])
    metric.update_state([1, 1, 1], [1.0, 1.0, 1.0])
    assert float(metric.result()) == 2**24 + 3


def test_half_precision() -> None:
    """float16 scores are compared in float32, and half a million of them counted right."""
    scores = np.tile(np.array([0.29, 0.31], np.float16), 250_000)
    for dtype in ("float16", "bfloat16"):
        assert after(BinaryTruePositives(0.3), (np.ones(500_000), tf.cast(scores, dtype))) == 250_000
        two = tf.stack([1 - tf.cast(scores, dtype), tf.cast(scores, dtype)], axis=-1)
        assert after(IoU(2, class_id=0), (np.zeros(500_000), two)) == 1


def test_id_that_is_no_class() -> None:
    """An id beyond the classes makes the result NaN, until the reset, unless its pixel counts nothing."""
    scores = scores_for(np.zeros((1, 3), int), 3)
    ids = np.array([[0, 0, 3]])
    for metric in (IoU(3), DiceScore(3), IoU(3, class_id=1)):
        assert np.isnan(after(metric, (ids, scores)))
        assert np.isfinite(after(metric, (ids, scores, [[1, 1, 0]])))


@pytest.mark.parametrize("jit_compile", [False, True])
def test_unknown_sizes(jit_compile: bool) -> None:
    """Traced once for any batch and image size, a metric gives what it gives at once; under XLA too."""
    signature = [
        tf.TensorSpec((None, None, None), tf.int64),
        tf.TensorSpec((None, None, None, 3), tf.float32),
        tf.TensorSpec((None,), tf.float32),
    ]
    metrics = [IoU(3, ignore_class=0), DiceScore(3), BinaryAccuracy(), Recall()]

    @tf.function(input_signature=signature, jit_compile=jit_compile)
    def update(ids: Any, scores: Any, weights: Any) -> None:
        for metric in metrics[:2]:
            metric.update_state(ids, scores, weights)
        for metric in metrics[2:]:
            metric.update_state(ids, scores[..., 0], weights)

    generator = np.random.default_rng(0)
    batches = []
    for n, height, width in ((2, 3, 4), (3, 1, 1)):
        ids = generator.integers(0, 3, (n, height, width))
        batch = ids, generator.random((*ids.shape, 3)).astype("float32"), generator.random(n).astype("float32")
        update(*batch)
        batches.append(batch)
    traced = [float(metric.result()) for metric in metrics]
    binary = [(ids, scores[..., 0], weights) for ids, scores, weights in batches]
    at_once = [after(metric, *(batches if place < 2 else binary)) for place, metric in enumerate(metrics)]
    np.testing.assert_allclose(traced, at_once, **CLOSE)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: IoU(1), "num_classes=1"),
        (lambda: IoU(2.5), "num_classes=2.5"),
        (lambda: IoU(True), "num_classes=True"),
        (lambda: IoU(3, class_id=3), "class_id"),
        (lambda: IoU(3, class_id=1, ignore_class=1), "class_id"),
        (lambda: DiceScore(3, threshold=0.5), "num_classes=2"),
        (lambda: DiceScore(2, threshold=float("nan")), "threshold"),
        (lambda: BinaryAccuracy("0.5"), "threshold"),
        (lambda: Recall(float("inf")), "threshold"),
    ],
)
def test_wrong_arguments(make: Any, message: str) -> None:
    """Arguments of another form are refused, and the message names them."""
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("metric", "true", "pred", "weights"),
    [
        (BinaryAccuracy(), (3,), (3, 3), None),
        (BinaryAccuracy(), (3, 1), (3, 3), None),
        (BinaryAccuracy(), (3,), (3,), (2,)),
        (IoU(3), (2, 4), (2, 4, 4), None),
        (IoU(3), (2, 4), (2, 4, 1), None),
        (IoU(3), (2, 5), (2, 4, 3), None),
        (IoU(3), (2,), (2, 4, 3), None),
        (IoU(3, sparse=True), (2, 4, 3), (2, 4, 3), None),
        (IoU(3), (2, 4), (2, 4, 3), (4,)),
    ],
)
def test_wrong_shapes(metric: Any, true: Any, pred: Any, weights: Any) -> None:
    """Shapes that do not fit are refused, not broadcast, and count nothing."""
    with pytest.raises(ValueError, match="got"):
        metric.update_state(np.zeros(true), np.zeros(pred), None if weights is None else np.ones(weights))
    assert not np.any(metric.counts)


@pytest.mark.parametrize(
    "metric", [*ALL, IoU(2, threshold=0.4, class_id=1, name="foreground"), DiceScore(5, sparse=True)]
)
def test_config_round_trip(metric: Any) -> None:
    """from_config(get_config()) and Keras's own serialization give a metric with the same configuration."""
    assert type(metric).from_config(metric.get_config()).get_config() == metric.get_config()
    stored = keras.saving.serialize_keras_object(metric)
    assert stored["registered_name"] == f"keraship>{type(metric).__name__}"
    assert keras.saving.deserialize_keras_object(stored).get_config() == metric.get_config()


def test_monitored_in_mixed_precision() -> None:
    """In a training under mixed_float16, callbacks know by themselves which way each metric is better."""
    inputs = keras.Input((None, None, 1))
    outputs = keras.layers.Conv2D(1, 1, activation="sigmoid", dtype="mixed_float16")(inputs)
    model = keras.Model(inputs, outputs)
    metrics = [*(metric() for metric in BINARY), *(metric(2, threshold=0.5) for metric in OVERLAPS)]
    model.compile("sgd", "binary_crossentropy", weighted_metrics=metrics, jit_compile=False)
    x = np.random.default_rng(0).random((4, 3, 3, 1)).astype(np.float32)
    y = (x > 0.5).astype(int)
    stops = [keras.callbacks.EarlyStopping(monitor=metric.name) for metric in metrics]
    weights = np.array([1.0, 2.0, 0.0, 1.0])
    pixels = np.broadcast_to(weights[:, None, None], x.shape[:3])  # what Keras's own loss takes
    history = model.fit(x, y, sample_weight=pixels, batch_size=2, callbacks=stops, verbose=0).history
    counts = sum(history[name][0] for name in history if name.endswith(("positives", "negatives")))
    assert counts == weights.sum() * 9
    down = {stop.monitor for stop in stops if stop.monitor_op is np.less or "less" in str(stop.monitor_op)}
    assert down == {"binary_false_positives", "binary_false_negatives"}


LOAD = """
import json, sys
import keras, numpy
import keraship.models.losses, keraship.models.metrics
arrays = numpy.load(sys.argv[1])
model = keras.saving.load_model(sys.argv[2])
print(json.dumps(model.evaluate(arrays["x"], arrays["y"], sample_weight=arrays["w"], return_dict=True, verbose=0)))
"""


def test_saved_model_in_a_fresh_process(tmp_path: Path) -> None:
    """A compiled model loads in a process that imports these two files alone; each loss and metric is the same."""
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid")(inputs))
    overlaps = [IoU(2, threshold=0.45), DiceScore(2, threshold=0.45, class_id=1, ignore_class=0)]
    loss = CombinedLoss([DiceLoss(0.5, ignore_class=255), IoULoss(2), keras.losses.BinaryCrossentropy()], [1, 0.5, 2])
    metrics = [*(metric(0.45) for metric in BINARY), *overlaps]
    model.compile(loss=loss, weighted_metrics=metrics, jit_compile=False)  # compiling takes longer than all the rest
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(6, 4, 4, 3)).astype("float32"), generator.integers(0, 2, (6, 4, 4, 1))
    w = generator.random((6, 4, 4)).astype("float32")
    expected = model.evaluate(x, y, sample_weight=w, return_dict=True, verbose=0)
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "arrays.npz", x=x, y=y, w=w)
    command = [sys.executable, "-c", LOAD, str(tmp_path / "arrays.npz"), str(tmp_path / "model.keras")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == pytest.approx(expected, rel=1e-5)
    assert set(expected) == {"loss", *(metric().name for metric in BINARY), "iou", "dice_score"}
