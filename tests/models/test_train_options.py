from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keraship import cli
from keraship.errors import TrainingError
from keraship.models import TrainConfig, train
from keraship.models.config_file import read_config
from keraship.models.distribution import Devices
from keraship.models.export_process import ExportFailed, export_best
from keraship.models.held_out import held_out_entry, read_held_out
from keraship.models.make_data import make_data
from keraship.models.run import Run


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A little of each kind of data."""
    folder: Path = tmp_path_factory.mktemp("data")
    for kind, count in {"digits": 60, "scenes": 20, "text": 60}.items():
        make_data(kind, folder / kind, count=count)
    return folder


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """`keraship` with these arguments: its exit status, stdout and stderr."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", *arguments])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def test_segmentation(folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Masks from a folder, augmented with their images, by a Dice loss, told by IoU; with curves after every epoch."""
    arguments = ["--data", str(folders / "scenes"), "--out", str(tmp_path / "run"), "--epochs", "1", "--json"]
    chosen = ["--loss", "dice", "--augment", "flip,translation=0.05", "--precision-recall", "--monitor", "val_macro_ap"]
    status, out, err = command(capsys, "segmentation", *arguments, *chosen)
    assert status == 0, err
    assert json.loads(out)["quality"]["metric"] == "mean_iou"
    (epoch,) = json.loads((tmp_path / "run" / "history.json").read_text())["epochs"]
    assert {"iou", "val_iou", "val_macro_ap", "learning_rate"} <= set(epoch["values"])
    assert (tmp_path / "run" / "precision_recall" / "epoch-001.png").exists()
    with Image.open(tmp_path / "run" / "curves.png") as picture:
        assert picture.format == "PNG"


def test_text_by_hard_mining(folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Texts from a folder, of which the hard ones are drawn more often, out of a TOML file; a flag wins over it."""
    toml = tmp_path / "run.toml"
    toml.write_text(
        f"network = 'text'\nout = '{tmp_path / 'run'}'\ndata = '{folders / 'text'}'\nepochs = 9\nhard_mining = true\n"
        "[network_options]\nencoder = 'attention'\nlength = 20\n[hard_mining_options]\nalpha = 2\n"
    )
    status, _, err = command(capsys, "--config", str(toml), "--epochs", "2", "--network-option", "length=10")
    assert status == 0, err
    assert [line.split()[1] for line in err.splitlines()] == ["1/2", "2/2"]
    config = read_config(tmp_path / "run" / "config.toml")
    assert config.network_options == {"encoder": "attention", "length": 10}
    assert config.hard_mining_options == {"alpha": 2}
    assert (config.epochs, config.fed_by) == (2, "PyDataset")


def test_everything_else(tmp_path: Path) -> None:
    """A table by SGD with momentum, gradients of two batches an update, in bfloat16, along a cyclic rate; the logs
    that TensorBoard reads have the history's values."""
    config = TrainConfig(
        *("tabular", tmp_path / "run", "wine"),
        epochs=3,
        optimizer="sgd",
        momentum=0.8,
        nesterov=True,
        gradient_accumulation=2,
        mixed_precision="bfloat16",
        schedule="cyclic",
        schedule_options={"mode": "triangular2", "half_cycle": 1},
        tensorboard=True,
    )
    epochs = train(config).epochs
    model = keras.saving.load_model(tmp_path / "run" / "best.keras")
    assert {layer.compute_dtype for layer in model.layers if isinstance(layer, keras.layers.Dense)} == {
        *("bfloat16", "float32")
    }
    assert keras.config.dtype_policy().name == "float32"
    optimizer = model.optimizer.get_config()
    assert [optimizer[name] for name in ("momentum", "nesterov", "gradient_accumulation_steps")] == [0.8, True, 2]
    np.testing.assert_allclose([epoch.values["learning_rate"] for epoch in epochs], [1e-3, 1e-4, 5.5e-4], rtol=1e-4)
    logged = scalars(tmp_path / "run" / "tensorboard" / "validation")
    assert logged["epoch_loss"] == pytest.approx([epoch.val_loss for epoch in epochs])


def scalars(folder: Path) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    (path,) = folder.iterdir()
    for record in tf.data.TFRecordDataset(str(path)):
        for value in tf.compat.v1.Event.FromString(record.numpy()).summary.value:
            found.setdefault(value.tag, []).append(float(tf.make_ndarray(value.tensor)))
    return found


def test_finetune_in_two_phases(folders: Path, tmp_path: Path) -> None:
    """A body with weights learns from the second phase on, its top layers alone, at a lower rate."""
    body = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(32, 32, 3), alpha=1.0)
    body.save_weights(tmp_path / "body.weights.h5")
    config = TrainConfig(
        *("finetune", tmp_path / "run", str(folders / "digits")),
        network_options={"weights": str(tmp_path / "body.weights.h5")},
        epochs=2,
        head_epochs=1,
        unfreeze_layers=3,
        schedule="constant",
    )
    epochs = train(config).epochs
    np.testing.assert_allclose([epoch.values["learning_rate"] for epoch in epochs], [1e-3, 1e-4], rtol=1e-5)


