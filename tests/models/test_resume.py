from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from keraship.errors import TrainingError
from keraship.models.monitor import KeepBest, Monitor, Watch
from keraship.models.resume import Resume
from keraship.models.schedules import Cyclic, Plan
from keraship.models.whole import whole

EPOCHS = 5
CONFIG = {"seed": 1, "shape": (4,), "learning_rate": 0.1}


class Shuffled(keras.utils.PyDataset):  # type: ignore[misc]
    """24 rows, in an order that is drawn of numpy's global generator ahead of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        generator = np.random.default_rng(0)
        self.x, self.y = generator.normal(size=(24, 4)).astype("float32"), generator.integers(0, 3, 24)
        self.order = np.arange(24)

    def on_epoch_begin(self) -> None:
        self.order = np.random.permutation(24)

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Any:
        rows = self.order[4 * index : 4 * index + 4]
        return self.x[rows], self.y[rows]


OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "adam": lambda rate: keras.optimizers.Adam(rate, use_ema=True),
    "momentum, loss scale": lambda rate: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(rate, momentum=0.9), initial_scale=4.0, dynamic_growth_steps=7
    ),
    "accumulated": lambda rate: keras.optimizers.RMSprop(rate, gradient_accumulation_steps=4),  # 6 batches an epoch
}


def some_model(optimizer: str = "adam", units: int = 8) -> Any:
    """With everything that a state must have: running means, dropout, a schedule, an optimizer's own."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(units, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    rate = Cyclic("triangular2", half_cycle=1).rate(Plan(0.05, EPOCHS, 6))
    model.compile(
        OPTIMIZERS[optimizer](rate), loss="sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False
    )
    return model


def some_run(folder: Path, *, epochs: int, optimizer: str = "adam") -> tuple[Any, list[dict[str, float]]]:
    """What a program does that is started again and again: the model and the history after so many epochs."""
    resume = Resume(folder, config=CONFIG)
    model = some_model(optimizer)
    watch = Watch(Monitor("loss", "min"), past=resume.story or ())
    resume.restore(model)
    model.fit(
        Shuffled(),
        epochs=epochs,
        initial_epoch=resume.initial_epoch,
        shuffle=False,
        verbose=0,
        callbacks=[
            watch,
            resume.saver(lambda: watch.history),
            KeepBest(watch, lambda model: model.save_weights(folder / "best.weights.h5")),
        ],
    )
    return model, watch.history


def state(model: Any) -> list[Any]:
    return [np.asarray(variable) for variable in (*model.variables, *model.optimizer.variables)]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_resumed_is_as_if_never_stopped(optimizer: str, tmp_path: Path) -> None:
    """A run in three parts has the weights, the optimizer, the generators and the history of one in one, bit by bit."""
    for name in ("one", "parts"):
        (tmp_path / name).mkdir()
    expected, story = some_run(tmp_path / "one", epochs=EPOCHS, optimizer=optimizer)
    drawn = (random.getstate(), np.random.get_state()[1:3])
    for epochs in (1, 3, EPOCHS):
        model, history = some_run(tmp_path / "parts", epochs=epochs, optimizer=optimizer)
    assert random.getstate() == drawn[0]
    np.testing.assert_equal(np.random.get_state()[1:3], drawn[1])
    assert history == story
    assert len(history) == EPOCHS
    for one, other in zip(state(model), state(expected), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_finished_run(tmp_path: Path) -> None:
    """Begun again after its last epoch, a run trains nothing, and has its weights and history; cleared, it's gone."""
    model, history = some_run(tmp_path, epochs=2)
    again, same = some_run(tmp_path, epochs=2)
    assert same == history
    for one, other in zip(state(model), state(again), strict=True):
        np.testing.assert_array_equal(one, other)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.weights.h5", "resume.npz"]
    Resume(tmp_path, config=CONFIG).clear()
    assert Resume(tmp_path, config=CONFIG).initial_epoch == 0
    Resume(tmp_path, config=CONFIG).clear()


def test_nothing_to_resume(tmp_path: Path) -> None:
    """A new run, in a folder that may not be there yet, begins at 0, with no story, and keeps its own weights."""
    resume = Resume(tmp_path / "new", config=CONFIG)
    assert (resume.initial_epoch, resume.story) == (0, None)
    model = some_model()
    before = state(model)
    resume.restore(model)
    for one, other in zip(before, state(model), strict=False):
        np.testing.assert_array_equal(one, other)


def test_bfloat16(tmp_path: Path) -> None:
    """Weights of a type that numpy cannot write are restored as they were."""
    models = []
    for _ in range(2):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, dtype="bfloat16")])
        model.compile("sgd", loss="mse", jit_compile=False)
        models.append(model)
    first, second = models
    first.fit(np.ones((2, 4)), np.ones((2, 3)), callbacks=[Resume(tmp_path, config={}).saver(list)], verbose=0)
    Resume(tmp_path, config={}).restore(second)
    np.testing.assert_array_equal(second.get_weights()[0], first.get_weights()[0])


