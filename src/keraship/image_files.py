"""Image files to arrays: checked to their end, decoded, and brought to a size as TensorFlow does it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

JPEG, PNG = "JPEG", "PNG"
FORMATS = {".jpg": JPEG, ".jpeg": JPEG, ".png": PNG}
"""What a file that ends so must hold."""

_SAME_FORMAT = {"MPO": JPEG}  # several JPEGs in one file, as telephones write them; the first is the picture
MODES = {1: "L", 3: "RGB"}
"""What images of so many channels are called."""


class BadImageError(Exception):
    """A file that cannot be used, and why."""


def opened(path: Path) -> Any:
    """PIL's image, with all its pixels read; raises BadImageError for a file that cannot be used."""
    from PIL import Image, UnidentifiedImageError

    expected = FORMATS[path.suffix.lower()]
    try:
        if not path.stat().st_size:
            raise BadImageError("is empty")
        with Image.open(path) as image:
            found = _SAME_FORMAT.get(image.format or "", image.format)
            if found == PNG:
                image.verify()  # the checksums, which load() does not look at
        if found != expected:
            raise BadImageError(f"holds {found}, but its name says {expected}")
        return _loaded(Image.open(path))
    except UnidentifiedImageError:
        raise BadImageError(f"is no image; expected {expected}") from None
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise BadImageError(f"cannot be read to its end: {error}") from error


def decode(path: str, channels: int) -> Array:
    """The pixels, uint8 [height, width, channels]."""
    from PIL import Image

    with Image.open(path) as image:
        pixels = np.asarray(image.convert(MODES[channels]))
    return pixels.reshape(*pixels.shape[:2], channels)


def resize(image: Array, size: tuple[int, int]) -> Array:
    """Bilinear, pixels as areas, averaging where it gets smaller: float32 [*size, channels].

    The same as `tf.image.resize(image, size, antialias=True)`, to the last few bits.
    """
    if image.shape[:2] == size:
        return image.astype(np.float32)
    rows, columns = (_weights(old, new) for old, new in zip(image.shape[:2], size, strict=True))
    resized: Array = np.einsum("hy,yxc,wx->hwc", rows, image.astype(np.float32), columns, optimize=True)
    return resized


def _loaded(image: Any) -> Any:
    try:
        image.load()
    except BaseException:
        image.close()
        raise
    return image


def _weights(old: int, new: int) -> Array:
    """How much of each old pixel is in each new one, float32 [new, old]: a triangle around the new one's centre."""
    scale = old / new
    centres = (np.arange(new) + 0.5) * scale
    distances = np.abs(np.arange(old) + 0.5 - centres[:, np.newaxis]) / max(scale, 1.0)
    weights = np.maximum(0.0, 1.0 - distances)
    shares: Array = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares
