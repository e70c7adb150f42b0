"""Which epoch is the best, and when to stop: told from the history alone, so that a resumed run tells the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras

from keraship.errors import TrainingError

Logs = Mapping[str, Any] | None


@dataclass(frozen=True)
class Monitor:
    """A value of the logs, such as `val_loss` or any metric's name, and whether the best is its `min` or its `max`."""

    name: str
    mode: Literal["min", "max"]

    def __post_init__(self) -> None:
        if self.mode not in ("min", "max"):
            raise TrainingError(f"expected the mode of monitor {self.name!r} to be min or max; got {self.mode!r}")

    def merit(self, logs: Mapping[str, float]) -> float:
        """The value, the greater the better; NaN is the worst of all. Raises TrainingError where it is not there."""
        if self.name not in logs:
            raise TrainingError(f"expected a value to monitor out of {', '.join(logs)}; got {self.name!r}")
        value = logs[self.name] if self.mode == "max" else -logs[self.name]
        return -math.inf if math.isnan(value) else value


def best_epoch(monitors: Sequence[Monitor], history: Sequence[Mapping[str, float]]) -> int:
    """Where in the history the best epoch is, from 0 on: by the first monitor, of equals by the next; then the first.

    Raises TrainingError for a value that the history does not have.
    """
    merits = [tuple(monitor.merit(logs) for monitor in monitors) for logs in history]
    return merits.index(max(merits))


class Watch(keras.callbacks.Callback):  # type: ignore[misc]  # keras has no types
    """Keeps the history, knows its best epoch, and stops the training when that is too long ago.

    monitors: one or more; see `best_epoch`. patience: the training stops when so many epochs in a row, from 1 on,
    were no better than the best before them; None: never. past: the history of the epochs before the first, of a run
    that is resumed. The weights are left as they are: the best epoch's are where KeepBest wrote them.
    history: of every epoch, the values of its logs as numbers.
    """

    def __init__(
        self, *monitors: Monitor, patience: int | None = None, past: Iterable[Mapping[str, float]] = ()
    ) -> None:
        super().__init__()
        if not monitors or (patience is not None and patience < 1):
            raise TrainingError(
                f"expected one monitor or more, and a patience from 1 on; got {monitors!r}, patience={patience!r}"
            )
        self.history: list[dict[str, float]] = [dict(logs) for logs in past]
        self._monitors, self._patience = monitors, patience

    @property
    def best(self) -> int:
        """Where in the history the best epoch is; raises TrainingError before the first."""
        if not self.history:
            raise TrainingError("expected an epoch to be the best; there was none yet")
        return best_epoch(self._monitors, self.history)

    @property
    def last_is_best(self) -> bool:
        return bool(self.history) and self.best == len(self.history) - 1

    @property
    def is_over(self) -> bool:
        """Whether the patience has run out: of a run that is resumed, before it goes on, too."""
        return self._patience is not None and bool(self.history) and self._since_best >= self._patience

    @property
    def _since_best(self) -> int:
        return len(self.history) - 1 - self.best

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self.history.append({name: float(value) for name, value in (logs or {}).items()})
        if self.is_over:
            self.model.stop_training = True


class KeepBest(keras.callbacks.Callback):  # type: ignore[misc]  # keras has no types
    """Writes the model after every epoch that is the best so far.

    write: called with the model. Stands behind the watch and the callback that saves the state to resume from: where
    a run is killed between the two, the resumed one begins by writing the best epoch it was killed over.
    """

    def __init__(self, watch: Watch, write: Callable[[Any], None]) -> None:
        super().__init__()
        self._watch, self._write = watch, write

    def on_train_begin(self, logs: Logs = None) -> None:
        self._keep()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self._keep()

    def _keep(self) -> None:
        if self._watch.last_is_best:
            self._write(self.model)
