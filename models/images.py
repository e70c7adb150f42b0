"""Image files as rows: each is read through once to see that it can be used, and decoded when it is asked for.

`pipeline.py` decodes the same files with TensorFlow's operations; that both give the same pixels is tested.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keraship.models.rows import Array, Inputs
from keraship.models.task import IMAGES

JPEG, PNG = "JPEG", "PNG"
FORMATS = {".jpg": JPEG, ".jpeg": JPEG, ".png": PNG}
"""What a file that ends so must hold."""

MAXIMUM = 255.0

_SAME_FORMAT = {"MPO": JPEG}  # several JPEGs in one file, as telephones write them; the first is the picture
_CHANNELS = {"1": 1, "L": 1, "LA": 1, "RGB": 3, "RGBA": 3, "P": 3}  # transparency is left out
_MASK_MODES = ("1", "L", "P", "I", "I;16")
_MODE_OF = {1: "L", 3: "RGB"}


class BadImageError(Exception):
    """A file that cannot be used, and why."""


@dataclass(frozen=True)
class Probed:
    """What is known of an image file that was read to its end."""

    size: tuple[int, int]  # height, width
    channels: int


@dataclass(frozen=True, eq=False)
class ImageRows:
    """Image files of one class each, or with a mask each.

    images: paths, str [n]. targets: class ids, int64 [n], or paths of masks, str [n].
    shape: height, width and channels that every image is brought to.
    """

    images: Array
    targets: Array
    shape: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def has_masks(self) -> bool:
        return bool(self.targets.dtype.kind == "U")

    @property
    def labels(self) -> Array | None:
        return None if self.has_masks else self.targets

    def take(self, indices: Array) -> ImageRows:
        return ImageRows(self.images[indices], self.targets[indices], self.shape)

    def fetch(self, indices: Array) -> tuple[Inputs, Array]:
        height, width, channels = self.shape
        images = np.empty((len(indices), *self.shape), np.float32)
        for row, path in enumerate(self.images[indices]):
            images[row] = resize(decode(path, channels), (height, width))
        return {IMAGES: images}, self.fetch_targets(indices)

    def fetch_targets(self, indices: Array) -> Array:
        """The targets alone: class ids, or masks, int64 [n, height, width]."""
        if not self.has_masks:
            return self.targets[indices]
        masks = np.empty((len(indices), *self.shape[:2]), np.int64)
        for row, path in enumerate(self.targets[indices]):
            masks[row] = resize_mask(decode_mask(path), (self.shape[0], self.shape[1]))
        return masks


def probe(path: Path) -> Probed:
    """Read an image file to its end; raises BadImageError where it cannot be used."""
    with _opened(path) as image:
        if image.mode not in _CHANNELS:
            raise BadImageError(f"has colours of mode {image.mode}; expected gray or RGB of 8 bits")
        return Probed((image.height, image.width), _CHANNELS[image.mode])


def probe_mask(path: Path) -> tuple[tuple[int, int], Array]:
    """The (height, width) and the class ids of a mask, read to its end; raises BadImageError."""
    with _opened(path) as mask:
        if mask.mode not in _MASK_MODES:
            raise BadImageError(f"is a mask of mode {mask.mode}; expected one number a pixel, its class id")
        return (mask.height, mask.width), np.unique(np.asarray(mask).astype(np.int64))


def decode(path: str, channels: int) -> Array:
    """The pixels, uint8 [height, width, channels]."""
    from PIL import Image

    with Image.open(path) as image:
        pixels = np.asarray(image.convert(_MODE_OF[channels]))
    return pixels.reshape(*pixels.shape[:2], channels)


def decode_mask(path: str) -> Array:
    """The class ids, int64 [height, width]; of a palette the places in it, not its colours."""
    from PIL import Image

    with Image.open(path) as mask:
        return np.asarray(mask).astype(np.int64)


def resize(image: Array, size: tuple[int, int]) -> Array:
    """Bilinear, pixels as areas, averaging where it gets smaller: float32 [*size, channels].

    The same as `tf.image.resize(image, size, antialias=True)`, to the last few bits.
    """
    if image.shape[:2] == size:
        return image.astype(np.float32)
    rows, columns = (_weights(old, new) for old, new in zip(image.shape[:2], size, strict=True))
    resized: Array = np.einsum("hy,yxc,wx->hwc", rows, image.astype(np.float32), columns, optimize=True)
    return resized


def resize_mask(mask: Array, size: tuple[int, int]) -> Array:
    """The class of the nearest pixel: [*size]."""
    rows, columns = (_nearest(old, new) for old, new in zip(mask.shape, size, strict=True))
    return mask[rows[:, np.newaxis], columns]


def _opened(path: Path) -> Any:
    """PIL's image, with all its pixels read."""
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


def _nearest(old: int, new: int) -> Array:
    return np.minimum((np.arange(new) + 0.5) * old / new, old - 1).astype(np.int64)
