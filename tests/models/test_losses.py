from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keraship.models.losses import CombinedLoss, DiceLoss, IoULoss

OVERLAP_LOSSES = [DiceLoss, IoULoss]
SETTINGS = settings(max_examples=10, deadline=None)
SIZE = st.integers(1, 5)
CLASSES = st.integers(2, 4)
SMOOTH = st.sampled_from([0.0, 1e-6, 1.0, 10.0])
SEED = st.integers(0, 2**32 - 1)


def formula(loss: type, t: Any, p: Any, *, smooth: float = 1.0, weights: Any = 1.0, classes: Any = slice(None)) -> Any:
    """The loss of each sample, [n], in float64, written down from the definition; t and p [n, ..., classes]."""
    t, p = np.asarray(t, np.float64), np.asarray(p, np.float64)
    pixels = tuple(range(1, p.ndim - 1))
    both = (weights * t * p).sum(axis=pixels)
    total = (weights * (t + p)).sum(axis=pixels)
    above, below = (2 * both, total) if loss is DiceLoss else (both, total - both)
    score = np.ones_like(below)
    np.divide(above + smooth, below + smooth, out=score, where=below + smooth > 0)
    return 1 - score[:, classes].mean(axis=-1)


def draw(seed: int, *shape: int) -> tuple[Any, Any, Any]:
    """Class ids [...], the same one-hot, and probabilities [..., classes], many of them exactly 0 or 1."""
    generator = np.random.default_rng(seed)
    ids = generator.integers(0, shape[-1], shape[:-1])
    scores = generator.dirichlet(np.full(shape[-1], 0.3), shape[:-1])
    sharp = np.eye(shape[-1])[generator.integers(0, shape[-1], shape[:-1])]
    scores = np.where(generator.random(shape[:-1])[..., None] < 0.3, sharp, scores).astype(np.float32)
    return ids, np.eye(shape[-1], dtype=np.float32)[ids], scores


def masked(scores: Any, mask: Any) -> Any:
    """Predictions as a layer with a mask gives them."""
    tensor = tf.constant(scores)
    tensor._keras_mask = tf.constant(mask)
    return tensor


