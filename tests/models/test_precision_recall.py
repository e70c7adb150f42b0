from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import average_precision_score, precision_recall_curve

from keraship.errors import TrainingError
from keraship.models.precision_recall import PrecisionRecallCurves, draw, precision_recall

NAMES = ("cat", "dog", "$x_", "_hidden", "nobody")


class Rows:
    def __init__(self, x: Any, y: Any) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.y)

    def fetch(self, indices: Any) -> tuple[dict[str, Any], Any]:
        return {"points": self.x[indices]}, self.y[indices]


def softmax(values: Any) -> Any:
    return np.exp(values) / np.exp(values).sum(axis=-1, keepdims=True)


def check(targets: Any, scores: Any, classes: int) -> None:
    """Equal to scikit-learn, class by class, and in both means."""
    result = precision_recall(targets, scores, [str(index) for index in range(classes)])
    flat = scores.reshape(-1, classes).astype(float)
    truth = np.eye(classes, dtype=int)[targets.reshape(-1)]
    present = np.flatnonzero(truth.sum(axis=0))
    for index, curve in enumerate(result.curves):
        assert curve.positives == truth[:, index].sum()
        if index not in present:
            assert curve.average_precision is None
            continue
        assert curve.average_precision == average_precision_score(truth[:, index], flat[:, index])
        precision, recall, _ = precision_recall_curve(truth[:, index], flat[:, index], drop_intermediate=True)
        np.testing.assert_array_equal(curve.precision, precision)
        np.testing.assert_array_equal(curve.recall, recall)
    macro = average_precision_score(truth[:, present], flat[:, present], average="macro")
    assert result.macro == pytest.approx(macro, abs=1e-12)
    assert result.micro == average_precision_score(truth, flat, average="micro")


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(1, 40),
    classes=st.integers(2, 5),
    steps=st.integers(1, 50),
    seed=st.integers(0, 99),
    dtype=st.sampled_from(["float16", "float32", "float64"]),
)
def test_equal_to_scikit_learn(rows: int, classes: int, steps: int, seed: int, dtype: str) -> None:
    """On random targets and scores, with ties, and with classes that have no positives, or nothing else."""
    random = np.random.default_rng(seed)
    scores = softmax(random.integers(0, steps, (rows, classes)) / steps).astype(dtype)
    check(random.integers(0, classes, rows), scores, classes)


def test_edges() -> None:
    """A perfect and a useless classifier, one row, one class only, and masks."""
    perfect = np.eye(3)[np.arange(9) % 3]
    assert precision_recall(np.arange(9) % 3, perfect, "abc").micro == 1
    useless = precision_recall(np.arange(9) % 3, np.full((9, 3), 1 / 3), "abc")
    assert useless.macro == pytest.approx(1 / 3)
    check(np.array([1]), np.array([[0.2, 0.8]]), 2)
    check(np.zeros(5, int), softmax(np.random.default_rng(0).normal(size=(5, 2))), 2)
    random = np.random.default_rng(0)
    check(random.integers(0, 3, (2, 4, 5)), softmax(random.normal(size=(2, 4, 5, 3))), 3)


def some_model(classes: int) -> Any:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3,), name="points")
    model = keras.Model(inputs, keras.layers.Dense(classes, activation="softmax", name="scores")(inputs))
    model.compile("adam", loss="sparse_categorical_crossentropy", jit_compile=False)
    return model


def test_every_epoch(tmp_path: Path) -> None:
    """After each epoch there are a picture and the numbers of that epoch's weights, and nothing else; logs have both
    means for others to monitor."""
    random = np.random.default_rng(0)
    rows = Rows(random.normal(size=(50, 3)).astype("float32"), random.integers(0, 4, 50))
    seen: list[Any] = []

    class Seen(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            scores = np.asarray(self.model(rows.x)).astype(float)
            seen.append((logs, scores))

    folder = tmp_path / "not there yet" / "pr"
    curves = PrecisionRecallCurves(folder, rows, classes=NAMES, batch_size=16)
    model = some_model(5)
    history = model.fit(rows.x, rows.y, epochs=2, callbacks=[curves, Seen()], verbose=0).history
    names = ["epoch-001.json", "epoch-001.png", "epoch-002.json", "epoch-002.png"]
    assert sorted(path.name for path in folder.iterdir()) == names
    truth = np.eye(5)[rows.y]
    for number, (logs, scores) in enumerate(seen, start=1):
        story = json.loads((folder / f"epoch-{number:03d}.json").read_text())
        assert story["epoch"] == number
        assert [entry["name"] for entry in story["classes"]] == list(NAMES)
        assert story["classes"][4] == {"name": "nobody", "positives": 0, "average_precision": None}
        for index in range(4):
            expected = average_precision_score(truth[:, index], scores[:, index])
            assert story["classes"][index]["average_precision"] == pytest.approx(expected, abs=1e-6)
        assert story["micro"] == pytest.approx(average_precision_score(truth, scores, average="micro"), abs=1e-6)
        assert (logs["val_macro_ap"], logs["val_micro_ap"]) == (story["macro"], story["micro"])
        with Image.open(folder / f"epoch-{number:03d}.png") as image:
            image.load()
            assert image.size == (800, 500)
    assert len(history["val_macro_ap"]) == 2


def test_many_classes(tmp_path: Path) -> None:
    """More classes than a legend holds are drawn, with a legend of those that fit."""
    random = np.random.default_rng(0)
    result = precision_recall(np.arange(60), softmax(random.normal(size=(60, 60))), [f"class {i}" for i in range(60)])
    draw(result, tmp_path / "many.png", title="many")
    with Image.open(tmp_path / "many.png") as image:
        assert np.asarray(image.convert("L")).std() > 10


@pytest.mark.parametrize(
    ("targets", "scores", "message"),
    [
        ([0, 1], np.ones((2, 2)), r"shape \(2, 3\), one for each of 3 classes.*got \(2, 2\)"),
        ([0, 1], np.ones((3, 3)), r"got \(3, 3\)"),
        ([], np.ones((0, 3)), "one row or more"),
        ([0, 3], np.ones((2, 3)), "ids from 0 to 2; got ids from 0 to 3"),
        ([-1, 1], np.ones((2, 3)), "got ids from -1 to 1"),
        ([0, 1], np.full((2, 3), np.nan), "6 of 6 are not"),
    ],
)
def test_wrong_input(targets: list[int], scores: Any, message: str) -> None:
    """What does not fit is said in one sentence."""
    with pytest.raises(TrainingError, match=message):
        precision_recall(np.array(targets, int), scores, "abc")


def test_wrong_arguments(tmp_path: Path) -> None:
    """No rows, no batch, and a folder that cannot be, are errors; the last after the first epoch."""
    rows = Rows(np.ones((3, 3), "float32"), np.zeros(3, int))
    for wrong, size in ((Rows(rows.x[:0], rows.y[:0]), 1), (rows, 0)):
        with pytest.raises(TrainingError, match="rows to judge by"):
            PrecisionRecallCurves(tmp_path, wrong, classes="ab", batch_size=size)
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match="a folder that can be written to"):
        some_model(2).fit(
            rows.x, rows.y, verbose=0, callbacks=[PrecisionRecallCurves(tmp_path / "file", rows, classes="ab")]
        )
