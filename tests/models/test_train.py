from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from keraship.errors import TrainingError
from keraship.models import TrainConfig, TrainResult, train
from keraship.models.callbacks import Record, StopOnBadLoss
from keraship.models.data import fetch_all, load
from keraship.models.monitor import KeepBest, Monitor, Watch
from keraship.models.run import Epoch, Run, open_run
from keraship.samples import Samples, read_samples

FILES = {"best.keras", "test.npz", "history.json", "config.toml", "curves.png"}


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_accuracy(trained: TrainResult) -> None:
    """A third of the usual number of epochs is enough for 97 % of the held-out digits."""
    assert trained.quality.value >= 0.97
    assert trained.quality.low < trained.quality.value < trained.quality.high


def test_best_epoch(trained: TrainResult) -> None:
    """The best epoch is that of the highest validation accuracy, then the lowest validation loss."""
    best = sorted(trained.epochs, key=lambda epoch: (-epoch.val_accuracy, epoch.val_loss))[0]
    assert trained.best_epoch == best.number
    assert best.is_best


def test_saved_model_is_the_best_epoch(trained: TrainResult) -> None:
    """The file, loaded, has the validation accuracy of the best epoch and the test accuracy that was reported."""
    model = keras.saving.load_model(trained.model)
    digits = load("digits", seed=0)
    for part, expected in (
        (digits.validation, trained.epochs[trained.best_epoch - 1].val_accuracy),
        (digits.test, trained.quality.value),
    ):
        inputs, labels = fetch_all(part)
        scores = model.predict(inputs["images"], verbose=0)
        assert (scores.argmax(axis=-1) == labels).mean() == pytest.approx(expected)


def test_test_split(trained: TrainResult) -> None:
    """test.npz holds the images that were held out, raw, with their labels, as samples are read."""
    samples = read_samples(trained.test)
    inputs, labels = fetch_all(load("digits", seed=0).test)
    np.testing.assert_array_equal(samples.inputs["images"], inputs["images"])
    np.testing.assert_array_equal(samples.labels, labels)
    assert samples.inputs["images"].dtype == np.float32
    assert trained.quality.samples == len(samples)


def test_history(trained: TrainResult, seen_epochs: list[Epoch]) -> None:
    """history.json tells the configuration, every epoch as the caller was told, the best, and the test's result."""
    story = json.loads(trained.history.read_text())
    assert story["config"]["network"] == "cnn"
    assert story["config"]["epochs"] == 10
    assert [Epoch(**epoch) for epoch in story["epochs"]] == list(trained.epochs) == seen_epochs
    assert [epoch.number for epoch in trained.epochs] == list(range(1, 11))
    assert story["best_epoch"] == trained.best_epoch
    assert story["test"]["value"] == trained.quality.value


def test_text_in_the_test_split(tmp_path: Path) -> None:
    """Texts of the test split are written so that they are read without pickle, whatever they hold."""
    texts = np.array(["plain", "na\u00efve \u2713"], object)
    Run(tmp_path).write_test(Samples({"text": texts}, np.array([0, 1])))
    read = read_samples(tmp_path / "test.npz")
    assert [text.decode() for text in read.inputs["text"]] == texts.tolist()


def test_nothing_else_is_left(trained: TrainResult) -> None:
    """The folder holds the run's files, and nothing half-written, or to be resumed from."""
    assert set(files(trained.model.parent)) == FILES


def test_a_run_is_not_overwritten(trained: TrainResult) -> None:
    """A folder that holds a run is refused, named, and left as it was."""
    before = files(trained.model.parent)
    with pytest.raises(TrainingError, match=r"holds best.keras, test.npz, history.json.*--overwrite"):
        train(TrainConfig("cnn", trained.model.parent, epochs=1))
    assert files(trained.model.parent) == before


def test_overwrite_and_seed(tmp_path: Path) -> None:
    """With overwrite a run takes an older one's place, and other files stay; the same seed gives the same run."""
    (tmp_path / "best.keras").write_text("an older run")
    (tmp_path / "test.npz").write_text("an older run")
    (tmp_path / ".writing-1-best.keras").write_text("left behind by a killed run")
    (tmp_path / "notes.txt").write_text("mine")
    first, again = (train(TrainConfig("cnn", tmp_path, epochs=1, seed=5, overwrite=True)) for _ in range(2))
    assert first == again
    assert set(files(tmp_path)) == {*FILES, "notes.txt"}


@pytest.mark.parametrize("name", ["file", "file/run"])
def test_a_folder_that_cannot_be(name: str, tmp_path: Path) -> None:
    """A folder that cannot be made is an error before any training."""
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match=r"expected a folder that can be written to; .*file"):
        train(TrainConfig("cnn", tmp_path / name))


