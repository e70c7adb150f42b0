"""The network finetune: each body's preprocessing, weights from a file, and two phases of training."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from keraship.errors import TrainingError
from keraship.models import task as tasks
from keraship.models.network_finetune import FAMILIES, Phases, bodies, is_frozen, preprocessed, unfreeze
from keraship.models.networks import build

BODY = "MobileNet"
CLASSES = ("a", "b")
TASK = tasks.of_images((8, 12, 1), CLASSES, maximum=16.0)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of a body's weights, whose batch normalisations have seen something."""
    body = keras.applications.MobileNet(include_top=False, weights=None, input_shape=(32, 32, 3))
    for layer in body.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(np.full(layer.moving_mean.shape, -0.1))  # above it, every relu would be 0
    path = tmp_path_factory.mktemp("weights") / "body.weights.h5"
    body.save_weights(path)
    return path


@pytest.fixture
def model(weights: Path) -> keras.Model:
    made = build("finetune", TASK, body=BODY, weights=str(weights))
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    # To compile with XLA takes far longer than a step.
    made.compile(optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
    return made


def body_of(model: keras.Model) -> Any:
    return next(layer for layer in model.layers if isinstance(layer, keras.Model))


def fit(model: keras.Model) -> list[bool]:
    """Which of the body's weights a step has changed."""
    before = [np.array(weight) for weight in body_of(model).weights]
    images = np.random.default_rng(0).uniform(0, 16, (4, 8, 12, 1)).astype("float32")
    model.fit(images, np.array([0, 1, 0, 1]), verbose=0)
    return [not np.array_equal(old, new) for old, new in zip(before, body_of(model).weights, strict=True)]


def test_every_body_of_keras_has_a_family() -> None:
    """Each network in the installed keras.applications can be the body."""
    assert set(bodies()) == {name for name in vars(keras.applications) if name[0].isupper()}


@pytest.mark.parametrize("family", FAMILIES)
def test_preprocessing(family: str) -> None:
    """The graph does to images what the family's own preprocess_input does."""
    images = np.random.default_rng(0).uniform(0, 255, (2, 5, 6, 3)).astype("float32")
    expected = import_module(f"keras.src.applications.{family}").preprocess_input(images.copy())
    inputs = keras.Input((5, 6, 3))
    made = keras.Model(inputs, preprocessed(inputs, FAMILIES[family].mode))
    restored = keras.Model.from_config(made.get_config())
    np.testing.assert_allclose(restored(images), expected, rtol=1e-5, atol=1e-4)


def test_images_reach_the_body_as_it_expects_them(model: keras.Model) -> None:
    """Grey becomes RGB, the task's brightest value the body's, and the shorter side the least that the body takes."""
    seen = keras.Model(model.input, model.get_layer("preprocessing").output)
    images = seen(np.stack([np.zeros((8, 12, 1)), np.full((8, 12, 1), 16)]).astype("float32"))
    assert images.shape == (2, 32, 48, 3)
    np.testing.assert_allclose(images[0], -1)
    np.testing.assert_allclose(images[1], 1, rtol=1e-5)


def test_larger_images() -> None:
    """image_size is the shorter side; images that are larger keep their size."""
    model = build("finetune", TASK, body=BODY, image_size=40)
    assert body_of(model).input_shape == (None, 40, 60, 3)
    model = build("finetune", tasks.of_images((48, 50, 3), CLASSES, maximum=1.0), body=BODY)
    assert body_of(model).input_shape == (None, 48, 50, 3)


def test_weights_of_a_file_are_frozen(model: keras.Model, weights: Path) -> None:
    """The body begins with the file's weights, and a step of training changes none of them, statistics neither."""
    fresh = keras.applications.MobileNet(include_top=False, weights=str(weights), input_shape=(32, 48, 3))
    for old, new in zip(fresh.weights, body_of(model).weights, strict=True):
        np.testing.assert_array_equal(old, new)
    assert is_frozen(model)
    assert not any(fit(model))


def test_a_body_without_weights_learns_from_the_first_step() -> None:
    """There is nothing in it to be kept: weights and statistics change at once."""
    model = build("finetune", TASK, body=BODY)
    model.compile("sgd", loss="sparse_categorical_crossentropy", jit_compile=False)
    assert not is_frozen(model)
    assert all(fit(model))
    moments = [layer.momentum for layer in body_of(model).layers if hasattr(layer, "momentum")]
    assert max(moments) <= 0.9


def test_unfreeze_the_top(model: keras.Model) -> None:
    """The top layers learn, at the new rate, with the same optimizer, loss and metrics; statistics stay."""
    fit(model)
    unfreeze(model, layers=5, learning_rate=0.01)
    assert type(model.optimizer) is keras.optimizers.SGD
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01)
    assert model.optimizer.momentum == 0.9
    assert model.loss == "sparse_categorical_crossentropy"
    body = body_of(model)
    changed = {weight.path for weight, has in zip(body.weights, fit(model), strict=True) if has}
    assert changed == {weight.path for layer in body.layers[-5:] for weight in layer.trainable_weights}
    assert changed == {"conv_pw_13/kernel"}
    unfreeze(model, learning_rate=0.01)
    kinds = {type(layer) for layer in body.layers if layer.trainable_weights}
    assert kinds == {keras.layers.Conv2D, keras.layers.DepthwiseConv2D}
    more = {weight.path for weight, has in zip(body.weights, fit(model), strict=True) if has}
    assert changed < more <= {weight.path for weight in body.trainable_weights}


