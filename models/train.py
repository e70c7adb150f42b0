"""One training run, from its configuration to the best epoch on disk and how good it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from keraship.bundle import Quality
from keraship.extras import require
from keraship.models.config import TrainConfig
from keraship.models.data import Dataset, Fault, fetch_all, load
from keraship.models.distribution import Devices, is_chief, open_devices
from keraship.models.export_process import export_best
from keraship.models.run import Epoch, Run, open_run
from keraship.quiet import import_keras
from keraship.samples import Samples


@dataclass(frozen=True)
class TrainResult:
    """Where a run's files are (Run says what is in them), its epochs, and how good the best one is on the test split.

    quality: the accuracy; of masks, the mean IoU.
    skipped: the files and rows of the data that could not be used, where the configuration skips those.
    exported: the version's folder in the model repository, where the configuration names one.
    """

    model: Path
    test: Path
    history: Path
    epochs: tuple[Epoch, ...]
    best_epoch: int
    quality: Quality
    skipped: tuple[Fault, ...] = ()
    exported: Path | None = None


def train(config: TrainConfig, *, on_epoch: Callable[[Epoch], None] | None = None) -> TrainResult:
    """Train a network; keep the best epoch, judge it on the test split, and export it where that is asked for.

    The best epoch is that of the highest validation accuracy (of masks, IoU), of equals that of the lowest validation
    loss, or what `config.monitor` says. A run that was interrupted or killed goes on after its last whole epoch when
    it is called again with the same configuration.
    on_epoch: called after every epoch, when its files are written.
    Sets the seeds of Python, numpy and Keras. Raises TrainingError where the folder cannot be used or holds a run of
    another configuration, before anything is trained, where the network is not made for the data, and where the loss
    becomes NaN or infinite; DataError for data that cannot be used; MissingExtra where a package is not installed;
    ExportFailed where the best epoch is kept but cannot be exported.
    """
    require("train", "tensorflow", "keras", "sklearn", "matplotlib")
    run = open_run(config.out, overwrite=config.overwrite)
    chief = is_chief(config)
    dataset = _load(config)
    import_keras()
    devices = open_devices(config)
    epochs, best = _fit(config, run, dataset, devices=devices, on_epoch=on_epoch)
    if chief:
        _conclude(config, run, dataset, epochs=epochs, best=best)
    devices.wait_for_all()
    exported = export_best(config, run) if chief and config.export else None
    return TrainResult(
        *(run.best, run.test, run.history),
        epochs=tuple(epochs),
        best_epoch=best.number,
        quality=Quality(**json.loads(run.history.read_text(encoding="utf-8"))["test"]),
        skipped=dataset.faults,
        exported=exported,
    )


def _load(config: TrainConfig) -> Dataset:
    return load(
        config.data,
        seed=config.seed,
        on_bad=config.on_bad,
        image_size=config.image_size,
        label_column=config.label_column,
    )


def _fit(
    config: TrainConfig,
    run: Run,
    dataset: Dataset,
    *,
    devices: Devices,
    on_epoch: Callable[[Epoch], None] | None,
) -> tuple[list[Epoch], Epoch]:
    """All epochs, and the best of them."""
    from keraship.models.learner import Learner
    from keraship.models.resume import Resume

    # Before the folder is touched: a network, an option or a monitor that cannot be leaves what is there.
    learner = Learner(config, dataset, devices=devices)
    if config.overwrite:
        run.clear()
    resume = Resume(run.folder, config=config.settings)
    if devices.is_chief and not resume.initial_epoch:
        run.clear()
        run.write_config(config)
        run.write_test(Samples(*fetch_all(dataset.test)))
    return learner.fit(run, resume, on_epoch=on_epoch)


def _conclude(config: TrainConfig, run: Run, dataset: Dataset, *, epochs: list[Epoch], best: Epoch) -> None:
    """Judge the best epoch, write the end of the story, and take away what the run would have been resumed from."""
    from keraship.models.judge import judge

    quality = judge(run.best, dataset.test, task=dataset.task, batch_size=config.batch_size)
    run.write_curves(epochs, best=best)
    run.write_history(config, epochs, quality)
    run.state.unlink(missing_ok=True)
