"""Keras layers that Keras does not bring; importing this file registers them, so that saved models load."""

from __future__ import annotations

import operator
from typing import Any

import keras
import tensorflow as tf

Shape = tuple[int | None, ...]

# Where height and width stand.
_SPATIAL_AXES = {"channels_last": (1, 2), "channels_first": (2, 3)}
_TO_CHANNELS_LAST = (0, 2, 3, 1)
_TO_CHANNELS_FIRST = (0, 3, 1, 2)


@keras.saving.register_keras_serializable(package="keraship")
class BilinearUpSampling2D(keras.layers.Layer):  # type: ignore[misc]  # keras has no types
    """Enlarge images by bilinear interpolation, by a factor or to a size.

    size: by how much, as (rows, columns) or one number for both; (2, 2) where neither argument is given.
    target_size: instead, the (height, width) of the result, whatever comes in.
    data_format: "channels_last" or "channels_first"; None takes Keras's setting.

    Takes [batch, height, width, channels] of any float, integer or bool type (channels second where the format says
    so); batch, height and width may be unknown until the call. Gives the layer's compute dtype. Pixels are areas with
    their values at their centres (half-pixel centres), as in `tf.image.resize`; the mean is taken in float32.
    Raises ValueError for arguments of any other form.

    >>> BilinearUpSampling2D(target_size=(32, 48)).compute_output_shape((None, 8, 8, 3))
    (None, 32, 48, 3)
    """

    def __init__(
        self,
        size: int | tuple[int, int] | None = None,
        target_size: int | tuple[int, int] | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if size is not None and target_size is not None:
            raise ValueError(
                f"expected size or target_size, not both; got size={size!r} and target_size={target_size!r}"
            )
        self.target_size = None if target_size is None else _pair("target_size", target_size)
        self.size = None if target_size is not None else _pair("size", (2, 2) if size is None else size)
        self.data_format = _data_format(data_format)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def call(self, inputs: Any) -> Any:
        # keras.ops.image.resize takes no size that is known at the call only, and rounds integers.
        images = tf.cast(inputs, tf.float32)
        height, width = self._output_size(keras.ops.shape(images))
        if self.data_format == "channels_first":
            images = tf.transpose(images, _TO_CHANNELS_LAST)
        images = tf.image.resize(images, (height, width), method="bilinear")
        if self.data_format == "channels_first":
            images = tf.transpose(images, _TO_CHANNELS_FIRST)
        return tf.cast(images, self.compute_dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        shape = list(input_shape)
        for axis, length in zip(_SPATIAL_AXES[self.data_format], self._output_size(shape), strict=True):
            shape[axis] = length
        return tuple(shape)

    def get_config(self) -> dict[str, Any]:
        own = {"size": self.size, "target_size": self.target_size, "data_format": self.data_format}
        return {**super().get_config(), **own}

    def _output_size(self, shape: Any) -> tuple[Any, Any]:
        """Height and width of the result: numbers, tensors where known at the call only, None where unknown."""
        if self.target_size is not None:
            return self.target_size
        assert self.size is not None  # noqa: S101  # the constructor sets one of the two
        rows, columns = (shape[axis] for axis in _SPATIAL_AXES[self.data_format])
        return _times(rows, self.size[0]), _times(columns, self.size[1])


def _times(length: Any, factor: int) -> Any:
    return None if length is None else length * factor


def _pair(name: str, value: Any) -> tuple[int, int]:
    """Two whole numbers from 1 on, made of two (in a list, as JSON has it, or a tuple) or of one for both."""
    numbers = [_whole(item) for item in (value if isinstance(value, list | tuple) else (value, value))]
    if len(numbers) != 2 or any(number < 1 for number in numbers):
        raise ValueError(f"expected {name} to be two whole numbers from 1 on, or one for both; got {name}={value!r}")
    return numbers[0], numbers[1]


def _whole(value: Any) -> int:
    """The integer that a number of any library is; 0, which no caller accepts, for anything else."""
    if isinstance(value, bool):
        return 0
    try:
        return operator.index(value)
    except TypeError:
        return 0


def _data_format(value: str | None) -> str:
    chosen: Any = keras.config.image_data_format() if value is None else value
    if chosen not in tuple(_SPATIAL_AXES):
        raise ValueError(f"expected data_format to be one of {', '.join(_SPATIAL_AXES)}; got data_format={value!r}")
    return str(chosen)
