"""Encoded images for a model: a graph that decodes, resizes and scales them, and encoded images made of pixels.

JPEG, PNG, BMP and the first frame of a GIF. They are decoded and resized as `keraship train` does it with its files:
JPEG with the accurate transform, and bilinear with antialiasing (`tf.image.resize(..., antialias=True)`), so that a
photo that is made smaller is averaged. An image of the model's own size is not touched.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from keraship import dtypes
from keraship.errors import ExportError
from keraship.exporter.wanted import SCALES
from keraship.signature import Signature, TensorSpec

Array = np.ndarray[Any, Any]

_CHANNELS = (1, 3, 4)
_RANK = 4
_OPEN_SIZE = 32  # of sample images, where the model takes any
_GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601, as everywhere
_PARALLEL = 16  # images of a batch that are decoded at a time, at most


def choose(signature: Signature, name: str) -> TensorSpec:
    """The input that takes images: `name`, or the only one that can where it is ""; raises ExportError."""
    fitting = [spec for spec in signature.inputs if _takes_images(spec)]
    if not name and len(fitting) == 1:
        return fitting[0]
    chosen = next((spec for spec in fitting if spec.name == name), None)
    if chosen is None:
        inputs = ", ".join(f"{spec.name} {spec}" for spec in signature.inputs)
        raise ExportError(
            f"expected --image-input to name an input of numbers [-1,height,width,channels], of {_CHANNELS} channels, "
            f"height and width both fixed or both free; got {name or 'no name'} for a model that takes {inputs}"
        )
    return chosen


def check_scale(spec: TensorSpec, scale: str) -> None:
    """Raise ExportError for a scale that leaves nothing of the pixels in the input's dtype."""
    if SCALES[scale] != SCALES["none"] and not dtypes.has_fractions(dtypes.by_name(spec.dtype)):
        raise ExportError(
            f"expected --image-scale none for the input {spec.name!r}, which takes {spec.dtype}; got {scale}"
        )


def read(contents: Any, spec: TensorSpec, scale: str) -> Any:
    """The input, made of encoded images, string [n], in the graph that is being built."""
    _, height, width, channels = spec.shape or ()
    size = None if height is None or width is None else (height, width)

    def one(content: Any) -> Any:
        pixels = tf.cast(_decoded(content, channels or 0), tf.float32)
        return tf.ensure_shape(pixels if size is None else _resized(pixels, size), (height, width, channels))

    images = tf.map_fn(
        one,
        contents,
        fn_output_signature=tf.TensorSpec((height, width, channels), tf.float32),
        parallel_iterations=_PARALLEL,
    )
    factor, offset = SCALES[scale]
    if (factor, offset) != SCALES["none"]:
        images = images * factor + offset
    return _cast(images, spec.dtype)


def samples(spec: TensorSpec, rows: int) -> Array:
    """Sample pixels, uint8 [rows, height, width, channels], of the model's own size: waves, which encode small."""
    _, *shape = spec.shape or ()
    height, width, channels = (size or _OPEN_SIZE for size in shape)
    random = np.random.default_rng(0)
    y, x = np.mgrid[0:height, 0:width]
    frequency, phase = (
        random.uniform(0.02, 0.6, (2, rows, 1, 1, channels)),
        random.uniform(0, 6, (rows, 1, 1, channels)),
    )
    wave = np.sin(frequency[0] * y[..., None] + frequency[1] * x[..., None] + phase)
    return np.asarray(np.round(127.5 + 127.5 * wave), np.uint8)


def scaled(pixels: Array, spec: TensorSpec, scale: str) -> Array:
    """What the model gets for these pixels, without TensorFlow's doing."""
    factor, offset = (np.float32(number) for number in SCALES[scale])
    return np.asarray(pixels.astype(np.float32) * factor + offset).astype(dtypes.by_name(spec.dtype).numpy)


def encode(pixels: Array) -> Array:
    """PNGs of these pixels: an object array of bytes, [rows]."""
    encoded = np.empty(len(pixels), object)
    encoded[:] = [tf.io.encode_png(image).numpy() for image in pixels]
    return encoded


def _takes_images(spec: TensorSpec) -> bool:
    if spec.shape is None or len(spec.shape) != _RANK or dtypes.by_name(spec.dtype).numpy.kind not in "fViu":
        return False
    rows, height, width, channels = spec.shape
    return rows is None and channels in _CHANNELS and (height is None) == (width is None)


def _decoded(content: Any, channels: int) -> Any:
    """uint8 [height, width, channels]."""

    def by_format() -> Any:
        return tf.io.decode_image(content, channels, expand_animations=False)

    def jpeg() -> Any:
        return tf.io.decode_jpeg(content, channels, dct_method="INTEGER_ACCURATE")

    if channels == 4:  # red, green, blue, alpha, which JPEG hasn't
        return by_format()
    if channels == 1:  # TensorFlow makes grey of JPEG and PNG alone
        start = tf.strings.substr(content, 0, 2)
        is_other = tf.logical_or(tf.equal(start, b"GI"), tf.equal(start, b"BM"))
        return tf.case([(tf.io.is_jpeg(content), jpeg), (is_other, lambda: _grey(content))], default=by_format)
    return tf.cond(tf.io.is_jpeg(content), jpeg, by_format)


def _grey(content: Any) -> Any:
    colours = tf.cast(tf.io.decode_image(content, expand_animations=False)[..., :3], tf.float32)
    weights = tf.constant(_GREY)[: tf.shape(colours)[-1]]
    grey = tf.reduce_sum(colours * weights, axis=-1, keepdims=True) / tf.reduce_sum(weights)
    return tf.saturate_cast(tf.round(grey), tf.uint8)


def _resized(pixels: Any, size: tuple[int, int]) -> Any:
    is_sized = tf.reduce_all(tf.equal(tf.shape(pixels)[:2], size))  # no "==": it compares objects in a v1 graph
    return tf.cond(is_sized, lambda: pixels, lambda: tf.image.resize(pixels, size, antialias=True))


def _cast(images: Any, dtype: str) -> Any:
    if dtypes.has_fractions(dtypes.by_name(dtype)):
        return tf.cast(images, dtype)
    return tf.saturate_cast(tf.round(images), dtype)