def test_unfreeze_with_a_schedule_and_mixed_precision(weights: Path) -> None:
    """The rate may be a schedule, and the optimizer one that scales the loss."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = build("finetune", TASK, body=BODY, weights=str(weights))
    finally:
        keras.config.set_dtype_policy("float32")
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.1))
    model.compile(optimizer, loss="sparse_categorical_crossentropy", jit_compile=False)
    unfreeze(model, layers=3, learning_rate=keras.optimizers.schedules.CosineDecay(0.02, 10))
    assert float(model.optimizer.inner_optimizer.learning_rate) == pytest.approx(0.02)


def test_unfreeze_refuses() -> None:
    """A model without a body, and one that is not compiled, cannot go on."""
    with pytest.raises(TrainingError, match=r"expected a model of the network finetune; .* has no body"):
        unfreeze(build("cnn", TASK), learning_rate=0.1)
    with pytest.raises(TrainingError, match="expected a compiled model"):
        unfreeze(build("finetune", TASK, body=BODY), learning_rate=0.1)


def test_phases() -> None:
    """The second phase begins after the head's epochs, and never where nothing was frozen."""
    assert [epoch for epoch in range(6) if Phases(2).starts_second(epoch)] == [2]
    assert not any(Phases(0).starts_second(epoch) for epoch in range(6))
    for wrong in ({"head_epochs": -1}, {"head_epochs": 1, "layers": 0}, {"head_epochs": 1, "rate": 0.0}):
        with pytest.raises(TrainingError, match="expected"):
            Phases(**wrong)


def test_weights_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of other weights, of another kind, and a download that fails: what happened, and what to do."""
    other = tmp_path / "other.weights.h5"
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save_weights(other)
    with pytest.raises(TrainingError, match=r"cannot build MobileNet without its top, weights .*other.weights.h5"):
        build("finetune", TASK, body=BODY, weights=str(other))
    (tmp_path / "body.pt").touch()
    with pytest.raises(TrainingError, match=r"ends in .weights.h5 or .h5, or imagenet; got .*body.pt"):
        build("finetune", TASK, body=BODY, weights=str(tmp_path / "body.pt"))
    for proxy in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: str(tmp_path / "cache"))
    with pytest.raises(TrainingError, match=r"cannot get ImageNet's weights of MobileNet \(.*\): check the connection"):
        build("finetune", TASK, body=BODY, weights="imagenet")


def test_channels() -> None:
    """Images of 2 channels are no images that a body knows."""
    with pytest.raises(TrainingError, match=r"expected images of 1 or 3 channels .*; got 2"):
        build("finetune", tasks.of_images((32, 32, 2), CLASSES, maximum=1.0), body=BODY)
