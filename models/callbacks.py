"""What keeps watch over a training: it stops where the loss is no number, and tells every epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from keraship.errors import TrainingError
from keraship.models.curves import RATE
from keraship.models.monitor import Monitor, Watch, best_epoch
from keraship.models.run import Epoch, as_epoch

Logs = Mapping[str, Any] | None


class StopOnBadLoss(keras.callbacks.Callback):  # type: ignore[misc]  # keras has no types
    """Raises TrainingError as soon as the loss, in training or validation, is NaN or infinite."""

    def __init__(self) -> None:
        super().__init__()
        self._epoch = 1

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self._epoch = epoch + 1

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        self._check("loss", logs)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self._check("val_loss", logs)

    def _check(self, name: str, logs: Logs) -> None:
        value = float((logs or {})[name])
        if not math.isfinite(value):
            raise TrainingError(
                f"expected a finite {name}; it became {value} in epoch {self._epoch}: "
                "take a lower --learning-rate, and look for NaN in the data"
            )


class LogRate(keras.callbacks.Callback):  # type: ignore[misc]  # keras has no types
    """Adds `learning_rate` to every epoch's logs: that of the step after its last."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is not None:
            logs[RATE] = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))


class Record(keras.callbacks.Callback):  # type: ignore[misc]  # keras has no types
    """Makes an Epoch of what the watch has seen, and calls `on_epoch` with all of them; stands behind the watch.

    Those of a run that is resumed are there from the beginning.
    """

    def __init__(self, watch: Watch, monitors: Sequence[Monitor], on_epoch: Callable[[list[Epoch]], None]) -> None:
        super().__init__()
        self.epochs = [
            as_epoch(number, values, is_best=best_epoch(monitors, watch.history[:number]) == number - 1)
            for number, values in enumerate(watch.history, start=1)
        ]
        self._watch, self._on_epoch = watch, on_epoch

    @property
    def best(self) -> Epoch:
        return self.epochs[self._watch.best]

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self.epochs.append(as_epoch(epoch + 1, self._watch.history[-1], is_best=self._watch.last_is_best))
        self._on_epoch(self.epochs)
