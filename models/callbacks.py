"""What keeps watch over a training: it stops where the loss is no number, and records every epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import keras

from keraship.errors import TrainingError
from keraship.models.config import TrainConfig
from keraship.models.run import Epoch, Run

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


class Record(keras.callbacks.Callback):  # type: ignore[misc]  # keras has no types
    """Writes the history after every epoch, and the model after every one that is the best so far.

    The best is that of the highest validation accuracy; of equals, that of the lowest validation loss.
    """

    def __init__(self, run: Run, config: TrainConfig, *, on_epoch: Callable[[Epoch], None] | None) -> None:
        super().__init__()
        self.epochs: list[Epoch] = []
        self._run, self._config, self._on_epoch = run, config, on_epoch

    @property
    def best(self) -> Epoch:
        return max(self.epochs, key=lambda epoch: epoch.merit)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        seen = _epoch(epoch + 1, logs or {}, best=self.best if self.epochs else None)
        self.epochs.append(seen)
        if seen.is_best:
            self._run.write_model(self.model)
        self._run.write_history(self._config, self.epochs)
        if self._on_epoch:
            self._on_epoch(seen)


def _epoch(number: int, logs: Mapping[str, Any], *, best: Epoch | None) -> Epoch:
    values = {name: float(logs[name]) for name in ("loss", "accuracy", "val_loss", "val_accuracy")}
    epoch = Epoch(number, **values, is_best=True)
    return epoch if best is None or epoch.merit > best.merit else Epoch(number, **values, is_best=False)
