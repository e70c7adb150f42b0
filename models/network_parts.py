"""What several networks begin with, end with, or are made of."""

from __future__ import annotations

import numbers
from typing import Any

import keras

from keraship.errors import TrainingError
from keraship.models.layers import BilinearUpSampling2D
from keraship.models.task import IMAGES, SCORES, SEGMENTATION, Task


def image_input(task: Task) -> tuple[Any, Any]:
    """The task's images as they come, and the same with values from 0 to 1."""
    assert task.maximum is not None  # noqa: S101  # networks.build has checked it
    inputs = keras.Input((task.inputs[0].shape or ())[1:], name=IMAGES)
    return inputs, keras.layers.Rescaling(1 / task.maximum, name="rescaling")(inputs)


def enlarged(x: Any, least: int) -> Any:
    """Images of at least so many pixels in height and width, where these are known: small ones by a whole factor."""
    rows, columns = (1 if size is None else -(-least // size) for size in x.shape[1:3])
    if rows == columns == 1:
        return x
    return BilinearUpSampling2D(size=(rows, columns), name="upsampling")(x)


def convolution(x: Any, filters: int, *, size: int = 3, strides: int = 1, activation: str | None = "relu") -> Any:
    """Convolve, normalise, activate."""
    x = keras.layers.Conv2D(filters, size, strides, padding="same", use_bias=False)(x)  # the normalisation has the bias
    x = keras.layers.BatchNormalization(momentum=0.95)(x)  # 34 steps an epoch: 0.99 lags behind in short runs
    return keras.layers.Activation(activation)(x) if activation else x


def scores(x: Any, task: Task) -> Any:
    """The probability of each class: of features [n, f], [n, classes]; of pixels [n, h, w, f], [n, h, w, classes].

    float32 whatever the precision of the rest: small probabilities vanish in float16.
    """
    if task.kind == SEGMENTATION:
        return keras.layers.Conv2D(len(task.classes), 1, activation="softmax", dtype="float32", name=SCORES)(x)
    return keras.layers.Dense(len(task.classes), activation="softmax", dtype="float32", name=SCORES)(x)


def whole_number(option: str, value: Any, *, least: int = 1) -> int:
    """The value of an option that counts something; raises TrainingError for any other."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or int(value) < least:
        raise TrainingError(f"expected {option} to be a whole number from {least} on; got {value!r}")
    return int(value)
