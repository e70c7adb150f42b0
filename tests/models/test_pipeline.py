from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keraship.errors import TrainingError
from keraship.image_files import resize
from keraship.models import task as tasks
from keraship.models.augment import AUGMENTATIONS, Augmentation, batch_seed
from keraship.models.data import ArrayRows, Dataset, fetch_all, load, order
from keraship.models.images import resize_mask
from keraship.models.pipeline import batches
from keraship.models.rows import Array, Inputs
from keraship.models.sequence import Batches

RNG = np.random.default_rng(0)


def smooth(height: int, width: int, channels: int) -> Array:
    coarse = RNG.integers(0, 256, (4, 4, channels)).astype(np.uint8)
    image = Image.fromarray(coarse if channels == 3 else coarse[..., 0])
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Images of many sizes: JPEG and PNG, with colours, gray, transparent and with a palette."""
    root = tmp_path_factory.mktemp("photos")
    kinds = [("jpg", "RGB"), ("png", "RGB"), ("png", "RGBA"), ("png", "P"), ("jpg", "L"), ("png", "L"), ("png", "1")]
    for name in "ab":
        (root / name).mkdir()
        for number in range(14):
            ending, mode = kinds[number % len(kinds)]
            image = Image.fromarray(smooth(*RNG.integers(12, 50, 2), 3)).convert(mode)
            image.save(root / name / f"{number}.{ending}")
    return load(root, seed=0, image_size=(20, 24))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Images whose pixels tell their class, in blocks, with masks."""
    root = tmp_path_factory.mktemp("scenes")
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    for number in range(10):
        ids = np.kron(RNG.integers(0, 3, (3, 3)), np.ones((8, 8), np.int64)).astype(np.uint8)
        Image.fromarray(ids).save(root / "masks" / f"{number}.png")
        Image.fromarray(ids * 100).save(root / "images" / f"{number}.png")
    return load(root, seed=0)


class Elsewhere:
    """Rows of a kind that nobody knows."""

    def __init__(self, rows: ArrayRows) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def fetch(self, indices: Array) -> tuple[Inputs, Array]:
        return self._rows.fetch(indices)


MIXED = ArrayRows(
    {"x": np.arange(23, dtype=np.float32), "s": np.array([f"na\u00efve {n}" for n in range(23)], object)},
    np.arange(23) % 2,
)


def end_epoch(sequence: Batches) -> None:
    """As Keras does."""
    sequence.on_epoch_begin()
    sequence.on_epoch_end()


def as_numpy(batch: Any) -> list[Array]:
    return [np.asarray(part) for part in tf.nest.flatten(batch)]


def assert_same(one: Any, other: Any, *, atol: float = 0.0) -> None:
    for left, right in zip(as_numpy(one), as_numpy(other), strict=True):
        assert left.shape == right.shape
        if left.dtype == object:
            assert left.tolist() == right.tolist()
        else:
            np.testing.assert_allclose(left, right, atol=atol, rtol=0)