def test_a_lost_worker() -> None:
    """What TensorFlow raises when another worker is gone is one sentence, and of a single device its own error."""
    lost = tf.errors.UnavailableError(None, None, "Connection reset by peer\nmore")
    several = SimpleNamespace(extended=SimpleNamespace(_in_multi_worker_mode=lambda: True))
    sentence = r"one cannot be reached: .*Connection reset by peer.*same command"
    with pytest.raises(TrainingError, match=sentence) as caught, Devices(several, 2).together():
        raise lost
    assert "\n" not in str(caught.value)
    with pytest.raises(tf.errors.UnavailableError), Devices().together():
        raise lost


def test_early_stopping(tmp_path: Path) -> None:
    """A run ends when the best epoch is so many epochs ago."""
    epochs = train(TrainConfig("tabular", tmp_path, "wine", epochs=9, learning_rate=1e-9, early_stopping=1)).epochs
    assert len(epochs) < 9


def test_a_value_that_is_not_there(tmp_path: Path) -> None:
    """What cannot be monitored is refused before anything is trained."""
    with pytest.raises(TrainingError, match=r"out of val_loss, val_accuracy, .*got 'val_iou'"):
        train(TrainConfig("tabular", tmp_path, "wine", monitor="val_iou"))
    assert not list(tmp_path.iterdir())


def test_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The best epoch is exported by the same command."""
    arguments = ["--data", "wine", "--epochs", "1", "--out", str(tmp_path / "run"), "--export", str(tmp_path / "repo")]
    status, out, err = command(capsys, "tabular", *arguments, "--name", "grapes", "--json")
    assert status == 0, err
    assert json.loads(out)["exported"] == str(tmp_path / "repo" / "grapes" / "1")
    assert (tmp_path / "repo" / "grapes" / "1" / "saved_model.pb").exists()


def test_an_export_that_fails(tmp_path: Path) -> None:
    """A failed export is one sentence that says why, with the exit status of the export."""
    (tmp_path / "best.keras").write_text("no model")
    np.savez(tmp_path / "test.npz", images=np.zeros((2, 8, 8, 1)), labels=np.arange(2))
    config = TrainConfig("cnn", tmp_path, export=str(tmp_path / "repo"))
    with pytest.raises(ExportFailed, match=r"best.keras is kept but not exported: ") as raised:
        export_best(config, Run(tmp_path))
    assert raised.value.status == 1


def empty_class(folders: Path, copy: Path) -> None:
    shutil.copytree(folders / "digits", copy)
    (copy / "nothing").mkdir()


def truncated(folders: Path, copy: Path) -> None:
    shutil.copytree(folders / "digits", copy)
    Image.effect_noise((64, 64), 50).save(copy / "3" / "cut.jpg")
    (copy / "3" / "cut.jpg").write_bytes((copy / "3" / "cut.jpg").read_bytes()[:600])


def mask_of_another_size(folders: Path, copy: Path) -> None:
    shutil.copytree(folders / "scenes", copy)
    masks = next(path for path in sorted(copy.rglob("masks")) if path.is_dir())
    Image.new("L", (3, 3)).save(sorted(masks.iterdir())[0])


def one_class(folders: Path, copy: Path) -> None:
    shutil.copytree(folders / "digits" / "3", copy / "3")


@pytest.mark.parametrize(
    ("network", "spoil", "said"),
    [
        ("cnn", empty_class, "nothing"),
        ("cnn", truncated, "cut.jpg"),
        ("segmentation", mask_of_another_size, "3 x 3"),
        ("cnn", one_class, "one class only, '3'"),
    ],
)
def test_data_that_cannot_be_used(
    network: str, spoil: Any, said: str, folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is wrong with the data, where, and what to do, in one sentence; no run is begun."""
    spoil(folders, tmp_path / "data")
    status, out, err = command(capsys, network, "--data", str(tmp_path / "data"), "--out", str(tmp_path / "run"))
    assert (status, out, err.count("\n")) == (1, "", 1), err
    assert err.startswith("keraship: expected ")
    assert said in err
    assert not list((tmp_path / "run").iterdir())


def test_a_loss_that_is_no_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A rate at which the loss is lost ends the run in one sentence that says so."""
    arguments = ["--data", "wine", "--learning-rate", "1e38", "--out", str(tmp_path / "run")]
    status, out, err = command(capsys, "tabular", *arguments)
    assert (status, out) == (1, "")
    assert "take a lower --learning-rate" in err.splitlines()[-1]
    assert "Traceback" not in err


def test_evaluate_on_a_folder(folders: Path, tmp_path: Path) -> None:
    """A model is judged by all rows of a folder, under the names of its classes; by a table's in the same way."""
    held_out = read_held_out(folders / "digits")
    assert len(held_out.rows) == 60
    assert held_out.classes == tuple("0123456789")
    table = tmp_path / "table.csv"
    table.write_text("size,label\n" + "".join(f"{row},{'ab'[row % 2]}\n" for row in range(9)))
    assert read_held_out(table).classes == ("a", "b")
    before = held_out_entry(folders / "digits")
    copy = shutil.copytree(folders / "digits", tmp_path / "copy")
    assert held_out_entry(copy) == before
    next(copy.rglob("*.png")).write_bytes(b"")
    assert held_out_entry(copy) != before
