"""A run's folder: what is in it, and how each file gets there whole."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keraship.bundle import Quality
from keraship.errors import TrainingError
from keraship.models.config import TrainConfig
from keraship.models.data import Split

_WRITING = ".writing-"


@dataclass(frozen=True)
class Epoch:
    """What one pass over the data gave: the mean loss and the accuracy, on the training and the validation split.

    number: from 1 on. is_best: whether no epoch before it had a better validation accuracy (then loss).
    """

    number: int
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float
    is_best: bool

    @property
    def merit(self) -> tuple[float, float]:
        """What epochs are compared by; the greater the better."""
        return self.val_accuracy, -self.val_loss


@dataclass(frozen=True)
class Run:
    """A folder with the best epoch's model, the held-out test split, and the story of the training.

    test: an .npz file with `images` and `labels`: what `keraship export --evaluate` and `keraship predict` read.
    history: JSON with `config`, `epochs` (a list of Epoch), `best_epoch`, and once all is done `test`, a Quality.
    A process that is killed leaves each of them whole, or as it was.
    """

    folder: Path

    @property
    def best(self) -> Path:
        return self.folder / "best.keras"

    @property
    def test(self) -> Path:
        return self.folder / "test.npz"

    @property
    def history(self) -> Path:
        return self.folder / "history.json"

    def clear(self) -> None:
        """Take away an earlier run, and what a killed one was writing."""
        with _writes(self.folder):
            for path in (*_present(self), *self.folder.glob(f"{_WRITING}*")):
                path.unlink()

    def write_model(self, model: Any) -> None:
        with _whole(self.best) as path:
            model.save(path)

    def write_test(self, split: Split) -> None:
        with _whole(self.test) as path:
            np.savez_compressed(path, images=split.images, labels=split.labels)

    def write_history(self, config: TrainConfig, epochs: Sequence[Epoch], test: Quality | None = None) -> None:
        best = max((epoch for epoch in epochs if epoch.is_best), key=lambda epoch: epoch.number)
        story = {
            "config": {**asdict(config), "out": str(config.out)},
            "epochs": [asdict(epoch) for epoch in epochs],
            "best_epoch": best.number,
            "test": test and asdict(test),
        }
        with _whole(self.history) as path:
            path.write_text(json.dumps(story, indent=2) + "\n", encoding="utf-8")


def open_run(folder: Path, *, overwrite: bool) -> Run:
    """The run in a folder, which is made where it is missing; nothing else is changed yet.

    Raises TrainingError where the folder cannot be written, or holds a run that is not to be overwritten.
    """
    run = Run(folder)
    with _writes(folder):
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f"{_WRITING}{os.getpid()}"
        probe.touch()
        probe.unlink()
    if _present(run) and not overwrite:
        names = ", ".join(path.name for path in _present(run))
        raise TrainingError(
            f"expected a folder without a run; {folder} holds {names}: take another --out, or --overwrite to replace it"
        )
    return run


def _present(run: Run) -> list[Path]:
    return [path for path in (run.best, run.test, run.history) if path.exists()]


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to, which takes its place once all is on the disk."""
    beside = path.with_name(f"{_WRITING}{os.getpid()}-{path.name}")
    with _writes(path.parent):
        try:
            yield beside
            with beside.open("rb") as file:
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)


@contextlib.contextmanager
def _writes(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TrainingError(
            f"expected a folder that can be written to; {folder} cannot: {error.strerror or error}; take another --out"
        ) from error