def test_another_configuration(tmp_path: Path) -> None:
    """A state of another configuration is refused with all that differs; the file stays."""
    some_run(tmp_path, epochs=1)
    with pytest.raises(
        TrainingError, match=r"seed was 1, now is 2; learning_rate .*now is None; new was None.*--overwr"
    ):
        Resume(tmp_path, config={"seed": 2, "shape": [4], "new": True})
    assert Resume(tmp_path, config=CONFIG).initial_epoch == 1


def test_another_model(tmp_path: Path) -> None:
    """A model or an optimizer of other variables is refused, and not one of its variables is changed."""
    some_run(tmp_path, epochs=1)
    for other in (some_model(units=9), some_model("accumulated")):
        before = state(other)
        with pytest.raises(TrainingError, match=r"the model and the optimizer that were saved in .*resume.npz"):
            Resume(tmp_path, config=CONFIG).restore(other)
        for one, same in zip(before, state(other), strict=False):
            np.testing.assert_array_equal(one, same)
    with pytest.raises(TrainingError, match="built and compiled"):
        Resume(tmp_path, config=CONFIG).restore(keras.Sequential([keras.layers.Dense(1)]))


def damaged(content: bytes) -> dict[str, bytes]:
    return {
        "empty": b"",
        "half": content[: len(content) // 2],
        "text": b"not a state",
        "flipped": bytes([*content[:300], content[300] ^ 1, *content[301:]]),
    }


def test_a_broken_state(tmp_path: Path) -> None:
    """A file that is damaged in any way is refused in one sentence that names it, ahead of any training."""
    some_run(tmp_path, epochs=1)
    path = tmp_path / "resume.npz"
    whole_content = path.read_bytes()
    for content in damaged(whole_content).values():
        path.write_bytes(content)
        with pytest.raises(TrainingError, match=r"resume.npz; it cannot be read: .*--overwrite"):
            Resume(tmp_path, config=CONFIG)
    for array in (np.ones(3), np.array(json.dumps({"format": 99})), np.array("{}")):
        with path.open("wb") as file:
            np.savez(file, meta=array)
        with pytest.raises(TrainingError, match=r"resume.npz; it cannot be read"):
            Resume(tmp_path, config=CONFIG)
    with path.open("wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(TrainingError, match=r"resume.npz; it cannot be read"):
        Resume(tmp_path, config=CONFIG)


def test_what_a_killed_process_left(tmp_path: Path) -> None:
    """A state that was being written is never read: the one before it counts, and the half is taken away."""
    some_run(tmp_path, epochs=1)
    with contextlib.suppress(KeyboardInterrupt), whole(tmp_path / "resume.npz") as path:
        path.write_text("half")
        os.link(path, left := tmp_path / ".writing-1-resume.npz")
        raise KeyboardInterrupt
    assert Resume(tmp_path, config=CONFIG).initial_epoch == 1
    assert not left.exists()


CHILD = """
import sys, time
from pathlib import Path
import importlib.util
import keras

spec = importlib.util.spec_from_file_location("run_that_is_killed", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)

class Slow(module.Shuffled):
    def __getitem__(self, index):
        print("batch", flush=True)
        time.sleep(0.05)
        return super().__getitem__(index)

module.Shuffled = Slow
module.some_run(Path(sys.argv[2]), epochs=module.EPOCHS)
print("done", flush=True)
"""


def start(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, __file__, str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_killed_in_mid_epoch(tmp_path: Path) -> None:
    """Killed in the middle of an epoch and begun again by the same command, a run ends with all epochs.

    It repeats none that was over, and ends with the history of a run that nobody killed.
    """
    (tmp_path / "killed").mkdir()
    process = start(tmp_path / "killed")
    try:
        assert process.stdout is not None
        deadline = time.monotonic() + 120
        while not (tmp_path / "killed" / "resume.npz").exists():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            process.stdout.readline()
        for _ in range(8):  # over an epoch's end, into the middle of the next
            process.stdout.readline()
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    over = Resume(tmp_path / "killed", config=CONFIG).initial_epoch
    assert 1 <= over < EPOCHS
    process = start(tmp_path / "killed")
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert out.splitlines()[-1] == "done"
    again = Resume(tmp_path / "killed", config=CONFIG)
    assert again.initial_epoch == EPOCHS
    # The first batches are asked for once more, to see their types, before the epochs begin.
    assert 6 * (EPOCHS - over) <= out.splitlines().count("batch") <= 6 * (EPOCHS - over) + 4
    (tmp_path / "whole").mkdir()
    _, expected = some_run(tmp_path / "whole", epochs=EPOCHS)
    assert [logs["loss"] for logs in again.story] == pytest.approx([logs["loss"] for logs in expected], rel=1e-5)
