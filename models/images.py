"""Image files as rows: each is read through once to see that it can be used, and decoded when it is asked for.

`pipeline.py` decodes the same files with TensorFlow's operations; that both give the same pixels is tested.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keraship.image_files import BadImageError, decode, opened, resize
from keraship.models.rows import Array, Inputs
from keraship.models.task import IMAGES

MAXIMUM = 255.0

_CHANNELS = {"1": 1, "L": 1, "LA": 1, "RGB": 3, "RGBA": 3, "P": 3}  # transparency is left out
_MASK_MODES = ("1", "L", "P", "I", "I;16")


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
    with opened(path) as image:
        if image.mode not in _CHANNELS:
            raise BadImageError(f"has colours of mode {image.mode}; expected gray or RGB of 8 bits")
        return Probed((image.height, image.width), _CHANNELS[image.mode])


def probe_mask(path: Path) -> tuple[tuple[int, int], Array]:
    """The (height, width) and the class ids of a mask, read to its end; raises BadImageError."""
    with opened(path) as mask:
        if mask.mode not in _MASK_MODES:
            raise BadImageError(f"is a mask of mode {mask.mode}; expected one number a pixel, its class id")
        return (mask.height, mask.width), np.unique(np.asarray(mask).astype(np.int64))


def decode_mask(path: str) -> Array:
    """The class ids, int64 [height, width]; of a palette the places in it, not its colours."""
    from PIL import Image

    with Image.open(path) as mask:
        return np.asarray(mask).astype(np.int64)


def resize_mask(mask: Array, size: tuple[int, int]) -> Array:
    """The class of the nearest pixel: [*size]."""
    rows, columns = (_nearest(old, new) for old, new in zip(mask.shape, size, strict=True))
    return mask[rows[:, np.newaxis], columns]


def _nearest(old: int, new: int) -> Array:
    return np.minimum((np.arange(new) + 0.5) * old / new, old - 1).astype(np.int64)
