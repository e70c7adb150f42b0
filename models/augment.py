"""Random changes to training images, and to their masks alike: Keras' layers by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from keraship.errors import TrainingError
from keraship.models.choice import choose
from keraship.models.task import IMAGES, Task

_Maker = Callable[[Any, float], Any]

AUGMENTATIONS: dict[str, tuple[Any, _Maker]] = {
    "flip": ("horizontal", lambda mode, _: keras.layers.RandomFlip(mode)),
    "rotation": (0.05, lambda factor, _: keras.layers.RandomRotation(factor, fill_mode="nearest")),
    "zoom": (0.1, lambda factor, _: keras.layers.RandomZoom(factor, fill_mode="nearest")),
    "translation": (0.1, lambda factor, _: keras.layers.RandomTranslation(factor, factor, fill_mode="nearest")),
    "contrast": (0.2, lambda factor, top: keras.layers.RandomContrast(factor, value_range=(0, top))),
}
"""Each change by name: how strong it is by default (a share of the turn, of the size, of the contrast; which way it
flips), and what makes its layer of that and the brightest value."""


class Augmentation:
    """Random changes in the order they are named.

    changes: names out of AUGMENTATIONS, or how strong each is by name. task: one with images.
    Calling it is a function of its arguments: the same seed gives the same images.
    Raises TrainingError for a name that is not there, a strength that cannot be, and a task without images.
    """

    def __init__(self, changes: Sequence[str] | Mapping[str, Any], *, task: Task) -> None:
        if not task.has_images or task.maximum is None:
            raise TrainingError(f"expected images to augment; got {', '.join(spec.name for spec in task.inputs)}")
        strengths = changes if isinstance(changes, Mapping) else dict.fromkeys(changes)
        self._layers = [_layer(name, strength, task.maximum) for name, strength in strengths.items()]

    def __call__(self, images: Any, targets: Any, *, seed: Any) -> tuple[Any, Any]:
        """Images [n, height, width, channels] and class ids [n], or masks [n, height, width], changed alike.

        seed: two whole numbers, int64 [2].
        """
        seeds = _Seeds(seed)
        has_masks = targets.shape.rank == 3
        masks = tf.cast(targets[..., tf.newaxis] if has_masks else targets, tf.float32)
        for layer in self._layers:
            change = layer.get_random_transformation(images, training=True, seed=seeds)
            images = layer.transform_images(images, change, training=True)
            if has_masks:
                masks = layer.transform_segmentation_masks(masks, change, training=True)
        return images, tf.cast(masks[..., 0], targets.dtype) if has_masks else targets


def changed(
    augmentation: Augmentation, inputs: dict[str, Any], targets: Any, *, seed: Any
) -> tuple[dict[str, Any], Any]:
    """A batch of images by input name, and its targets, after the changes."""
    images, targets = augmentation(inputs[IMAGES], targets, seed=seed)
    return {IMAGES: images}, targets


def batch_seed(seed: int | None, *, epoch: Any, position: Any) -> Any:
    """The seed of one batch: of the run's seed, the epoch's number and the first row's place in it."""
    fold = tf.random.experimental.stateless_fold_in
    of_epoch = fold(tf.constant([seed or 0, 1], tf.int64), tf.cast(epoch, tf.int64))
    return fold(of_epoch, tf.cast(position, tf.int64))  # the type tells too


class _Seeds(keras.random.SeedGenerator):  # type: ignore[misc]  # keras has no types
    """A new seed for every draw, all of them following from one; Keras' own counts in a variable, so the order in which
    batches are made would tell."""

    def __init__(self, seed: Any) -> None:  # no super(): it would make that variable
        self._seed, self._draws = seed, 0

    def next(self, ordered: bool = True) -> Any:
        self._draws += 1
        return tf.random.experimental.stateless_fold_in(self._seed, self._draws)


def _layer(name: str, strength: Any, maximum: float) -> Any:
    default, make = choose("an augmentation", name, AUGMENTATIONS)
    try:
        return make(default if strength is None else strength, maximum)
    except ValueError as error:
        raise TrainingError(f"expected a strength that {name!r} can have, as {default!r}; got {strength!r}") from error
