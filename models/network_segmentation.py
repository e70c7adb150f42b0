"""The network segmentation: an encoder that makes images smaller, and a decoder that leads back to every pixel.

Source: O. Ronneberger et al., U-Net, 2015; enlarged by interpolation, which leaves no chequerboard.
"""

from __future__ import annotations

from typing import Any

import keras

from keraship.models.layers import BilinearUpSampling2D
from keraship.models.network_parts import convolution, image_input, scores
from keraship.models.task import Task

_FILTERS = (32, 64, 128)  # at the images' size, at half, at a quarter


def build(task: Task) -> keras.Model:
    """Scores for every pixel; images of any size, of a multiple of 4 pixels where the task leaves the size open."""
    inputs, x = image_input(task)
    encoded = []
    for filters in _FILTERS[:-1]:
        x = _twice(x, filters)
        encoded.append(x)
        x = keras.layers.MaxPooling2D(padding="same")(x)
    x = _twice(x, _FILTERS[-1])
    x = keras.layers.Dropout(0.3)(x)
    for filters, features in zip(reversed(_FILTERS[:-1]), reversed(encoded), strict=True):
        x = keras.layers.Concatenate()([_enlarged(x, features), features])
        x = _twice(x, filters)
    return keras.Model(inputs, scores(x, task), name="segmentation")


def _twice(x: Any, filters: int) -> Any:
    return convolution(convolution(x, filters), filters)


def _enlarged(x: Any, features: Any) -> Any:
    """As large as the features it will stand beside, which an odd number of pixels keeps from being twice as large."""
    size = features.shape[1:3]
    upsampling = BilinearUpSampling2D(size=2) if None in size else BilinearUpSampling2D(target_size=size)
    return upsampling(x)
