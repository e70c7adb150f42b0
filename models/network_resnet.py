"""The network resnet: blocks whose input is added to what they make of it.

Source: K. He et al., Deep residual learning for image recognition, 2015; with the activation after the addition.
"""

from __future__ import annotations

from typing import Any

import keras

from keraship.models.network_parts import convolution, enlarged, image_input, scores
from keraship.models.task import Task

_FILTERS = (16, 32, 64)  # of each stage, which begins at half the size of the one before
_LEAST = 16  # pixels of each side at the first block; smaller images are enlarged
_LARGE = 96  # pixels; larger images are made smaller by 4 before the first block


def build(task: Task) -> keras.Model:
    """Three stages of a projection block and an identity block, then the mean over the image; 180,000 weights."""
    inputs, x = image_input(task)
    if min(size or 0 for size in inputs.shape[1:3]) >= _LARGE:
        x = convolution(x, _FILTERS[0], size=7, strides=2)
        x = keras.layers.MaxPooling2D(3, 2, padding="same")(x)
    else:
        x = convolution(enlarged(x, _LEAST), _FILTERS[0])
    for stage, filters in enumerate(_FILTERS):
        x = projection_block(x, filters, strides=2 if stage else 1)
        x = identity_block(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(0.4)(x)
    return keras.Model(inputs, scores(x, task), name="resnet")


def identity_block(x: Any) -> Any:
    """Two convolutions, added to their input: relu(x + f(x)). Features [n, h, w, filters] keep their shape."""
    return _joined(_twice(x, x.shape[-1], strides=1), x)


def projection_block(x: Any, filters: int, *, strides: int) -> Any:
    """Two convolutions, added to a linear map of their input, which gives it the new number of filters and size."""
    return _joined(_twice(x, filters, strides), convolution(x, filters, size=1, strides=strides, activation=None))


def _twice(x: Any, filters: int, strides: int) -> Any:
    x = convolution(x, filters, strides=strides)
    return convolution(x, filters, activation=None)


def _joined(x: Any, shortcut: Any) -> Any:
    return keras.layers.Activation("relu")(keras.layers.Add()([x, shortcut]))