@pytest.mark.parametrize("name", ["files", "masks", "arrays", "others"])
def test_pipeline_and_sequence_are_the_same(name: str, photos: Dataset, scenes: Dataset) -> None:
    """tf.data and PyDataset give equal batches over two epochs: of files, masks, arrays and other rows."""
    rows = {"files": photos.train, "masks": scenes.train, "arrays": MIXED, "others": Elsewhere(MIXED)}[name]
    dataset = batches(rows, batch_size=5, shuffle_seed=7, deterministic=True)
    sequence = Batches(rows, batch_size=5, shuffle_seed=7)
    seen = []
    for _ in range(2):
        epoch = list(dataset)
        assert len(epoch) == len(sequence) == int(dataset.cardinality()) == -(-len(rows) // 5)
        for number, batch in enumerate(epoch):
            assert_same(batch, sequence[number], atol=2e-3)  # of 255: two decoders, two ways to add up
        seen.append(as_numpy(epoch))
        end_epoch(sequence)
    assert any(not np.array_equal(a, b) for a, b in zip(*seen, strict=True))


def test_deterministic(photos: Dataset) -> None:
    """The same arguments give the same batches, augmented ones too, and a later epoch can be begun with."""
    augment = Augmentation(list(AUGMENTATIONS), task=photos.task)
    again = Augmentation(list(AUGMENTATIONS), task=photos.task)
    one = batches(photos.train, batch_size=4, shuffle_seed=1, augment=augment, deterministic=True)
    other = batches(photos.train, batch_size=4, shuffle_seed=1, augment=again, deterministic=True)
    later = batches(photos.train, batch_size=4, shuffle_seed=1, augment=augment, deterministic=True, first_epoch=1)
    sequence = Batches(photos.train, batch_size=4, shuffle_seed=1, augment=augment, first_epoch=1)
    assert_same(list(one), list(other))
    second = list(one)
    assert_same(second, list(later))
    for number, batch in enumerate(second):
        assert_same(batch, sequence[number], atol=0.05)  # what the first decoder's last bits make of contrast and zoom


def test_every_row_once() -> None:
    """An epoch has each row once, in the order of its seed; repeated, a batch is never of two epochs."""
    dataset = batches(MIXED, batch_size=10, shuffle_seed=3, repeat=True, deterministic=True)
    parts = [inputs["x"].numpy() for inputs, _ in dataset.take(6)]
    assert [len(part) for part in parts] == [10, 10, 3] * 2
    np.testing.assert_array_equal(np.concatenate(parts[:3]), order(23, seed=3, epoch=0))
    np.testing.assert_array_equal(np.concatenate(parts[3:]), order(23, seed=3, epoch=1))


def test_not_deterministic_is_complete(photos: Dataset) -> None:
    """Where the order is free, every row is there all the same, with its own label."""

    def pairs(parts: Any) -> list[tuple[float, int]]:
        found = [(float(np.asarray(x).sum()), int(y)) for images, labels in parts for x, y in zip(images, labels)]  # noqa: B905
        return sorted(found)

    free = pairs((x.numpy(), y.numpy()) for x, y in batches(photos.train, batch_size=4, shuffle_seed=1))
    inputs, labels = fetch_all(photos.train)
    np.testing.assert_allclose(free, pairs([(inputs["images"], labels)]), rtol=1e-5)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_masks_are_changed_as_images_are(name: str, scenes: Dataset) -> None:
    """After each change a pixel still tells its mask's class, and some have moved (or changed, by contrast)."""
    augment = Augmentation({name: 0.3} if name == "zoom" else [name], task=scenes.task)  # 24 pixels: .1 moves none
    inputs, masks = fetch_all(scenes.train)
    images, changed = augment(
        tf.constant(inputs["images"]), tf.constant(masks), seed=batch_seed(0, epoch=0, position=0)
    )
    assert changed.dtype == tf.int64
    assert set(np.unique(changed)) <= {0, 1, 2}
    assert not np.array_equal(images, inputs["images"])
    if name == "contrast":
        np.testing.assert_array_equal(changed, masks)
    else:
        assert not np.array_equal(changed, masks)
        told = np.round(np.asarray(images)[..., 0] / 100)  # the borders of blocks are mixed
        assert (told == np.asarray(changed)).mean() > 0.9


def test_wrong_augmentation(scenes: Dataset) -> None:
    """An unknown name, a strength that cannot be and rows without images are told."""
    with pytest.raises(TrainingError, match=r"an augmentation out of flip, rotation.*did you mean 'zoom'"):
        Augmentation(["zom"], task=scenes.task)
    with pytest.raises(TrainingError, match=r"a strength that 'rotation' can have, as 0.05; got 7"):
        Augmentation({"rotation": 7}, task=scenes.task)
    with pytest.raises(TrainingError, match="expected images to augment; got text"):
        Augmentation(["flip"], task=tasks.of_text(("a", "b")))


@pytest.mark.parametrize("size", [(5, 7), (20, 30), (31, 64), (13, 40)])
def test_resize(size: tuple[int, int]) -> None:
    """Larger and smaller images are TensorFlow's, and masks its nearest neighbours."""
    image = RNG.uniform(0, 255, (20, 30, 3)).astype(np.float32)
    np.testing.assert_allclose(resize(image, size), tf.image.resize(image, size, antialias=True), atol=1e-3)
    ids = RNG.integers(0, 9, (20, 30))
    expected = tf.image.resize(ids[..., None], size, method="nearest")[..., 0]
    np.testing.assert_array_equal(resize_mask(ids, size), expected)


def test_probabilities() -> None:
    """Rows are drawn as often as their probabilities say, until those are taken back."""
    rows = ArrayRows({"x": np.arange(4000, dtype=np.float32)}, np.zeros(4000, np.int64))
    sequence = Batches(rows, batch_size=1000, shuffle_seed=0)
    hard = np.where(np.arange(4000) < 400, 9.0, 1.0)  # a tenth of the rows, half of the draws
    sequence.set_probabilities(hard)
    shares = []
    for _ in range(5):
        drawn = np.concatenate([sequence[i][0] for i in range(len(sequence))])
        assert len(drawn) == 4000
        shares.append((drawn < 400).mean())
        end_epoch(sequence)
    assert np.mean(shares) == pytest.approx(0.5, abs=0.02)
    assert len(set(shares)) > 1
    sequence.set_probabilities(None)
    assert sorted(np.concatenate([sequence[i][0] for i in range(4)])) == list(range(4000))


def test_sample_weights() -> None:
    """Weights go with their rows."""
    sequence = Batches(MIXED, batch_size=10, shuffle_seed=0, sample_weights=np.arange(23) * 2.0)
    for number in range(3):
        inputs, _, weights = sequence[number]
        np.testing.assert_array_equal(weights, inputs["x"] * 2)


@pytest.mark.parametrize("values", [np.ones(5), -np.ones(23), np.zeros(23), np.full(23, np.nan)])
def test_wrong_probabilities(values: Array) -> None:
    """Those of another number, below 0, all 0 or NaN are refused."""
    with pytest.raises(TrainingError, match="probabilities for 23 rows, of 0 or more, not all 0; got"):
        Batches(MIXED, batch_size=4).set_probabilities(values)


def test_what_processes_cannot_do(photos: Dataset) -> None:
    """Text and augmentation need TensorFlow, which forked workers do not have."""
    with pytest.raises(TrainingError, match="threads for augmentation and for text"):
        Batches(MIXED, batch_size=4, use_multiprocessing=True)
    with pytest.raises(TrainingError, match="threads"):
        Batches(photos.train, batch_size=4, augment=Augmentation(["flip"], task=photos.task), use_multiprocessing=True)


def test_training_with_each(photos: Dataset) -> None:
    """From one set of weights, both give one loss, with workers and without."""

    def losses(data: Any) -> list[float]:
        keras.utils.set_random_seed(0)
        layers = [keras.Input(photos.task.image_shape), keras.layers.Rescaling(1 / 255), keras.layers.Flatten()]
        model = keras.Sequential([*layers, keras.layers.Dense(2, activation="softmax")])
        model.compile("sgd", loss="sparse_categorical_crossentropy", jit_compile=False)
        return list(model.fit(data, epochs=2, shuffle=False, verbose=0).history["loss"])

    expected = losses(batches(photos.train, batch_size=4, shuffle_seed=2, deterministic=True))
    for workers in (1, 3):
        given = losses(Batches(photos.train, batch_size=4, shuffle_seed=2, workers=workers))
        np.testing.assert_allclose(given, expected, rtol=1e-3)


def test_a_table_in_a_model() -> None:
    """Several inputs, text among them, go in by name, from both."""
    x, s = keras.Input((), name="x"), keras.Input((), name="s", dtype="string")
    lookup = keras.layers.StringLookup(vocabulary=MIXED.inputs["s"].tolist(), output_mode="one_hot")
    scores = keras.layers.Dense(2, activation="softmax")(
        keras.layers.Concatenate()([keras.layers.Reshape((1,))(x), lookup(s)])
    )
    model = keras.Model({"x": x, "s": s}, scores)
    model.compile("sgd", loss="sparse_categorical_crossentropy", jit_compile=False)
    for data in (batches(MIXED, batch_size=8), Batches(MIXED, batch_size=8)):
        assert np.isfinite(model.fit(data, shuffle=False, verbose=0).history["loss"][0])