@pytest.mark.parametrize("loss", OVERLAP_LOSSES)
@SETTINGS
@given(seed=SEED, n=SIZE, height=SIZE, width=SIZE, classes=CLASSES, smooth=SMOOTH)
def test_formula(loss: Any, seed: int, n: int, height: int, width: int, classes: int, smooth: float) -> None:
    """One-hot targets, ids with and without a last axis, and ids as any number type: all are the formula."""
    ids, one_hot, scores = draw(seed, n, height, width, classes)
    expected = formula(loss, one_hot, scores, smooth=smooth)
    for targets in (one_hot, ids, ids[..., None], ids.astype(np.uint8), ids.astype(np.float32)):
        each = loss(smooth, reduction=None)(targets, scores)
        np.testing.assert_allclose(each, expected, rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(loss(smooth)(ids, scores), expected.mean(), rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(loss(smooth, reduction="sum")(ids, scores), expected.sum(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("loss", OVERLAP_LOSSES)
@SETTINGS
@given(seed=SEED, shape=st.lists(SIZE, min_size=1, max_size=4), smooth=SMOOTH)
def test_binary(loss: Any, seed: int, shape: list[int], smooth: float) -> None:
    """With one class it is the foreground's overlap, whether or not the targets have an axis for it."""
    targets, _, scores = draw(seed, *shape, 2)
    p = scores[..., 1:]
    expected = formula(loss, targets[..., None], p, smooth=smooth)
    for t in (targets, targets[..., None], targets.astype(bool)):
        np.testing.assert_allclose(loss(smooth, reduction=None)(t, p), expected, rtol=1e-5, atol=2e-6)


@SETTINGS
@given(seed=SEED, n=SIZE, height=SIZE, width=SIZE)
def test_equals_keras(seed: int, n: int, height: int, width: int) -> None:
    """For one class and next to no smooth term, it is Keras's own Dice over each sample."""
    targets, _, scores = draw(seed, n, height, width, 2)
    t, p = targets[..., None].astype(np.float32), scores[..., 1:]
    own = DiceLoss(1e-7, reduction=None)(t, p)
    theirs = keras.losses.Dice(axis=(1, 2, 3), reduction=None)(t, p)
    there = (t + p).sum(axis=(1, 2, 3)) > 0.01  # Keras takes a class that is nowhere for a loss of 1
    np.testing.assert_allclose(own.numpy()[there], theirs.numpy()[there], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("loss", OVERLAP_LOSSES)
@pytest.mark.parametrize("smooth", [0.0, 1.0])
@pytest.mark.parametrize("size", [1, 4])
def test_edges(loss: Any, smooth: float, size: int) -> None:
    """All zeros, all ones, all right, all wrong, one pixel: the known values, and a gradient that is finite."""
    zeros, ones = np.zeros((1, size, size, 1), np.float32), np.ones((1, size, size, 1), np.float32)
    wrong = 1 - smooth / (size * size + smooth)
    for t, p, expected in ((zeros, zeros, 0), (ones, ones, 0), (zeros, ones, wrong), (ones, zeros, wrong)):
        assert float(loss(smooth)(t, p)) == pytest.approx(expected, abs=1e-6)
    for t in (zeros, ones):
        for p in (0.0, 1.0, 1e-45, 1e-38, 1e-20):
            with tf.GradientTape() as tape:
                scores = tf.Variable(p * ones)
                value = loss(smooth)(t, scores)
            assert np.isfinite(value)
            assert np.isfinite(tape.gradient(value, scores)).all()


@pytest.mark.parametrize("loss", OVERLAP_LOSSES)
@SETTINGS
@given(seed=SEED)
def test_gradient(loss: Any, seed: int) -> None:
    """The gradient is the formula's, by finite differences."""
    ids, one_hot, _ = draw(seed, 2, 2, 2, 3)
    p = np.random.default_rng(seed).uniform(0.1, 0.9, one_hot.shape)
    with tf.GradientTape() as tape:
        scores = tf.Variable(p)
        value = loss(dtype="float64")(ids, scores)
    gradient = tape.gradient(value, scores).numpy()
    direction = np.random.default_rng(seed + 1).normal(size=p.shape)
    step = 1e-5 * direction
    slope = (formula(loss, one_hot, p + step) - formula(loss, one_hot, p - step)).mean() / 2e-5
    assert (gradient * direction).sum() == pytest.approx(slope, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("loss", OVERLAP_LOSSES)
@SETTINGS
@given(seed=SEED, n=SIZE, height=SIZE, width=SIZE, classes=CLASSES)
def test_weights(loss: Any, seed: int, n: int, height: int, width: int, classes: int) -> None:
    """Weights [n] multiply the samples' losses; weights of pixels stand in the sums; zero is as good as not there."""
    ids, one_hot, scores = draw(seed, n, height, width, classes)
    generator = np.random.default_rng(seed)
    of_samples = generator.integers(0, 3, n).astype(np.float32)
    of_pixels = generator.integers(0, 3, (n, height, width)).astype(np.float32)
    expected = (of_samples * formula(loss, one_hot, scores)).mean()
    for weights in (of_samples, of_samples[:, None], of_samples.tolist()):
        np.testing.assert_allclose(loss()(ids, scores, weights), expected, rtol=1e-5, atol=2e-6)
    expected = formula(loss, one_hot, scores, weights=of_pixels[..., None])
    for weights in (of_pixels, of_pixels[..., None], np.repeat(of_pixels[..., None], classes, -1)):
        np.testing.assert_allclose(loss(reduction=None)(ids, scores, weights), expected, rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(loss()(ids, scores, 2.5), 2.5 * loss()(ids, scores), rtol=1e-5, atol=1e-6)
    assert float(loss()(ids, scores, np.zeros(n))) == float(loss()(ids, scores, np.zeros((n, 1, 1)))) == 0


@pytest.mark.parametrize("loss", OVERLAP_LOSSES)
@SETTINGS
@given(seed=SEED, n=SIZE, steps=st.integers(1, 6), classes=CLASSES)
def test_mask(loss: Any, seed: int, n: int, steps: int, classes: int) -> None:
    """What a Keras mask hides is as good as cut off, whatever it holds; samples hidden whole are not in the mean."""
    ids, one_hot, scores = draw(seed, n, steps, classes)
    mask = np.random.default_rng(seed).random((n, steps)) < 0.6
    each = formula(loss, one_hot, scores, weights=mask[..., None])
    weights = np.random.default_rng(seed).random(n)
    ids, scores = np.where(mask, ids, -1), np.where(mask[..., None], scores, np.nan)
    there = mask.any(axis=1)
    expected = each[there].mean() if there.any() else 0
    np.testing.assert_allclose(loss()(ids, masked(scores, mask)), expected, rtol=1e-5, atol=2e-6)
    expected = (each * weights)[there].mean() if there.any() else 0
    np.testing.assert_allclose(loss()(ids, masked(scores, mask), weights), expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("loss", OVERLAP_LOSSES)
@SETTINGS
@given(seed=SEED, n=SIZE, height=SIZE, width=SIZE, classes=CLASSES, ignored=st.sampled_from([255, -1, 0, 1]))
def test_ignore_class(loss: Any, seed: int, n: int, height: int, width: int, classes: int, ignored: int) -> None:
    """Pixels of that id do not count, and the class, if it is one, is not in the mean."""
    ids, one_hot, scores = draw(seed, n, height, width, classes)
    if ignored not in range(classes):
        ids = np.where(np.random.default_rng(seed).random(ids.shape) < 0.3, ignored, ids)
    seen = ids != ignored
    kept = [number for number in range(classes) if number != ignored]
    each = formula(loss, one_hot, scores, weights=seen[..., None], classes=kept)
    there = seen.any(axis=(1, 2))
    expected = each[there].mean() if there.any() else 0
    targets = [ids] if ignored not in range(classes) else [ids, one_hot]
    for target in targets:
        result = loss(ignore_class=ignored)(target, scores)
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("loss", OVERLAP_LOSSES)
def test_id_that_is_no_class(loss: Any) -> None:
    """An id beyond the classes makes the loss NaN, which stops a training, unless its pixel counts nothing."""
    ids, _, scores = draw(0, 2, 3, 3, 3)
    ids[1, 2, 2] = 255
    assert np.isnan(loss()(ids, scores))
    weights = np.ones((2, 3, 3))
    weights[1, 2, 2] = 0
    assert np.isfinite(loss()(ids, scores, weights))
    assert np.isfinite(loss()(ids, scores, [1, 0]))


@pytest.mark.parametrize("loss", OVERLAP_LOSSES)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(loss: Any, dtype: str) -> None:
    """Predictions in half precision are summed up in float32: 90,000 pixels are more than float16 holds."""
    t = np.ones((1, 300, 300, 1), np.float32)
    p = tf.cast(0.5 * t, dtype)
    for policy in (None, dtype, f"mixed_{dtype}", keras.DTypePolicy(dtype)):
        result = loss(dtype=policy)(t, p)
        assert result.dtype == "float32"
        np.testing.assert_allclose(result, formula(loss, t, 0.5 * t).mean(), rtol=1e-5)
    assert loss(dtype="float64")(t, p).dtype == "float64"


@pytest.mark.parametrize("jit_compile", [False, True])
def test_unknown_sizes(jit_compile: bool) -> None:
    """Traced once for any batch and image size, it gives what it gives at once: weights, ids and all, XLA too."""
    losses = [DiceLoss(ignore_class=0), IoULoss(sparse=True), CombinedLoss([DiceLoss(), crossentropy()])]
    signature = [
        tf.TensorSpec((None, None, None), tf.int64),
        tf.TensorSpec((None, None, None, 3), tf.float32),
        tf.TensorSpec((None,), tf.float32),
    ]

    @tf.function(input_signature=signature, jit_compile=jit_compile)
    def traced(y_true: Any, y_pred: Any, sample_weight: Any) -> list[Any]:
        return [loss(y_true, y_pred, sample_weight) for loss in losses]

    for n, height, width in ((2, 4, 6), (3, 1, 1)):
        ids, _, scores = draw(n, n, height, width, 3)
        weights = np.arange(n, dtype=np.float32)
        at_once = [loss(ids, scores, weights) for loss in losses]
        np.testing.assert_allclose(traced(ids, scores, weights), at_once, rtol=1e-5, atol=1e-6)


def test_unknown_class_axis_of_targets() -> None:
    """Where targets say nothing of their last axis, `sparse` has to; and then it is believed."""

    def trace(loss: Any) -> Any:
        return tf.function(loss, [tf.TensorSpec((None, 4, None)), tf.TensorSpec((None, 4, 3))])

    ids, one_hot, scores = draw(0, 2, 4, 3)
    with pytest.raises(ValueError, match="sparse=True or False"):
        trace(DiceLoss())(one_hot, scores)
    expected = formula(DiceLoss, one_hot, scores).mean()
    np.testing.assert_allclose(trace(DiceLoss(sparse=False))(one_hot, scores), expected, rtol=1e-5)
    np.testing.assert_allclose(
        trace(DiceLoss(sparse=True))(ids[..., None].astype("float32"), scores), expected, rtol=1e-5
    )


def crossentropy() -> Any:
    return keras.losses.SparseCategoricalCrossentropy()


@SETTINGS
@given(seed=SEED, n=SIZE, height=SIZE, width=SIZE, weights=st.tuples(st.floats(0, 10), st.floats(0, 10)))
def test_combined(seed: int, n: int, height: int, width: int, weights: tuple[float, float]) -> None:
    """It is the weighted sum of its losses; weights of samples and of pixels reach all of them."""
    ids, one_hot, scores = draw(seed, n, height, width, 3)
    scores = 0.9 * scores + np.float32(0.1 / 3)
    surprise = -np.log((one_hot * scores).sum(axis=-1))  # [n, height, width]
    loss = CombinedLoss([DiceLoss(), crossentropy()], weights)
    close = {"rtol": 1e-4, "atol": 1e-5}
    dice = formula(DiceLoss, one_hot, scores)
    np.testing.assert_allclose(loss(ids, scores), weights[0] * dice.mean() + weights[1] * surprise.mean(), **close)
    of_samples = np.random.default_rng(seed).random(n).astype(np.float32)
    expected = weights[0] * (of_samples * dice).mean() + weights[1] * (of_samples[:, None, None] * surprise).mean()
    for given_weights in (of_samples, of_samples[:, None]):
        np.testing.assert_allclose(loss(ids, scores, given_weights), expected, **close)
    of_pixels = np.random.default_rng(seed).random(ids.shape).astype(np.float32)
    dice = formula(DiceLoss, one_hot, scores, weights=of_pixels[..., None])
    expected = weights[0] * dice.mean() + weights[1] * (of_pixels * surprise).mean()
    np.testing.assert_allclose(loss(ids, scores, of_pixels), expected, **close)


def test_combined_under_a_mask() -> None:
    """Each of its losses sees the mask, losses inside of losses too."""
    ids, one_hot, scores = draw(1, 3, 5, 4)
    scores = 0.9 * scores + np.float32(0.1 / 4)
    mask = np.arange(5) < np.array([[5], [2], [1]])
    loss = CombinedLoss([CombinedLoss([DiceLoss()], [2.0]), crossentropy()])
    surprise = -np.log((one_hot * scores).sum(axis=-1))
    expected = 2 * formula(DiceLoss, one_hot, scores, weights=mask[..., None]).mean() + surprise[mask].mean()
    np.testing.assert_allclose(loss(ids, masked(scores, mask)), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DiceLoss(-1), "smooth"),
        (lambda: DiceLoss(float("nan")), "smooth"),
        (lambda: DiceLoss(reduction="middle"), "reduction"),
        (lambda: CombinedLoss([]), "at least one loss"),
        (lambda: CombinedLoss([DiceLoss()], [1, 2]), "a weight for each"),
        (lambda: CombinedLoss([DiceLoss()], [float("inf")]), "weights"),
        (lambda: CombinedLoss(["dice"]), "keras.Loss objects; got 'dice'"),
        (lambda: CombinedLoss([DiceLoss(reduction=None)]), "dice_loss has reduction=None"),
    ],
)
def test_wrong_arguments(make: Any, message: str) -> None:
    """Arguments of another form are refused, and the message names them."""
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("loss", "true", "pred", "weights"),
    [
        (DiceLoss(), (2, 4, 4), (2, 5, 5, 3), None),
        (DiceLoss(), (2, 4, 4, 2), (2, 4, 4, 3), None),
        (DiceLoss(), (2,), (2, 4, 4, 3), None),
        (DiceLoss(), (2,), (2, 4, 4, 1), None),
        (DiceLoss(sparse=True), (2, 4, 4, 3), (2, 4, 4, 3), None),
        (DiceLoss(sparse=False), (2, 4, 4), (2, 4, 4, 3), None),
        (DiceLoss(), (2, 4, 4), (2, 4, 4, 3), (4, 4)),
        (DiceLoss(), (2, 4, 4), (2, 4, 4, 3), (2, 4, 4, 3, 1, 1)),
    ],
)
def test_wrong_shapes(loss: Any, true: tuple[int, ...], pred: tuple[int, ...], weights: Any) -> None:
    """Shapes that do not fit are refused, not broadcast."""
    with pytest.raises(ValueError, match="got"):
        loss(np.zeros(true), np.zeros(pred), None if weights is None else np.ones(weights))


@pytest.mark.parametrize(
    "loss",
    [
        DiceLoss(),
        DiceLoss(0.5, sparse=True, ignore_class=255, reduction="sum", name="dice", dtype="float64"),
        IoULoss(2, sparse=False),
        CombinedLoss([DiceLoss(3), keras.losses.BinaryFocalCrossentropy(gamma=1)], [1, 0.5], name="both"),
    ],
)
def test_config_round_trip(loss: Any) -> None:
    """from_config(get_config()) and Keras's own serialization give a loss with the same configuration."""
    assert type(loss).from_config(loss.get_config()).get_config() == loss.get_config()
    stored = keras.saving.serialize_keras_object(loss)
    assert stored["registered_name"] == f"keraship>{type(loss).__name__}"
    assert keras.saving.deserialize_keras_object(stored).get_config() == loss.get_config()


@pytest.mark.parametrize("loss", [DiceLoss(), IoULoss(), CombinedLoss([DiceLoss(), crossentropy()])])
def test_training_in_mixed_precision(loss: Any) -> None:
    """A network in mixed_float16 with float16 scores, of unknown sizes, learns: the loss falls."""
    keras.utils.set_random_seed(0)
    ids, one_hot, _ = draw(2, 4, 6, 6, 3)
    images = one_hot + np.random.default_rng(0).normal(0, 0.1, one_hot.shape).astype(np.float32)
    inputs = keras.Input((None, None, 3))
    outputs = keras.layers.Conv2D(3, 1, activation="softmax", dtype="mixed_float16")(inputs)
    assert outputs.dtype == "float16"
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.Adam(0.05), loss=loss, jit_compile=False)
    history = model.fit(images, ids, epochs=5, batch_size=2, verbose=0, sample_weight=np.array([1, 2, 0, 1]))
    values = history.history["loss"]
    assert np.isfinite(values).all()
    assert values[-1] < values[0]
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
