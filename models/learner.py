"""A model that is trained: made for its data and its devices, fitted in one phase or two, resumed where it was left."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from keraship.errors import TrainingError
from keraship.models import pipeline
from keraship.models.augment import Augmentation
from keraship.models.callbacks import LogRate, Record, StopOnBadLoss
from keraship.models.compilation import compile_model, learning_rate, monitors
from keraship.models.config import TrainConfig
from keraship.models.data import Dataset
from keraship.models.distribution import Devices
from keraship.models.hard_mining import HardMining
from keraship.models.monitor import KeepBest, Watch
from keraship.models.network_finetune import Phases, is_frozen, unfreeze
from keraship.models.networks import build
from keraship.models.precision_recall import PrecisionRecallCurves
from keraship.models.resume import Resume
from keraship.models.run import Epoch, Run
from keraship.models.schedules import Plan
from keraship.models.sequence import Batches
from keraship.models.tensorboard import TensorBoardLogs


class Learner:
    """A new model, compiled, with all that its training needs but the run.

    Sets the seeds of Python, numpy and Keras. Raises TrainingError for what does not fit the data or the devices.
    """

    def __init__(self, config: TrainConfig, dataset: Dataset, *, devices: Devices) -> None:
        self._config, self._dataset, self._devices = config, dataset, devices
        keras.utils.set_random_seed(config.seed)
        if config.deterministic:
            tf.config.experimental.enable_op_determinism()
        self._batch_size = _batch_size(config, dataset, devices)
        self._rate = config.learning_rate * (devices.count if config.scale else 1)
        self._monitors = monitors(config, dataset.task)
        self._augment = _augmentation(config, dataset)
        with devices.scope(), _precision(config):
            self.model = build(config.network, dataset.task, rows=dataset.train, **config.network_options)
            self._phases = _phases(config, self.model)
            first = self._phases.head_epochs or config.epochs
            compile_model(self.model, config, dataset.task, plan=self._plan(first))

    def fit(self, run: Run, resume: Resume, *, on_epoch: Callable[[Epoch], None] | None) -> tuple[list[Epoch], Epoch]:
        """All epochs that are not over yet; gives all of them, and the best. Only the chief writes into the run."""

        def tell(epochs: list[Epoch]) -> None:
            if self._devices.is_chief:
                run.write_history(self._config, epochs)
            if on_epoch:
                on_epoch(epochs[-1])

        watch = Watch(*self._monitors, patience=self._config.early_stopping, past=resume.story or ())
        record = Record(watch, self._monitors, tell)
        batches = self._batches(resume.initial_epoch)
        callbacks = [*self._callbacks(run, resume, watch=watch, batches=batches), record]
        for start, end in self._parts(resume):
            if not watch.is_over:
                self._fit_part(batches, start, end, callbacks=callbacks)
        return record.epochs, record.best

    def _parts(self, resume: Resume) -> Iterator[tuple[int, int]]:
        """From and to which epoch the model is fitted at a time, having been made ready for it."""
        change, start, end = self._phases.head_epochs, resume.initial_epoch, self._config.epochs
        if start > change > 0:  # the state is that of the unfrozen model, and its optimizer's
            self._unfreeze()
        with self._devices.scope():
            resume.restore(self.model)
        if start <= change < end and change:
            if start < change:
                yield start, change
            self._unfreeze()
            start = change
        yield start, end

    def _unfreeze(self) -> None:
        rest = self._plan(self._config.epochs - self._phases.head_epochs, share=self._phases.rate)
        with self._devices.scope():
            unfreeze(self.model, layers=self._phases.layers, learning_rate=learning_rate(self._config, rest))

    def _fit_part(self, batches: Any, start: int, end: int, *, callbacks: list[Any]) -> None:
        validation = pipeline.batches(self._dataset.validation, batch_size=self._batch_size, deterministic=True)
        self._devices.prepare(self.model, next(iter(validation)))
        with self._devices.together():
            self.model.fit(
                batches,
                validation_data=self._devices.by_rows(validation),
                initial_epoch=start,
                epochs=end,
                callbacks=callbacks,
                shuffle=False,  # the batches are made of rows in a new order each time
                verbose=0,
            )

    def _batches(self, first_epoch: int) -> Any:
        config, rows = self._config, self._dataset.train
        if config.fed_by == "PyDataset":
            return Batches(
                rows,
                batch_size=self._batch_size,
                shuffle_seed=config.seed,
                augment=self._augment,
                first_epoch=first_epoch,
                workers=config.workers,
            )
        made = pipeline.batches(
            rows,
            batch_size=self._batch_size,
            shuffle_seed=config.seed,
            augment=self._augment,
            deterministic=True,
            first_epoch=first_epoch,
        )
        return self._devices.share(made)

    def _callbacks(self, run: Run, resume: Resume, *, watch: Watch, batches: Any) -> list[Any]:
        """In this order: an epoch without a loss is not told; what adds to an epoch's logs is ahead of what reads them;
        the state is saved ahead of the best epoch, which a resumed run writes anew if it was lost."""
        config, data = self._config, self._dataset
        chosen: list[Any] = [StopOnBadLoss(), LogRate()]
        if config.precision_recall:
            curves = PrecisionRecallCurves(run.precision_recall, data.validation, classes=data.task.classes)
            chosen.append(curves)
        if config.hard_mining:
            chosen.append(HardMining(batches, data.train, **config.hard_mining_options))
        chosen.append(watch)
        if self._devices.is_chief:
            chosen += [resume.saver(lambda: watch.history), KeepBest(watch, run.write_model)]
            if config.tensorboard:
                chosen.append(TensorBoardLogs(run.tensorboard))
        return chosen

    def _plan(self, epochs: int, *, share: float = 1.0) -> Plan:
        steps = math.ceil(len(self._dataset.train) / self._batch_size)
        return Plan(self._rate * share, epochs=epochs, steps_per_epoch=steps)


def _batch_size(config: TrainConfig, dataset: Dataset, devices: Devices) -> int:
    """Rows a step, of all devices together."""
    size = config.batch_size * devices.count if config.scale else config.batch_size
    if size % devices.count:
        raise TrainingError(
            f"expected a batch_size that {devices.count} devices can share; got {size}: "
            "take a multiple of their number, or --scale to give each device as many rows"
        )
    if len(dataset.train) < devices.count:
        raise TrainingError(
            f"expected a training row or more for each of {devices.count} devices; got {len(dataset.train)}"
        )
    return size


def _augmentation(config: TrainConfig, dataset: Dataset) -> Augmentation | None:
    changes = {name: None if strength is True else strength for name, strength in config.augment.items()}
    wanted = {name: strength for name, strength in changes.items() if strength is not False}
    return Augmentation(wanted, task=dataset.task) if wanted else None


def _phases(config: TrainConfig, model: Any) -> Phases:
    if not is_frozen(model):
        return Phases(0)
    epochs = config.head_epochs or max(1, config.epochs // 2)
    return Phases(epochs, layers=config.unfreeze_layers, rate=config.unfreeze_rate)


@contextlib.contextmanager
def _precision(config: TrainConfig) -> Iterator[None]:
    """What layers compute in that are made within."""
    before = keras.config.dtype_policy()
    if config.mixed_precision:
        keras.config.set_dtype_policy(f"mixed_{config.mixed_precision}")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
