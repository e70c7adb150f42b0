from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keraship.models.layers import BilinearUpSampling2D

LENGTH = st.integers(1, 9)
FACTOR = st.integers(1, 5)


def images(*shape: int, dtype: str = "float32") -> Any:
    return (np.random.default_rng(0).random(shape) * 100).astype(dtype)


def reference(x: Any, size: tuple[int, int]) -> Any:
    return tf.image.resize(x, size, method="bilinear").numpy()


def half_pixel(x: Any, length: int, axis: int) -> Any:
    """Bilinear interpolation along one axis, written down from its definition."""
    centres = np.clip((np.arange(length) + 0.5) * x.shape[axis] / length - 0.5, 0, x.shape[axis] - 1)
    low = np.floor(centres).astype(int)
    high = np.minimum(low + 1, x.shape[axis] - 1)
    weight = (centres - low).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    return np.take(x, low, axis) * (1 - weight) + np.take(x, high, axis) * weight


@settings(max_examples=40, deadline=None)
@given(batch=st.integers(0, 3), height=LENGTH, width=LENGTH, channels=st.integers(1, 4), rows=FACTOR, columns=FACTOR)
def test_factor(batch: int, height: int, width: int, channels: int, rows: int, columns: int) -> None:
    """Enlarging by a factor is tf.image.resize, for any image and any factors, and interpolation by definition."""
    x = images(batch, height, width, channels)
    result = BilinearUpSampling2D((rows, columns))(x)
    np.testing.assert_array_equal(result, reference(x, (height * rows, width * columns)))
    by_definition = half_pixel(half_pixel(x, height * rows, 1), width * columns, 2)
    np.testing.assert_allclose(result, by_definition, rtol=1e-4, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(height=LENGTH, width=LENGTH, target=st.tuples(st.integers(1, 20), st.integers(1, 20)))
def test_target_size(height: int, width: int, target: tuple[int, int]) -> None:
    """A target size is met from any image, larger or smaller."""
    x = images(2, height, width, 3)
    np.testing.assert_array_equal(BilinearUpSampling2D(target_size=target)(x), reference(x, target))


@pytest.mark.parametrize("size", [(2, 2), (3, 1)])
def test_equals_keras(size: tuple[int, int]) -> None:
    """Where Keras can (float, known sizes), its own layer gives the same."""
    x = images(2, 5, 7, 3)
    expected = keras.layers.UpSampling2D(size, interpolation="bilinear")(x)
    np.testing.assert_array_equal(BilinearUpSampling2D(size)(x), expected)


@pytest.mark.parametrize("arguments", [{"size": (2, 3)}, {"target_size": (10, 21)}])
@pytest.mark.parametrize("shape", [(None, None, None, 3), (None, 5, None, 3), (2, None, 7, 3), (2, 5, 7, 3), None])
def test_sizes_known_at_the_call_only(arguments: dict[str, Any], shape: Any) -> None:
    """Traced with any of batch, height and width unknown, or even the rank, it gives what it gives eagerly."""
    layer = BilinearUpSampling2D(**arguments)
    x = images(2, 5, 7, 3)
    traced = tf.function(
        lambda value: layer(tf.ensure_shape(value, (None, None, None, 3))),
        input_signature=[tf.TensorSpec(shape, tf.float32)],
    )
    np.testing.assert_array_equal(traced(x), reference(x, (10, 21)))


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_one_model_takes_images_of_every_size(data_format: str) -> None:
    """A functional model with unknown sizes declares them as unknown, and answers for several, in either format."""
    first = data_format == "channels_first"
    inputs = keras.Input((3, None, None) if first else (None, None, 3))
    model = keras.Model(inputs, BilinearUpSampling2D(2, data_format=data_format)(inputs))
    assert model.output_shape == ((None, 3, None, None) if first else (None, None, None, 3))
    for height, width in ((4, 6), (5, 3)):
        x = images(2, height, width, 3)
        given_ = x.transpose(0, 3, 1, 2) if first else x
        result = model(given_).numpy()
        expected = reference(x, (2 * height, 2 * width))
        np.testing.assert_array_equal(result.transpose(0, 2, 3, 1) if first else result, expected)


@pytest.mark.parametrize(
    ("arguments", "given_shape", "expected"),
    [
        ({}, (None, 4, 5, 3), (None, 8, 10, 3)),
        ({"size": 3}, (2, None, 5, None), (2, None, 15, None)),
        ({"size": [2, 1]}, (2, 4, None, 1), (2, 8, None, 1)),
        ({"target_size": (7, 9)}, (None, None, None, 3), (None, 7, 9, 3)),
        ({"size": (2, 3), "data_format": "channels_first"}, (None, 3, 4, None), (None, 3, 8, None)),
    ],
)
def test_declared_shape(arguments: dict[str, Any], given_shape: Any, expected: Any) -> None:
    """compute_output_shape tells what is known, and None for what is not."""
    assert BilinearUpSampling2D(**arguments).compute_output_shape(given_shape) == expected


@pytest.mark.parametrize("given_dtype", ["float16", "float32", "float64", "uint8", "int32", "int64", "bool"])
@pytest.mark.parametrize("policy", ["float32", "float16", "bfloat16", "mixed_float16", "float64"])
def test_result_has_the_compute_dtype(given_dtype: str, policy: str) -> None:
    """Whatever comes in, integers with their fractions too, the result has the compute dtype, in graphs as declared."""
    x = images(1, 3, 3, 2, dtype=given_dtype)
    layer = BilinearUpSampling2D(2, dtype=policy)
    result = layer(x)
    assert result.dtype == layer.compute_dtype == layer(keras.KerasTensor(x.shape, given_dtype)).dtype
    tolerance = {"float32": 1e-6, "float64": 1e-6, "bfloat16": 1e-2}.get(layer.compute_dtype, 1e-3)
    expected = reference(x.astype("float32"), (6, 6))
    np.testing.assert_allclose(tf.cast(result, tf.float32), expected, rtol=2 * tolerance, atol=tolerance)


def test_large_integers_in_half_precision() -> None:
    """Integers beyond float16 are averaged before they are cast: 60000 and -60000 meet at 0."""
    x = np.array([[[[90000], [-90000]]]], "int32")
    middle = BilinearUpSampling2D(target_size=(1, 1), dtype="float16")(x)
    assert float(middle[0, 0, 0, 0]) == 0


def test_gradient() -> None:
    """What is learnt behind it reaches what is ahead: each result pixel's weight comes back to its sources."""
    x = tf.Variable(images(1, 3, 4, 1))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(BilinearUpSampling2D((2, 3))(x))
    np.testing.assert_allclose(tf.reduce_sum(tape.gradient(total, x)), 3 * 4 * 6, rtol=1e-5)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"size": (3, 1), "name": "up", "dtype": "mixed_float16"},
        {"target_size": (5, 6), "data_format": "channels_first"},
    ],
)
def test_config_round_trip(arguments: dict[str, Any]) -> None:
    """from_config(get_config()) and Keras's own serialization give a layer with the same configuration."""
    layer = BilinearUpSampling2D(**arguments)
    assert BilinearUpSampling2D.from_config(layer.get_config()).get_config() == layer.get_config()
    stored = keras.saving.serialize_keras_object(layer)
    assert stored["registered_name"] == "keraship>BilinearUpSampling2D"
    assert keras.saving.deserialize_keras_object(stored).get_config() == layer.get_config()


