from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keraship.errors import TrainingError
from keraship.models import TrainConfig
from keraship.models.config import as_plain
from keraship.models.config_file import as_toml, read_config


@pytest.mark.parametrize(
    "wrong",
    [
        {"network": "resnet50"},
        {"data": "mnist"},
        {"on_bad": "ignore"},
        {"epochs": 0},
        {"epochs": 2.5},
        {"batch_size": -1},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"learning_rate": float("inf")},
        {"learning_rate": "fast"},
        {"seed": -1},
        {"seed": 2**32},
    ],
)
def test_wrong_field(wrong: dict[str, Any]) -> None:
    """What cannot be is refused when it is written down, with the value that came."""
    with pytest.raises(TrainingError, match=re.escape(repr(next(iter(wrong.values()))))):
        TrainConfig(**{"network": "cnn", "out": Path("run"), **wrong})


def test_all_faults_at_once() -> None:
    """Every wrong number is named in one message."""
    with pytest.raises(TrainingError, match=r"epochs .*got 0; batch_size .*got 0; seed .*got -1"):
        TrainConfig("cnn", Path("run"), epochs=0, batch_size=0, seed=-1)


def test_numbers_of_numpy() -> None:
    """A search over settings may hand in numpy's numbers."""
    assert TrainConfig("cnn", Path("run"), epochs=np.int64(3), learning_rate=np.float32(0.1)).epochs == 3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"momentum": 0.9}, "optimizer to be sgd"),
        ({"hard_mining_options": {"alpha": 1}}, "hard_mining to be on"),
        ({"hard_mining": True, "pipeline": "tf.data"}, "pipeline to be PyDataset with hard_mining"),
        ({"workers": 2}, "pipeline to be PyDataset where there are workers"),
        ({"export_name": "x"}, "export, a model repository"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"schedule": "step", "schedule_options": {"warmup": 1}}, "no parameters but factor, every"),
        ({"network_options": {"body": "VGG16"}}, "cnn has none; got 'body'"),
        ({"hard_mining": True, "hard_mining_options": {"alfa": 1}}, "did you mean 'alpha'"),
        ({"hard_mining": True, "hard_mining_options": {"alpha": "1"}}, "alpha of hard mining to be a number from 0 on"),
        ({"hard_mining": True, "hard_mining_options": {"every": 1.5}}, "every of hard mining to be a whole number"),
        ({"head_epochs": 2}, "network_options to have weights with head_epochs"),
        ({"export": "repo", "export_name": "a/b"}, "export_name of letters, digits"),
        ({"image_size": (8, 0)}, "a height and a width in pixels"),
        ({"seed": True}, "seed to be a whole number"),
        ({"nesterov": 1}, "nesterov to be true or false"),
    ],
)
def test_what_does_not_go_together(wrong: dict[str, Any], message: str) -> None:
    """Options that need others, or that there are not, are refused with what to do."""
    with pytest.raises(TrainingError, match=re.escape(message)):
        TrainConfig("cnn", Path("run"), **wrong)


def test_through_a_file(tmp_path: Path) -> None:
    """A configuration written as TOML is read as the same, whatever it holds."""
    config = TrainConfig(
        *("finetune", tmp_path / 'a "run"\t\x7f\u2713'),
        network_options={"body": "VGG16"},
        image_size=(96, 128),
        augment={"flip": True, "rotation": 0.1, "an odd\nname": 1},
        learning_rate=np.float32(1e-5),
        epochs=np.int64(3),
        optimizer="sgd",
        momentum=0.5,
        schedule="piecewise",
        schedule_options={"boundaries": (1, 2.5), "factors": (1, 0.5, 0.1)},
        overwrite=True,
    )
    path = tmp_path / "run.toml"
    path.write_text(as_toml(config), encoding="utf-8")
    assert as_plain(read_config(path)) == as_plain(config)
    assert read_config(path, epochs=7).epochs == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("network = 'cnn'\nout = 'run'\nepoch = 3\n", "got 'epoch', did you mean 'epochs'?"),
        ("network = 'cnn'\nout = 'run'\nlerning_rate = 3\nzzz = 1\n", "did you mean 'learning_rate'?; 'zzz'"),
        ("network = 'cnn'\nout = \n", "run.toml; it cannot be read: Invalid value (at line 2"),
        ("out = 'run'\n", "expected network among the options"),
        ("network = 'cnn'\nout = 3\n", "expected out to be text, got 3"),
        ("network = 'cnn'\nout = 'run'\nepochs = '3'\n", "epochs to be a whole number from 1 on, got '3'"),
        ("network = 'cnn'\nout = 'run'\nschedule_options = 3\n", "schedule_options to be a table"),
    ],
)
def test_a_file_that_is_wrong(text: str, message: str, tmp_path: Path) -> None:
    """What is wrong in a file is said, with the file or the value, and what was meant where that can be guessed."""
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(TrainingError, match=re.escape(message)):
        read_config(path)


@pytest.mark.parametrize(("data", "name"), [("my data.csv", "my_data"), (".hidden", "hidden"), ("\u2713", "_")])
def test_the_models_name(data: str, name: str, tmp_path: Path) -> None:
    """A model without a name gets the data's, as far as a model may have it."""
    (tmp_path / data).touch()
    assert TrainConfig("cnn", Path("run"), str(tmp_path / data)).model_name == name
