"""Rows to batches as a `keras.utils.PyDataset`: in Python, by workers, and some rows more often than others."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keraship.errors import TrainingError
from keraship.models.augment import Augmentation, batch_seed, changed
from keraship.models.rows import Array, Rows, order


class Batches(keras.utils.PyDataset):  # type: ignore[misc]  # keras has no types
    """The batches that `pipeline.batches` makes of the same arguments, epoch by epoch. Fit with `shuffle=False`.

    sample_weights: one for each row, float [n]; batches then are (inputs, targets, weights).
    workers, use_multiprocessing, max_queue_size: as Keras takes them. Processes are forked, and TensorFlow does not
    outlive that: with them there is no augmentation and no text.
    Raises TrainingError for what does not go together.
    """

    def __init__(
        self,
        rows: Rows,
        *,
        batch_size: int,
        shuffle_seed: int | None = None,
        augment: Augmentation | None = None,
        sample_weights: Array | None = None,
        first_epoch: int = 0,
        workers: int = 1,
        use_multiprocessing: bool = False,
        max_queue_size: int = 10,
    ) -> None:
        super().__init__(workers=workers, use_multiprocessing=use_multiprocessing, max_queue_size=max_queue_size)
        self._rows, self._batch_size, self._seed = rows, batch_size, shuffle_seed
        self._augment, self._epoch, self._is_within = augment, first_epoch, False
        self._weights = None if sample_weights is None else _checked(sample_weights, "sample weights", len(rows))
        self._probabilities: Array | None = None
        self._order = self._new_order()
        if use_multiprocessing and (augment is not None or self._has_text()):
            raise TrainingError("expected threads for augmentation and for text; got use_multiprocessing")

    def __len__(self) -> int:
        return -(-len(self._rows) // self._batch_size)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        start = index * self._batch_size
        numbers = self._order[start : start + self._batch_size]
        inputs, targets = self._rows.fetch(numbers)
        if self._augment is not None:
            inputs, targets = self._augmented(self._augment, inputs, targets, position=start)
        called = {name: _for_keras(value) for name, value in inputs.items()}
        weights = () if self._weights is None else (self._weights[numbers],)
        return called if len(called) > 1 else next(iter(called.values())), targets, *weights

    def on_epoch_begin(self) -> None:
        self._is_within = True

    def on_epoch_end(self) -> None:
        if self._is_within:  # Keras ends one that it never began, after a look at the first batch
            self._is_within = False
            self._epoch += 1
            self._order = self._new_order()

    def set_probabilities(self, probabilities: Array | None) -> None:
        """Draw rows with replacement, each with its probability, from the epoch that begins next on.

        probabilities: [n], none negative; they are scaled to a sum of 1. None goes back to every row once an epoch.
        Call it between two epochs, as callbacks do in `on_epoch_end`.
        """
        if probabilities is not None:
            probabilities = _checked(probabilities, "probabilities", len(self._rows))
            probabilities = probabilities / probabilities.sum()
        self._probabilities = probabilities
        self._order = self._new_order()

    def _new_order(self) -> Array:
        count = len(self._rows)
        if self._probabilities is None:
            return order(count, seed=self._seed, epoch=self._epoch)
        draw = np.random.default_rng([self._seed or 0, self._epoch, 1])
        return draw.choice(count, size=count, p=self._probabilities)

    def _augmented(
        self, augment: Augmentation, inputs: dict[str, Array], targets: Array, *, position: int
    ) -> tuple[dict[str, Array], Array]:
        seed = batch_seed(self._seed, epoch=self._epoch, position=position)
        tensors = {name: tf.constant(array) for name, array in inputs.items()}
        images, targets = changed(augment, tensors, tf.constant(targets), seed=seed)
        return {name: np.asarray(tensor) for name, tensor in images.items()}, np.asarray(targets)

    def _has_text(self) -> bool:
        inputs, _ = self._rows.fetch(np.arange(1))
        return any(array.dtype.kind == "O" for array in inputs.values())


def _checked(values: Array, what: str, count: int) -> Array:
    values = np.asarray(values, np.float64)
    if values.shape != (count,) or not np.isfinite(values).all() or values.min() < 0 or not values.sum():
        is_shaped = values.shape == (count,)
        got = "one below 0, zeros alone, NaN or infinity" if is_shaped else f"shape {list(values.shape)}"
        raise TrainingError(f"expected {what} for {count} rows, of 0 or more, not all 0; got {got}")
    return values


def _for_keras(array: Array) -> Any:
    """Keras takes text as tensors only."""
    return tf.constant(array) if array.dtype.kind == "O" else array
