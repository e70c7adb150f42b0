"""The networks of images: cnn, resnet and segmentation, and the sizes they take."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keraship.models import task as tasks
from keraship.models.network_resnet import identity_block, projection_block
from keraship.models.networks import build
from keraship.models.task import CLASSIFICATION, SEGMENTATION, Task
from keraship.signature import TensorSpec

CLASSES = ("a", "b", "c", "d")
DIGITS = tasks.of_images((8, 8, 1), CLASSES, maximum=16.0)


@pytest.mark.parametrize("name", ["cnn", "resnet"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 20, 2), (16, 12, 3), (33, 47, 4), (130, 100, 3)])
def test_sizes(name: str, shape: tuple[int, int, int]) -> None:
    """Images of any size and number of channels get scores; a network for large ones is hardly larger."""
    model = build(name, tasks.of_images(shape, CLASSES, maximum=255.0))
    assert model.input_shape == (None, *shape)
    assert model.output_shape == (None, 4)
    assert model.count_params() < 1_000_000
    scores = model(np.full((2, *shape), 255, "float32"), training=False)
    np.testing.assert_allclose(np.sum(scores, axis=-1), 1, rtol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 7, 3), (32, 32, 1)])
def test_segmentation_sizes(shape: tuple[int, int, int]) -> None:
    """Every pixel gets scores, at sizes that cannot be halved, too."""
    model = build("segmentation", tasks.of_images(shape, CLASSES, maximum=255.0, kind=SEGMENTATION))
    assert model.output_shape == (None, *shape[:2], 4)
    scores = model(np.full((2, *shape), 255, "float32"), training=False)
    np.testing.assert_allclose(np.sum(scores, axis=-1), 1, rtol=1e-5)


@pytest.mark.parametrize(("name", "kind"), [("resnet", CLASSIFICATION), ("segmentation", SEGMENTATION)])
def test_open_sizes(name: str, kind: str) -> None:
    """A task that leaves height and width open makes a network for all of them."""
    spec = TensorSpec("images", "float32", (None, None, None, 1))
    model = build(name, Task(kind, (spec,), CLASSES, 255.0))
    for shape in ((2, 8, 8, 1), (1, 12, 20, 1)):
        scores = model(np.ones(shape, "float32"), training=False)
        assert scores.shape == (*(shape[:3] if kind == SEGMENTATION else shape[:1]), 4)


def test_cnn_layers() -> None:
    """The digits' network rescales and enlarges inside the graph, ahead of its convolutions, and stays small."""
    from keraship.models.layers import BilinearUpSampling2D

    model = build("cnn", DIGITS)
    assert [type(layer) for layer in model.layers][1:3] == [keras.layers.Rescaling, BilinearUpSampling2D]
    assert model.layers[2].output.shape == (None, 16, 16, 1)
    assert {keras.layers.BatchNormalization, keras.layers.Dropout} <= {type(layer) for layer in model.layers}
    assert model.count_params() < 120_000


@pytest.mark.parametrize("name", ["cnn", "resnet"])
def test_rescaled_by_the_data_s_maximum(name: str) -> None:
    """The brightest pixel becomes 1 inside the graph."""
    model = build(name, DIGITS)
    rescaled = keras.Model(model.inputs, model.get_layer("rescaling").output)
    np.testing.assert_allclose(rescaled([np.full((1, 8, 8, 1), 16, "float32")]), 1)


def test_residual_blocks() -> None:
    """Where the convolutions give nothing, an identity block is relu(x), and a projection block the relu of its
    projection: both add their input."""
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 4)).astype("float32")
    inputs = keras.Input((6, 6, 4))
    identity = keras.Model(inputs, identity_block(inputs))
    projection = keras.Model(inputs, projection_block(inputs, 8, strides=2))
    for layer in (*identity.layers, *projection.layers):
        if isinstance(layer, keras.layers.Conv2D) and layer.kernel_size == (3, 3):
            layer.kernel.assign(np.zeros(layer.kernel.shape))
    np.testing.assert_allclose(identity(x), np.maximum(x, 0), atol=1e-6)
    (shortcut,) = (layer for layer in projection.layers if getattr(layer, "kernel_size", None) == (1, 1))
    projected = (
        x[:, ::2, ::2] @ np.asarray(shortcut.kernel)[0, 0] / np.sqrt(1 + 1e-3)
    )  # a fresh normalisation's epsilon
    np.testing.assert_allclose(projection(x), np.maximum(projected, 0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["cnn", "resnet"])
def test_scores_in_mixed_precision(name: str) -> None:
    """Where the layers compute in float16, the scores are float32 still."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = build(name, DIGITS)
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.get_layer("rescaling").compute_dtype == "float16"
    assert model(np.ones((1, 8, 8, 1), "float32")).dtype == "float32"
