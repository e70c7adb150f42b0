from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from keraship.errors import TrainingError
from keraship.models import TrainConfig, train
from keraship.models.run import Epoch

COMMAND = [sys.executable, "-m", "keraship", "train", "tabular", "--data", "wine", "--epochs", "12", "--deterministic"]


def start(out: str, folder: Path) -> subprocess.Popen[str]:
    # Ignored, as in a shell's background job, it would be ignored in the child, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen(
        [*COMMAND, "--out", out], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def ended(process: subprocess.Popen[str]) -> int:
    process.communicate(timeout=120)
    return process.returncode


def stopped(process: subprocess.Popen[str], number: signal.Signals) -> tuple[int, str, int]:
    """A process that is sent a signal after two more epochs: how it ended, what it said, and the last whole epoch."""
    assert process.stderr is not None
    said = [process.stderr.readline() for _ in range(2)]
    process.send_signal(number)
    _, rest = process.communicate(timeout=60)
    lines = [line for line in [*said, *rest.splitlines()] if line.startswith("epoch")]
    return process.returncode, "".join([*said, rest]), int(lines[-1].split()[1].partition("/")[0])


def weights(folder: Path) -> bytes:
    with zipfile.ZipFile(folder / "best.keras") as archive:
        return archive.read("model.weights.h5")


def test_same_weights(tmp_path: Path) -> None:
    """One seed, one result: a run in a process of its own, and one that was interrupted, then killed, and both times
    begun again by the same command, have every epoch's values and the best epoch's weights in common, bit by bit."""
    assert ended(start("whole", tmp_path)) == 0
    status, said, first = stopped(start("parts", tmp_path), signal.SIGINT)
    assert (status, first < 12) == (130, True), said
    assert "the same command goes on" in said
    status, said, second = stopped(start("parts", tmp_path), signal.SIGKILL)
    assert (status, first < second < 12) == (-signal.SIGKILL, True), said
    assert said.split()[1] in (f"{first + 1}/12", f"{first + 2}/12")  # no epoch that was over is done again
    assert ended(start("parts", tmp_path)) == 0
    whole, parts = (json.loads((tmp_path / name / "history.json").read_text()) for name in ("whole", "parts"))
    assert [epoch["number"] for epoch in parts["epochs"]] == list(range(1, 13))
    assert (parts["epochs"], parts["test"]) == (whole["epochs"], whole["test"])
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == [
        *("best.keras", "config.toml", "curves.png", "history.json", "test.npz")
    ]


def test_another_configuration(tmp_path: Path) -> None:
    """An unfinished run of other settings is not gone on with: what differs is named, and the folder stays; what has no
    part in the weights may differ."""
    config = TrainConfig("tabular", tmp_path, "wine", epochs=3)
    with pytest.raises(KeyboardInterrupt):
        train(config, on_epoch=interrupt)
    before = (tmp_path / "resume.npz").read_bytes()
    with pytest.raises(TrainingError, match=r"learning_rate was 0.001, now is 0.1: .*--overwrite to begin anew"):
        train(dataclasses.replace(config, learning_rate=0.1))
    assert (tmp_path / "resume.npz").read_bytes() == before
    seen: list[Epoch] = []
    result = train(dataclasses.replace(config, tensorboard=True), on_epoch=seen.append)
    assert [epoch.number for epoch in seen] == [2, 3]
    assert [epoch.number for epoch in result.epochs] == [1, 2, 3]


def test_overwritten_while_unfinished(tmp_path: Path) -> None:
    """--overwrite begins anew, with other settings too."""
    config = TrainConfig("tabular", tmp_path, "wine", epochs=2)
    with pytest.raises(KeyboardInterrupt):
        train(config, on_epoch=interrupt)
    result = train(dataclasses.replace(config, epochs=1, batch_size=64, overwrite=True))
    assert [epoch.number for epoch in result.epochs] == [1]


def interrupt(_epoch: Epoch) -> None:
    raise KeyboardInterrupt
