"""Rows to batches with tf.data: parse, decode, resize, shuffle, batch, augment, prefetch."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from keraship.image_files import FORMATS, JPEG
from keraship.models.augment import Augmentation, batch_seed, changed
from keraship.models.images import ImageRows
from keraship.models.rows import Array, ArrayRows, Rows, order
from keraship.models.task import IMAGES

Tensors = tuple[dict[str, Any], Any]


def batches(
    rows: Rows,
    *,
    batch_size: int,
    shuffle_seed: int | None = None,
    augment: Augmentation | None = None,
    deterministic: bool = False,
    repeat: bool = False,
    first_epoch: int = 0,
) -> Any:
    """A tf.data.Dataset of (inputs, targets): a dict by input name, or the tensor itself where there is one input.

    Every iteration is one epoch; the last batch has the rows that are left. repeat: all epochs without an end, a batch
    never across two.
    shuffle_seed: each epoch takes the rows in another order, that of `rows.order`; None keeps them as they are.
    augment: changes every batch at random, by the same seed.
    deterministic: batches in their order whichever is ready first, so that two runs see the same.
    first_epoch: the number of the first iteration's epoch, for a training that goes on.
    """
    dataset = _row_numbers(len(rows), shuffle_seed, itertools.count(first_epoch))
    dataset = _fetched(dataset, rows, batch_size)
    if augment is not None:
        dataset = dataset.map(_augmented(augment, shuffle_seed), tf.data.AUTOTUNE)
    dataset = dataset.map(lambda *parts: (_as_called(parts[2]), parts[3]))
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(-(-len(rows) // batch_size)))
    if repeat:
        dataset = dataset.repeat()
    options = tf.data.Options()
    options.deterministic = deterministic
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)


def _row_numbers(count: int, seed: int | None, epochs: Iterator[int]) -> Any:
    """Of every row in an epoch: the epoch's number, the place in it, the row's number; int64 all."""

    def one_epoch() -> Iterator[tuple[int, Array, Array]]:
        epoch = next(epochs)
        yield epoch, np.arange(count), order(count, seed=seed, epoch=epoch)

    whole = tf.TensorSpec((None,), tf.int64)
    made = tf.data.Dataset.from_generator(one_epoch, output_signature=(tf.TensorSpec((), tf.int64), whole, whole))
    return made.flat_map(
        lambda epoch, places, numbers: tf.data.Dataset.from_tensor_slices(
            (tf.fill(tf.shape(numbers), epoch), places, numbers)
        )
    )


def _fetched(dataset: Any, rows: Rows, batch_size: int) -> Any:
    """Batches of (epoch, the first row's place, inputs, targets)."""
    if isinstance(rows, ImageRows):  # one by one, since files have many sizes, and several at once
        decode = _decoding(rows)
        dataset = dataset.map(lambda epoch, place, number: (epoch, place, *decode(number)), tf.data.AUTOTUNE)
        dataset = dataset.batch(batch_size)
        return dataset.map(lambda epochs, places, inputs, targets: (epochs[0], places[0], inputs, targets))
    fetch = _gathering(rows) if isinstance(rows, ArrayRows) else _calling(rows)
    dataset = dataset.batch(batch_size)
    return dataset.map(lambda epochs, places, numbers: (epochs[0], places[0], *fetch(numbers)), tf.data.AUTOTUNE)


def _gathering(rows: ArrayRows) -> Any:
    """Rows in memory, by their numbers."""
    with tf.device("CPU"):
        inputs = {name: tf.constant(array) for name, array in rows.inputs.items()}
        targets = tf.constant(rows.targets)

    def fetch(numbers: Any) -> Tensors:
        return {name: tf.gather(tensor, numbers) for name, tensor in inputs.items()}, tf.gather(targets, numbers)

    return fetch


def _calling(rows: Rows) -> Any:
    """Rows of any other kind, by their own fetch."""
    inputs, targets = rows.fetch(np.arange(1))
    arrays = [*inputs.values(), targets]
    types = [tf.string if array.dtype.kind in "OSU" else tf.as_dtype(array.dtype) for array in arrays]

    def call(numbers: Array) -> list[Array]:
        fetched, targets = rows.fetch(numbers)
        return [*(fetched[name] for name in inputs), targets]

    def fetch(numbers: Any) -> Tensors:
        tensors = tf.numpy_function(call, [numbers], types)
        for tensor, array in zip(tensors, arrays, strict=True):
            tensor.set_shape((None, *array.shape[1:]))
        return dict(zip(inputs, tensors[:-1], strict=True)), tensors[-1]

    return fetch


def _decoding(rows: ImageRows) -> Any:
    """One image file and its target, by its number."""
    paths, is_jpeg = tf.constant(list(map(os.fsencode, rows.images))), tf.constant(_is_jpeg(rows.images))
    targets = None if rows.has_masks else tf.constant(rows.targets)

    def target(number: Any) -> Any:
        if targets is not None:
            return tf.gather(targets, number)
        # TensorFlow gives a palette's colours; in a mask the places in it are the classes.
        mask = tf.numpy_function(lambda row: rows.fetch_targets(np.array([row]))[0], [number], tf.int64)
        return tf.ensure_shape(mask, rows.shape[:2])

    def decode(number: Any) -> Tensors:
        content = tf.io.read_file(tf.gather(paths, number))
        image = _pixels(content, tf.gather(is_jpeg, number), rows.shape)
        return {IMAGES: image}, target(number)

    return decode


def _is_jpeg(paths: Array) -> Array:
    return np.array([FORMATS[f".{path.rpartition('.')[2].lower()}"] == JPEG for path in paths.tolist()], bool)


def _pixels(content: Any, is_jpeg: Any, shape: tuple[int, int, int]) -> Any:
    """A file's image, float32 [*shape]. The accurate transform is what other decoders take, bit for bit."""
    height, width, channels = shape
    image = tf.cond(
        is_jpeg,
        lambda: tf.io.decode_jpeg(content, channels, dct_method="INTEGER_ACCURATE"),
        lambda: tf.io.decode_png(content, channels),
    )
    image = tf.cast(image, tf.float32)
    is_sized = tf.reduce_all(tf.shape(image)[:2] == [height, width])
    image = tf.cond(is_sized, lambda: image, lambda: tf.image.resize(image, (height, width), antialias=True))
    return tf.ensure_shape(image, shape)


def _augmented(augment: Augmentation, seed: int | None) -> Any:
    def change(epoch: Any, position: Any, inputs: dict[str, Any], targets: Any) -> Any:
        of_batch = batch_seed(seed, epoch=epoch, position=position)
        return epoch, position, *changed(augment, inputs, targets, seed=of_batch)

    return change


def _as_called(inputs: dict[str, Any]) -> Any:
    """What a Keras model of these inputs takes: a dict where there are several, and no dict of one."""
    return inputs if len(inputs) > 1 else next(iter(inputs.values()))
