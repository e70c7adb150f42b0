from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("TF_CPP_MIN_LOG_LEVEL",)}


def keraship(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, as people run it."""
    return subprocess.run(
        [sys.executable, "-m", "keraship", *arguments],
        cwd=cwd,
        env=ENVIRONMENT | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


def test_train(tmp_path: Path) -> None:
    """A line for every epoch and nothing of TensorFlow's; at the end the accuracy, and the next command to type."""
    done = keraship("train", "cnn", "--out", "my run", "--epochs", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert [line.split()[:2] for line in lines] == [["epoch", "1/2"], ["epoch", "2/2"]]
    assert all(f" {name} " in line for line in lines for name in ("loss", "accuracy", "val_loss", "val_accuracy"))
    accuracy, following = done.stdout.splitlines()
    assert accuracy.startswith("test accuracy 0.")
    assert "95 % interval" in accuracy
    assert shlex.split(following.removeprefix("next: ")) == [
        *("keraship", "export", "my run/best.keras", "--to", "repo", "--name", "digits"),
        *("--import", "keraship.models.layers", "--evaluate", "my run/test.npz"),
    ]
    assert (tmp_path / "my run" / "best.keras").exists()


def test_json(tmp_path: Path) -> None:
    """With --json stdout is one document, and a stderr that is no terminal stays empty."""
    options = ["--epochs", "1", "--batch-size", "64", "--learning-rate", "0.01", "--seed", "3", "--json"]
    done = keraship("train", "cnn", "--out", "run", *options, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    assert (result["epochs"], result["best_epoch"], result["quality"]["samples"]) == (1, 1, 360)
    assert result["skipped"] == []
    config = json.loads((tmp_path / result["history"]).read_text())["config"]
    assert (config["batch_size"], config["learning_rate"], config["seed"]) == (64, 0.01, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cmn", "--out", "run"], "; got 'cmn', did you mean 'cnn'?"),
        (["cnn", "--out", "run", "--data", "digit"], "or the path of one; got 'digit', did you mean 'digits'?"),
        (["cnn", "--out", "run", "--on-bad", "ignore"], "'ignore' is not one of 'refuse', 'skip'"),
        (["cnn", "--out", "run", "--epochs", "0"], "epochs to be a whole number from 1 on, got 0"),
        (["cnn", "--out", "run", "--learning-rate", "nan"], "learning_rate to be a number above 0, got nan"),
        (["cnn"], "Missing option '--out'"),
        (["--out", "run"], "Missing argument 'NETWORK'"),
        (["cnn", "--out", "run", "--augment", "flip=,zoom"], "expected NAME=VALUE; got 'flip='"),
        (["cnn", "--out", "run", "--image-size", "12x"], "expected HEIGHTxWIDTH in pixels"),
        (["--config", "none.toml"], "none.toml; it cannot be read"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str, tmp_path: Path) -> None:
    """What cannot be meant is wrong usage, exit status 2, and makes no folder."""
    done = keraship("train", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert not list(tmp_path.iterdir())


def test_expected_failure(tmp_path: Path) -> None:
    """A folder that holds a run is one sentence on stderr and exit status 1."""
    (tmp_path / "best.keras").touch()
    done = keraship("train", "cnn", "--out", ".", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("keraship: expected a folder without a run")
    assert done.stderr.count("\n") == 1


def test_a_network_that_is_not_made_for_the_data(tmp_path: Path) -> None:
    """A table for a network of images is one sentence, and no run is begun."""
    done = keraship("train", "cnn", "--out", "run", "--data", "wine", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("keraship: ")
    assert "classification of images" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list((tmp_path / "run").iterdir())


def test_another_backend(tmp_path: Path) -> None:
    """A Keras that is told to run on something else is refused in one sentence."""
    done = keraship("train", "cnn", "--out", "run", cwd=tmp_path, KERAS_BACKEND="jax")
    assert done.returncode == 1
    assert done.stderr == (
        "keraship: expected Keras on TensorFlow; it runs on jax: set KERAS_BACKEND=tensorflow, or unset it\n"
    )


def test_light_import(tmp_path: Path) -> None:
    """The command, its help and the public names are there without TensorFlow, Keras or scikit-learn."""
    code = (
        "import sys, keraship.models.command, keraship.models\n"
        "print([name for name in ('tensorflow', 'keras', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    shown = keraship("train", "--help", cwd=tmp_path)
    assert "Example:" in shown.stdout
