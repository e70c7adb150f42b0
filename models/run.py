"""A run's folder: what is in it, and how each file gets there whole."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keraship.bundle import Quality
from keraship.errors import TrainingError
from keraship.models.config import TrainConfig, as_plain
from keraship.models.config_file import as_toml
from keraship.models.curves import draw_curves
from keraship.models.whole import WRITING, whole
from keraship.samples import Array, Samples

STATE = "resume.npz"


@dataclass(frozen=True)
class Epoch:
    """What one pass over the data gave: the mean loss and the accuracy, on the training and the validation split.

    number: from 1 on. is_best: whether no epoch before it was better.
    values: all that was measured, by name: these four, `learning_rate` at the epoch's end, and of other metrics
    such as `iou` and `val_iou` what there is.
    """

    number: int
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float
    is_best: bool
    values: Mapping[str, float]


def as_epoch(number: int, values: Mapping[str, float], *, is_best: bool) -> Epoch:
    """The epoch of these values."""
    named = {name: values[name] for name in ("loss", "accuracy", "val_loss", "val_accuracy")}
    return Epoch(number, **named, is_best=is_best, values={**named, **values})


@dataclass(frozen=True)
class Run:
    """A folder with the best epoch's model, the held-out test split, and the story of the training.

    config: the whole configuration, as TOML; `keraship train --config` takes it again.
    test: an .npz file with the arrays of all inputs, and `labels`: what
    `keraship export --evaluate` and `keraship predict` read.
    history: JSON with `config`, `epochs` (a list of Epoch), `best_epoch`, and once all is done `test`, a Quality.
    curves: a picture of the history. precision_recall, tensorboard: folders of what a run writes if it is asked to.
    state: of an unfinished run, what it goes on from.
    A process that is killed leaves each of them whole, or as it was.
    """

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "config.toml"

    @property
    def best(self) -> Path:
        return self.folder / "best.keras"

    @property
    def test(self) -> Path:
        return self.folder / "test.npz"

    @property
    def history(self) -> Path:
        return self.folder / "history.json"

    @property
    def curves(self) -> Path:
        return self.folder / "curves.png"

    @property
    def precision_recall(self) -> Path:
        return self.folder / "precision_recall"

    @property
    def tensorboard(self) -> Path:
        return self.folder / "tensorboard"

    @property
    def state(self) -> Path:
        return self.folder / STATE

    def clear(self) -> None:
        """Take away an earlier run, and what a killed one was writing."""
        with _writes(self.folder):
            for path in (*_present(self), self.state, self.config, self.curves, *self.folder.glob(f"{WRITING}*")):
                path.unlink(missing_ok=True)
            for folder in (self.precision_recall, self.tensorboard):
                if folder.is_dir():
                    shutil.rmtree(folder)

    def write_config(self, config: TrainConfig) -> None:
        with whole(self.config) as path:
            path.write_text(as_toml(config), encoding="utf-8")

    def write_model(self, model: Any) -> None:
        with whole(self.best) as path:
            model.save(path)

    def write_test(self, test: Samples) -> None:
        arrays: dict[str, Any] = {name: _plain(array) for name, array in test.inputs.items()}
        with whole(self.test) as path:
            np.savez_compressed(path, **arrays, labels=test.labels)  # type: ignore[arg-type]  # mypy: allow_pickle, too

    def write_history(self, config: TrainConfig, epochs: Sequence[Epoch], test: Quality | None = None) -> None:
        best = max((epoch for epoch in epochs if epoch.is_best), key=lambda epoch: epoch.number)
        story = {
            "config": as_plain(config),
            "epochs": [asdict(epoch) for epoch in epochs],
            "best_epoch": best.number,
            "test": test and asdict(test),
        }
        with whole(self.history) as path:
            path.write_text(json.dumps(story, indent=2) + "\n", encoding="utf-8")

    def write_curves(self, epochs: Sequence[Epoch], *, best: Epoch) -> None:
        with whole(self.curves) as path:
            draw_curves([epoch.values for epoch in epochs], path, best=best.number - 1)


def open_run(folder: Path, *, overwrite: bool) -> Run:
    """The run in a folder, which is made where it is missing; nothing else is changed yet.

    A run that was not finished may be there: it is to be resumed.
    Raises TrainingError where the folder cannot be written, or holds a run that is not to be overwritten.
    """
    run = Run(folder)
    with _writes(folder):
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f"{WRITING}{os.getpid()}"
        probe.touch()
        probe.unlink()
    if _present(run) and not overwrite and not _is_unfinished(run):
        names = ", ".join(path.name for path in _present(run))
        raise TrainingError(
            f"expected a folder without a run; {folder} holds {names}: take another --out, or --overwrite to replace it"
        )
    return run


def _is_unfinished(run: Run) -> bool:
    """Whether a run was stopped here: after an epoch, or before its first, when there is nothing yet to be lost."""
    return run.state.exists() or (run.config.exists() and not (run.best.exists() or run.history.exists()))


def _plain(array: Array) -> Array:
    """Text in numpy's own type, UTF-8: objects would have to be pickled."""
    return np.array([item.encode() for item in array], np.bytes_) if array.dtype.kind == "O" else array


def _present(run: Run) -> list[Path]:
    return [path for path in (run.best, run.test, run.history) if path.exists()]


@contextlib.contextmanager
def _writes(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TrainingError(
            f"expected a folder that can be written to; {folder} cannot: {error.strerror or error}; take another --out"
        ) from error
