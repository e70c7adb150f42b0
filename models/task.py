"""What a network is to learn: which inputs, which classes, one answer for a row or one for every pixel."""

from __future__ import annotations

from dataclasses import dataclass

from keraship.signature import TensorSpec

CLASSIFICATION = "classification"
SEGMENTATION = "segmentation"

IMAGES = "images"
TEXT = "text"
SCORES = "scores"


@dataclass(frozen=True)
class Task:
    """What is to be learned of a data set.

    kind: "classification" (targets int64 [n], scores [n, classes]) or "segmentation" (targets int64 [n, height, width],
    scores [n, height, width, classes]); scores are probabilities.
    inputs: `images` float32 (None, height, width, channels), or `text` string (None,), or one of (None,) for each
    column of a table: float32, int64 or string.
    classes: the name of every class id, from 0 on.
    maximum: the value of the brightest pixel there can be; None where there are no images.
    """

    kind: str
    inputs: tuple[TensorSpec, ...]
    classes: tuple[str, ...]
    maximum: float | None = None

    @property
    def has_images(self) -> bool:
        """Whether the only input is one of images."""
        return [spec.name for spec in self.inputs] == [IMAGES]

    @property
    def has_text(self) -> bool:
        """Whether the only input is one of text."""
        return [(spec.name, spec.dtype) for spec in self.inputs] == [(TEXT, "string")]

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Height, width and channels; for tasks that have images."""
        return tuple(size for size in (self.inputs[0].shape or ()) if size is not None)


def of_images(shape: tuple[int, ...], classes: tuple[str, ...], *, maximum: float, kind: str = CLASSIFICATION) -> Task:
    """The task of telling images of [height, width, channels] apart, or their pixels."""
    return Task(kind, (TensorSpec(IMAGES, "float32", (None, *shape)),), classes, maximum)


def of_text(classes: tuple[str, ...]) -> Task:
    """The task of telling texts apart."""
    return Task(CLASSIFICATION, (TensorSpec(TEXT, "string", (None,)),), classes)