@pytest.mark.parametrize(
    "arguments",
    [
        {"size": (2, 2), "target_size": (4, 4)},
        {"size": 0},
        {"size": (2, -1)},
        {"size": (2, 2, 2)},
        {"size": (2,)},
        {"size": 1.5},
        {"size": True},
        {"size": "2"},
        {"size": (2, None)},
        {"target_size": (0, 4)},
        {"target_size": (4, 4.0)},
        {"target_size": "large"},
        {"data_format": "channels_middle"},
        {"data_format": ["channels_last"]},
        {"factor": 2},
    ],
)
def test_wrong_arguments(arguments: dict[str, Any]) -> None:
    """Arguments of another form are refused, and the message repeats them."""
    with pytest.raises(ValueError, match=next(iter(arguments))):
        BilinearUpSampling2D(**arguments)


@pytest.mark.parametrize("shape", [(4, 4, 1), (1, 2, 4, 4, 1)])
def test_wrong_rank(shape: tuple[int, ...]) -> None:
    """Only batches of images are taken."""
    with pytest.raises(ValueError, match="ndim=4"):
        BilinearUpSampling2D()(images(*shape))


LOAD = """
import sys
import keras, numpy
import keraship.models.layers
model = keras.saving.load_model(sys.argv[1])
arrays = numpy.load(sys.argv[2])
numpy.testing.assert_array_equal(model(arrays["x"]), arrays["y"])
for layer in model.layers[-2:]:
    print(layer.get_config())
"""


def test_saved_model_in_a_fresh_process(tmp_path: Path) -> None:
    """A saved model loads in a process that imports this file and nothing else of ours, and answers the same."""
    inputs = keras.Input((None, None, 3))
    larger = BilinearUpSampling2D((2, 3))(keras.layers.Conv2D(4, 3, padding="same")(inputs))
    model = keras.Model(inputs, BilinearUpSampling2D(target_size=(9, 9))(larger))
    model.save(tmp_path / "model.keras")
    x = images(2, 4, 5, 3)
    np.savez(tmp_path / "arrays.npz", x=x, y=model(x).numpy())
    command = [sys.executable, "-c", LOAD, str(tmp_path / "model.keras"), str(tmp_path / "arrays.npz")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(layer.get_config()) for layer in model.layers[-2:]]
