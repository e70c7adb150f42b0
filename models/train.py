"""One training run, from its configuration to the best epoch on disk and how good it is."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keraship.bundle import Quality
from keraship.errors import TrainingError
from keraship.extras import require
from keraship.intervals import wilson
from keraship.models.config import TrainConfig
from keraship.models.data import Dataset, Split, load
from keraship.models.networks import Task, build
from keraship.models.run import Epoch, Run, open_run
from keraship.quiet import import_tensorflow


@dataclass(frozen=True)
class TrainResult:
    """Where a run's files are (Run says what is in them), its epochs, and the best one's accuracy on the test split."""

    model: Path
    test: Path
    history: Path
    epochs: tuple[Epoch, ...]
    best_epoch: int
    quality: Quality


def train(config: TrainConfig, *, on_epoch: Callable[[Epoch], None] | None = None) -> TrainResult:
    """Train a network; keep the epoch with the best validation accuracy (then loss), and judge it on the test split.

    on_epoch: called after every epoch, when its files are written.
    Sets the seeds of Python, numpy and Keras. Raises TrainingError where the folder cannot be used, before anything
    is trained, and where the loss becomes NaN or infinite; MissingExtra where a package is not installed.
    """
    require("train", "tensorflow", "keras", "sklearn")
    run = open_run(config.out, overwrite=config.overwrite)
    dataset = load(config.data, seed=config.seed)
    model = _new_model(config, dataset)
    run.clear()
    run.write_test(dataset.test)
    epochs, best = _fit(model, run, config, dataset=dataset, on_epoch=on_epoch)
    quality = _judge(run.best, dataset.test)
    run.write_history(config, epochs, quality)
    return TrainResult(run.best, run.test, run.history, tuple(epochs), best.number, quality)


def _new_model(config: TrainConfig, dataset: Dataset) -> Any:
    _choose_backend()
    import_tensorflow()
    import keras

    keras.utils.set_random_seed(config.seed)
    model = build(config.network, Task(dataset.image_shape, dataset.maximum, len(dataset.classes)))
    steps = -(-len(dataset.train) // config.batch_size) * config.epochs
    # Falling to 0, the last epochs differ little: without it, a lucky epoch on few validation images is taken as best.
    rate = keras.optimizers.schedules.CosineDecay(config.learning_rate, steps)
    model.compile(keras.optimizers.Adam(rate), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def _choose_backend() -> None:
    """Keras on TensorFlow, whatever its configuration file says; who asked for another by name is told."""
    chosen = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if chosen != "tensorflow":
        raise TrainingError(f"expected KERAS_BACKEND to be tensorflow or unset; got {chosen!r}")


def _fit(
    model: Any, run: Run, config: TrainConfig, *, dataset: Dataset, on_epoch: Callable[[Epoch], None] | None
) -> tuple[list[Epoch], Epoch]:
    """All epochs, and the best of them."""
    from keraship.models.callbacks import Record, StopOnBadLoss

    record = Record(run, config, on_epoch=on_epoch)
    model.fit(
        dataset.train.images,
        dataset.train.labels,
        validation_data=(dataset.validation.images, dataset.validation.labels),
        epochs=config.epochs,
        batch_size=config.batch_size,
        callbacks=[StopOnBadLoss(), record],  # in this order: an epoch without a loss is not recorded
        verbose=0,
    )
    return record.epochs, record.best


def _judge(model: Path, test: Split) -> Quality:
    """The accuracy of a saved model: of the file, as the next step will load it."""
    import keras

    scores = keras.saving.load_model(model, compile=False).predict(test.images, verbose=0)  # [n, classes]
    right = int((scores.argmax(axis=-1) == test.labels).sum())
    low, high = wilson(right, len(test))
    return Quality("accuracy", right / len(test), low, high, len(test))
