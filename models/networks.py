"""The networks that can be trained, by name. Preprocessing is part of the graph, so serving can't differ from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keraship.models.choice import choose

if TYPE_CHECKING:
    import keras

INPUT = "images"
OUTPUT = "scores"


@dataclass(frozen=True)
class Task:
    """What a network is to learn: images of [height, width, channels] up to a brightest value, into so many classes."""

    image_shape: tuple[int, ...]
    maximum: float
    classes: int


def build(name: str, task: Task) -> keras.Model:
    """A new network with random weights: raw `images`, float32 [n, *image_shape], to `scores` [n, classes], of sum 1.

    Raises TrainingError for a name that NETWORKS does not have.
    """
    return choose("a network", name, NETWORKS)(task)


def cnn(task: Task) -> keras.Model:
    """Three convolutions over the image at twice its size, then two dense layers; 90,000 weights for 8 x 8 digits."""
    import keras

    from keraship.models.layers import BilinearUpSampling2D

    inputs = keras.Input(task.image_shape, name=INPUT)
    x = keras.layers.Rescaling(1 / task.maximum, name="rescaling")(inputs)
    x = BilinearUpSampling2D(size=(2, 2), name="upsampling")(x)
    for filters in (32, 64, 64):
        x = _convolution(x, filters)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dropout(0.4)(x)
    x = keras.layers.Dense(128, activation="relu")(x)
    x = keras.layers.Dropout(0.4)(x)
    # float32 whatever the precision of the rest: small probabilities vanish in float16.
    scores = keras.layers.Dense(task.classes, activation="softmax", dtype="float32", name=OUTPUT)(x)
    return keras.Model(inputs, scores, name="cnn")


def _convolution(x: Any, filters: int) -> Any:
    """Convolve, normalise, and halve the size."""
    import keras

    x = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)  # the normalisation has the bias
    x = keras.layers.BatchNormalization(momentum=0.95)(x)  # 34 steps an epoch: 0.99 lags behind in short runs
    x = keras.layers.Activation("relu")(x)
    return keras.layers.MaxPooling2D()(x)


NETWORKS: dict[str, Callable[[Task], keras.Model]] = {"cnn": cnn}
"""Every network by name: what builds it for a task."""
