from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from keraship.errors import TrainingError
from keraship.models import TrainConfig, train

PLAIN = """
import dataclasses, json, pathlib, sys, types
import keraship.models.networks as networks
from keraship.models import TrainConfig, train

def build(task):  # without dropout, whose numbers, and without normalisation, whose batches, are a device's own
    import keras
    images = keras.Input((8, 8, 1), name="images")
    x = keras.layers.Dense(16, activation="tanh")(keras.layers.Flatten()(images))
    return keras.Model(images, keras.layers.Dense(len(task.classes), activation="softmax", name="scores")(x))

sys.modules["keraship.models.network_plain"] = types.SimpleNamespace(build=build)
networks.NETWORKS["plain"] = networks.Network("classification", "images", "two dense layers")
"""

TWO_AND_ONE = (
    PLAIN
    + """
common = dict(network="plain", data=sys.argv[1], epochs=4, batch_size=32, learning_rate=0.01)
curves = []
for more in (dict(distribute="mirrored", devices=2, scale=False, out="two"), dict(out="one"),
             dict(distribute="mirrored", devices=2, batch_size=16, learning_rate=0.005, out="scaled")):
    epochs = train(TrainConfig(**{**common, **more})).epochs
    curves.append([[epoch.loss, epoch.val_loss, epoch.values["learning_rate"]] for epoch in epochs])
print(json.dumps(curves))
"""
)

WORKER = (
    PLAIN
    + """
config = TrainConfig("plain", "run", data=sys.argv[1], epochs=3, learning_rate=0.01, distribute="multi_worker",
                     scale=False)
print(json.dumps([epoch.loss for epoch in train(config).epochs]))
"""
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """170 rows, of which 102 are to train on: batches of 32, 32, 32 and 6."""
    path: Path = tmp_path_factory.mktemp("data") / "rows.npz"
    random = np.random.default_rng(0)
    np.savez(path, images=random.uniform(0, 1, (170, 8, 8, 1)).astype("float32"), labels=np.arange(170) % 5)
    return path


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", **more}


def test_two_devices_as_one(data: Path, tmp_path: Path) -> None:
    """Two devices that share each batch have the loss of one, in training and validation, epoch by epoch; with the
    scaling on, each has a batch of its own and the rate is twice that which was given, which here is the same run."""
    done = subprocess.run(
        [sys.executable, "-c", TWO_AND_ONE, str(data)],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    two, one, scaled = json.loads(done.stdout)
    np.testing.assert_allclose(two, one, atol=1e-4)
    np.testing.assert_allclose(scaled, one, atol=1e-4)
    assert one[-1][0] < one[0][0] - 0.01


def test_two_workers(data: Path, tmp_path: Path) -> None:
    """Two processes train together: one writes the run, and both have the same epochs of it."""
    ports = [free_port(), free_port()]
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(data)],
            cwd=tmp_path,
            env=environment(TF_CONFIG=json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    try:
        said = [worker.communicate(timeout=200) for worker in workers]
    finally:
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):
                worker.kill()
            worker.wait()
    assert [worker.returncode for worker in workers] == [0, 0], said
    first, second = (json.loads(out) for out, _ in said)
    assert first == second
    story = json.loads((tmp_path / "run" / "history.json").read_text())
    assert [epoch["loss"] for epoch in story["epochs"]] == first
    assert len(first) == 3
    assert not (tmp_path / "run" / "resume.npz").exists()


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


@pytest.mark.parametrize(
    "text", ["", "{}", "[", '{"cluster": {"worker": ["a:1"]}, "task": {"type": "ps", "index": 0}}']
)
def test_without_workers(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several workers without a TF_CONFIG that names them is one sentence, before anything is trained."""
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(TrainingError, match="expected the environment's TF_CONFIG to name the workers"):
        train(TrainConfig("cnn", tmp_path, distribute="multi_worker"))


def test_devices_that_come_too_late(tmp_path: Path) -> None:
    """Devices cannot be made of a CPU that the process has used already: one sentence."""
    tf.constant(0)
    with pytest.raises(TrainingError, match="train in a new one"):
        train(TrainConfig("cnn", tmp_path, distribute="mirrored", devices=2))


def test_config_of_devices() -> None:
    """What is for one device alone is refused together with several."""
    for more in ({"hard_mining": True}, {"precision_recall": True}, {"pipeline": "PyDataset"}):
        with pytest.raises(TrainingError, match="which are for one device"):
            TrainConfig("cnn", Path("run"), distribute="mirrored", **more)
    with pytest.raises(TrainingError, match="distribute to be mirrored"):
        TrainConfig("cnn", Path("run"), devices=2)
