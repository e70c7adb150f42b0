from __future__ import annotations

import keras
import numpy as np
import pytest

from keraship.errors import TrainingError
from keraship.models.layers import BilinearUpSampling2D
from keraship.models.networks import NETWORKS, Task, build

DIGITS = Task((8, 8, 1), 16.0, 10)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("task", [DIGITS, Task((16, 12, 3), 255.0, 4)])
def test_contract(name: str, task: Task) -> None:
    """Every network takes raw `images` and gives `scores`, float32 probabilities, for its task's sizes."""
    model = build(name, task)
    assert [tensor.name for tensor in model.inputs] == ["images"]
    assert model.input_shape == (None, *task.image_shape)
    assert model.layers[-1].name == "scores"
    images = np.random.default_rng(0).uniform(0, task.maximum, (3, *task.image_shape)).astype("float32")
    scores = model.predict(images, verbose=0)
    assert scores.shape == (3, task.classes)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores.sum(axis=-1), 1, rtol=1e-5)


def test_cnn_layers() -> None:
    """The digits' network rescales and enlarges inside the graph, ahead of its convolutions, and stays small."""
    model = build("cnn", DIGITS)
    kinds = [type(layer) for layer in model.layers]
    assert kinds[1:3] == [keras.layers.Rescaling, BilinearUpSampling2D]
    assert model.layers[2].output.shape == (None, 16, 16, 1)
    assert {keras.layers.BatchNormalization, keras.layers.Dropout} <= set(kinds)
    assert model.count_params() < 120_000


def test_rescaled_by_the_data_s_maximum() -> None:
    """The brightest pixel becomes 1 inside the graph."""
    model = build("cnn", DIGITS)
    rescaled = keras.Model(model.inputs, model.get_layer("rescaling").output)
    np.testing.assert_allclose(rescaled([np.full((1, 8, 8, 1), 16, "float32")]), 1)


def test_scores_in_mixed_precision() -> None:
    """Where the layers compute in float16, the scores are float32 still."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = build("cnn", DIGITS)
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.get_layer("upsampling").compute_dtype == "float16"
    assert model.predict(np.ones((1, 8, 8, 1), "float32"), verbose=0).dtype == np.float32


def test_unknown_network() -> None:
    """An unknown name is answered with the one that was meant, and the list."""
    with pytest.raises(TrainingError, match=r"out of cnn; got 'cnnn', did you mean 'cnn'\?"):
        build("cnnn", DIGITS)