def test_an_unwritable_folder() -> None:
    """A folder that nobody can write into is an error before any training."""
    with pytest.raises(TrainingError, match=r"/proc/self cannot: .*take another --out"):
        train(TrainConfig("cnn", Path("/proc/self")))


def test_a_loss_that_is_no_number(tmp_path: Path) -> None:
    """A learning rate that makes the weights infinite ends the run in one sentence, and no model is kept of it."""
    with pytest.raises(TrainingError, match=r"finite loss; it became (nan|inf) in epoch 1: take a lower"):
        train(TrainConfig("cnn", tmp_path, epochs=3, learning_rate=1e30))
    assert not (tmp_path / "best.keras").exists()


@pytest.mark.parametrize(
    ("images", "validation", "name"), [(np.nan, 0.0, "loss"), (0.0, np.nan, "val_loss"), (np.inf, 0.0, "loss")]
)
def test_data_that_is_no_number(images: float, validation: float, name: str) -> None:
    """NaN and infinity in the images are found in training and in validation alike."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(loss="mse", jit_compile=False)
    x, y = np.full((4, 2), images, "float32"), np.zeros((4, 1), "float32")
    with pytest.raises(TrainingError, match=rf"finite {name};.*epoch 1"):
        model.fit(x, y, validation_data=(np.full_like(x, validation), y), callbacks=[StopOnBadLoss()], verbose=0)


def test_which_epochs_are_kept(tmp_path: Path) -> None:
    """A model is written where accuracy rises, and where the loss falls at the same accuracy; a tie keeps the first."""
    monitors = (Monitor("val_accuracy", "max"), Monitor("val_loss", "min"))
    watch = Watch(*monitors)
    callbacks = [watch, KeepBest(watch, Run(tmp_path).write_model), record := Record(watch, monitors, lambda _: None)]
    model = _Numbered()
    story = [(0.5, 1.0), (0.5, 0.9), (0.5, 0.9), (0.4, 0.1), (0.6, 2.0), (0.6, 3.0)]
    kept = []
    for model.number, (accuracy, loss) in enumerate(story):
        for callback in callbacks:
            callback.set_model(model)
            logs = {"loss": 1, "accuracy": 1, "val_accuracy": accuracy, "val_loss": loss}
            callback.on_epoch_end(model.number, logs)
        kept.append(int((tmp_path / "best.keras").read_text()))
    assert kept == [0, 1, 1, 1, 4, 4]
    assert [epoch.is_best for epoch in record.epochs] == [True, True, False, False, True, False]
    assert record.best.number == 5
    assert Record(watch, monitors, lambda _: None).epochs == record.epochs


class _Numbered:
    """A model that saves its number."""

    number = 0

    def save(self, path: Path) -> None:
        path.write_text(str(self.number))


class _Failing:
    """A model whose saving breaks off in the middle."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def save(self, path: Path) -> None:
        path.write_text("half of a mod")
        raise self.error


@pytest.mark.parametrize(("raised", "seen"), [(ValueError("no"), ValueError), (OSError(28, "full"), TrainingError)])
def test_a_save_that_fails(raised: Exception, seen: type[Exception], tmp_path: Path) -> None:
    """The file that was there stays, and no half of another; a full disk is one sentence."""
    (tmp_path / "best.keras").write_text("whole")
    with pytest.raises(seen):
        Run(tmp_path).write_model(_Failing(raised))
    assert files(tmp_path) == {"best.keras": b"whole"}


def test_opening_changes_nothing(tmp_path: Path) -> None:
    """To look whether a folder can be used leaves it as it was, an earlier run included."""
    (tmp_path / "best.keras").write_text("an older run")
    open_run(tmp_path, overwrite=True)
    assert files(tmp_path) == {"best.keras": b"an older run"}


ENDLESS = """
import pathlib, sys
from keraship.models import TrainConfig, train
train(TrainConfig("cnn", pathlib.Path(sys.argv[1]), epochs=100_000))
"""


def test_killed(tmp_path: Path) -> None:
    """A run that is killed leaves a best epoch that loads, the test split, and the history up to there."""
    process = subprocess.Popen([sys.executable, "-c", ENDLESS, str(tmp_path)], stderr=subprocess.PIPE)
    try:
        _wait_for(lambda: _epochs_in(tmp_path) >= 2, process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert keras.saving.load_model(tmp_path / "best.keras").name == "cnn"
    assert len(read_samples(tmp_path / "test.npz")) == 360
    assert json.loads((tmp_path / "history.json").read_text())["test"] is None


def _epochs_in(folder: Path) -> int:
    history = folder / "history.json"
    return len(json.loads(history.read_text())["epochs"]) if history.exists() else 0


def _wait_for(condition: Any, process: subprocess.Popen[bytes]) -> None:
    while not condition():
        assert process.poll() is None, process.communicate()[1].decode()
        time.sleep(0.05)
