"""How fast images come: `python benchmarks/input_pipeline.py`.

tf.data, PyDataset (with and without workers) and a plain loop, side by side over the same JPEG files, deterministic
order, decoded and resized: images a second, and the share of a training step that is spent waiting for the batch.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from keraship.models.data import load, order
from keraship.models.images import ImageRows
from keraship.models.networks import build
from keraship.quiet import import_tensorflow

COUNT, SIDE, BATCH, EPOCHS = 300, 96, 32, 2


def main() -> None:
    import_tensorflow()
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        data = load(folder, seed=0, image_size=(24, 24))
        model = build("cnn", data.task)
        model.compile("adam", loss="sparse_categorical_crossentropy")
        print(f"{len(data.train)} JPEG files of {SIDE} x {SIDE} to 24 x 24, batches of {BATCH}, {EPOCHS} epochs")
        for name, source in sources(data.train).items():
            source_rate = rate(source)
            print(f"{name:24} {source_rate:8.0f} images/s   waiting {waiting(model, source):6.1%} of a step")


def write(root: Path) -> None:
    bunch = load_digits()
    for number in range(COUNT):
        path = root / str(bunch.target[number]) / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        digit = Image.fromarray((bunch.images[number] * 15.9).astype(np.uint8)).resize((SIDE, SIDE))
        digit.convert("RGB").save(path, quality=90)


def sources(rows: Any) -> dict[str, Callable[[], Iterable[Any]]]:
    """What gives an epoch's batches, by name."""
    from keraship.models.pipeline import batches
    from keraship.models.sequence import Batches

    dataset = batches(rows, batch_size=BATCH, shuffle_seed=0, deterministic=True)
    return {
        "tf.data": lambda: dataset,
        "PyDataset, no workers": lambda: in_turn(Batches(rows, batch_size=BATCH, shuffle_seed=0)),
        "PyDataset, 2 threads": lambda: by_threads(Batches(rows, batch_size=BATCH, shuffle_seed=0, workers=2)),
        "plain loop": lambda: plain_loop(rows),
    }


def in_turn(sequence: Any) -> Iterator[Any]:
    for number in range(len(sequence)):
        yield sequence[number]


def by_threads(sequence: Any) -> Iterator[Any]:
    """The batches from as many threads as workers are asked for, in their order, ahead of need."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(sequence.workers) as pool:
        yield from pool.map(sequence.__getitem__, range(len(sequence)))


def plain_loop(rows: ImageRows) -> Iterator[Any]:
    numbers = order(len(rows), seed=0, epoch=0)
    for start in range(0, len(rows), BATCH):
        inputs, labels = rows.fetch(numbers[start : start + BATCH])
        yield inputs["images"], labels


def rate(source: Callable[[], Iterable[Any]]) -> float:
    """Images a second with nobody else at work; the first epoch is not counted."""
    sum(1 for _ in source())
    start = time.perf_counter()
    images = sum(len(labels) for _ in range(EPOCHS) for _, labels in source())
    return images / (time.perf_counter() - start)


def waiting(model: Any, source: Callable[[], Iterable[Any]]) -> float:
    """The share of a training epoch's time in which the model has no batch to work on."""
    model.train_on_batch(*next(iter(source())))
    waited, begun = 0.0, time.perf_counter()
    before = begun
    for images, labels in source():
        waited += time.perf_counter() - before
        model.train_on_batch(images, labels)
        before = time.perf_counter()
    return waited / (time.perf_counter() - begun)


if __name__ == "__main__":
    main()
