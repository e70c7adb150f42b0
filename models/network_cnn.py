"""The network cnn: convolutions one after another, each at half the size of the one before."""

from __future__ import annotations

import math

import keras

from keraship.models.network_parts import convolution, enlarged, image_input, scores
from keraship.models.task import Task

_LEAST = 16  # pixels of each side at the first convolution; smaller images are enlarged
_FILTERS = (32, 64, 64, 128)


def build(task: Task) -> keras.Model:
    """Three convolutions or more, until 2 or 3 pixels are left of the shorter side, then two dense layers.

    Images smaller than 16 pixels are enlarged first. 90,000 weights for 8 x 8 digits.
    """
    inputs, x = image_input(task)
    x = enlarged(x, _LEAST)
    for stage in range(3 + int(math.log2(min(x.shape[1:3]) / _LEAST))):
        x = convolution(x, _FILTERS[min(stage, len(_FILTERS) - 1)])
        x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dropout(0.4)(x)
    x = keras.layers.Dense(128, activation="relu")(x)
    x = keras.layers.Dropout(0.4)(x)
    return keras.Model(inputs, scores(x, task), name="cnn")
