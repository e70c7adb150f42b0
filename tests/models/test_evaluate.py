"""A trained model, its export and the served export, judged on the same rows."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keraship import cli
from keraship.client import Client
from keraship.errors import BundleError, DataError, KerashipError, ModelError, ServerError, Unavailable
from keraship.models import TrainResult
from keraship.models.evaluate import Evaluation, evaluate
from keraship.models.held_out import read_held_out
from keraship.models.sources import Exported, ask_keras, parse_sources

LAYERS = "keraship.models.layers"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def children() -> str:
    return Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text()


@pytest.fixture(scope="module")
def repository(trained: TrainResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `keraship export` makes of the trained model, whose own layers, being keraship's, need no --import."""
    folder = tmp_path_factory.mktemp("repository")
    command = [sys.executable, "-m", "keraship", "export", str(trained.model), "--to", str(folder), "--name", "digits"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def served(repository: Path) -> Iterator[str]:
    """HOST:PORT/MODEL of a running server."""
    port = free_port()
    command = [sys.executable, "-m", "keraship", "serve", str(repository), f"--port={port}", "--rest_api_port=0"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with Client(f"localhost:{port}", "digits") as client:
            client.wait_until_ready(120)
        yield f"localhost:{port}/digits"
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
def evaluation(trained: TrainResult, repository: Path, served: str) -> Evaluation:
    return evaluate(
        [str(trained.model), str(repository / "digits"), served], trained.test, imports=[LAYERS], batch_size=100
    )


def test_the_three_agree(trained: TrainResult, evaluation: Evaluation) -> None:
    """The .keras file, the version and the served model give the same classes and the accuracy of the training."""
    assert [result.kind for result in evaluation.results] == ["Keras model", "exported version", "served model"]
    for result in evaluation.results:
        assert result.scores.metrics["accuracy"].value == pytest.approx(trained.quality.value)
        assert (result.predictions.y_true == np.load(trained.test)["labels"]).all()
    assert len(evaluation.agreements) == 3
    for each in evaluation.agreements:
        assert each.same_top1.value == 1
        assert each.max_score_difference < 1e-5


def test_alignment_survives_another_order(trained: TrainResult, tmp_path: Path) -> None:
    """The same rows in another order, in other batches, give the same rows their scores, and the same numbers."""
    data = np.load(trained.test)
    order = np.random.default_rng(0).permutation(len(data["labels"]))
    np.savez(tmp_path / "other.npz", images=data["images"][order], labels=data["labels"][order])
    first, other = (
        evaluate([str(trained.model)], path, imports=[LAYERS], batch_size=size).results[0]
        for path, size in ((trained.test, 256), (tmp_path / "other.npz", 37))
    )
    np.testing.assert_allclose(other.predictions.y_pred, first.predictions.y_pred[order], atol=1e-6)
    assert other.scores.metrics["accuracy"] == first.scores.metrics["accuracy"]


def test_the_command(trained: TrainResult, repository: Path, tmp_path: Path) -> None:
    """A fresh process: a table of numbers on stdout, a report in the folder, no chatter, exit status 0."""
    command = ["evaluate", str(trained.model), str(repository / "digits"), "--import", LAYERS, "--format", "onnx"]
    command += ["--data", str(trained.test), "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-m", "keraship", *command], capture_output=True, text=True, check=False, timeout=200
    )
    assert (done.returncode, done.stderr) == (0, "")
    for words in ("accuracy", "same best class", "360 rows", "report.html"):
        assert words in done.stdout
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert [source["source"] for source in found["sources"]] == [str(trained.model), f"{repository}/digits/1 (onnx)"]
    assert found["sources"][0]["metrics"]["accuracy"]["value"] == pytest.approx(trained.quality.value)


def test_json(served: str, trained: TrainResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --json stdout is one document, the same numbers as in the folder."""
    with pytest.raises(SystemExit) as done:
        cli.main(["evaluate", served, "--data", str(trained.test), "--out", str(tmp_path), "--json"])
    assert done.value.code == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed.pop("report") == str(tmp_path / "report.html")
    assert printed["sources"][0]["kind"] == "served model"
    on_disk = json.loads((tmp_path / "evaluation.json").read_text())
    assert printed["sources"][0]["metrics"] == on_disk["sources"][0]["metrics"]


def test_a_segmentation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model of masks is judged by overlap: here one that says of every pixel what it is."""
    inputs = keras.Input((None, None, 1), name="images")
    layer = keras.layers.Conv2D(2, 1, activation="softmax", name="scores")
    model = keras.Model(inputs, layer(inputs))
    layer.set_weights([np.array([[[[-9.0, 9.0]]]]), np.array([4.5, -4.5])])  # class 1 above a half
    model.save(tmp_path / "bright.keras")
    images = np.random.default_rng(0).random((12, 6, 7, 1)).astype(np.float32)
    np.savez(tmp_path / "scenes.npz", images=images, labels=(images[..., 0] > 0.5).astype(np.uint8))
    command = [str(tmp_path / "bright.keras"), "--data", str(tmp_path / "scenes.npz"), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as done:
        cli.main(["evaluate", *command])
    assert done.value.code == 0
    assert "mean iou" in capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert found["task"] == "segmentation"
    assert found["sources"][0]["metrics"]["mean_iou"] == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_the_server_ends_with_the_questions(repository: Path) -> None:
    """The process that runs a version is gone afterwards, also where the questions end in an error."""
    before = children()
    source = Exported(repository / "digits" / "1", "onnx")
    with pytest.raises(RuntimeError, match="stop"), source.opened() as ask:
        assert children() != before
        assert ask({"pictures": np.zeros((2, 8, 8, 1))}).shape == (2, 10)
        raise RuntimeError("stop")
    assert children() == before


def test_a_version_that_cannot_be_served(tmp_path: Path) -> None:
    """The server's own sentence comes through, and nothing is left running."""
    before = children()
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "model.onnx").write_text("no model")
    with pytest.raises(ServerError, match=r"keraship serve cannot serve .*/1: "), Exported(tmp_path / "1").opened():
        pass
    assert children() == before


def small_data(path: Path, **changes: Any) -> Path:
    arrays = {"images": np.zeros((6, 8, 8, 1), np.float32), "labels": np.arange(6) % 3} | changes
    np.savez(path / "data.npz", **{name: array for name, array in arrays.items() if array is not None})
    return path / "data.npz"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": None}, "expected an array called labels"),
        ({"labels": np.arange(6) + 8}, "expected labels from 0 to 9"),
        ({"labels": np.ones(6, int)}, "expected rows of two classes or more"),
        ({"labels": np.zeros((6, 8, 8), int)}, "expected labels of shape"),
        ({"images": np.zeros((6, 9, 9, 1), np.float32)}, r"does not fit .*expects float32 \[-1,8,8,1\], got float32"),
        ({"images": np.full((6, 8, 8, 1), "x")}, "does not fit .*got string"),
    ],
)
def test_wrong_data(changes: dict[str, Any], message: str, trained: TrainResult, served: str, tmp_path: Path) -> None:
    """The same sentence from a .keras file and from a server, and never a traceback."""
    data = small_data(tmp_path, **changes)
    for source in (str(trained.model), served):
        with pytest.raises(DataError, match=message) as caught:
            evaluate([source], data, imports=[LAYERS])
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "kind", "message"),
    [
        ("nothing.keras", ModelError, "expected a .keras or .h5 file at nothing.keras"),
        ("nothing", ModelError, "expected a .keras file, the folder of an exported version, or HOST:PORT/MODEL"),
        (__file__, ModelError, "another kind of file"),
        (str(Path(__file__).parent), BundleError, "expected versions in"),
        ("localhost:1/digits", Unavailable, "no server answers at localhost:1"),
        ("http://localhost:1/digits", Unavailable, "no server answers at http://localhost:1"),
    ],
)
def test_sources_that_are_not_there(source: str, kind: type[Exception], message: str, tmp_path: Path) -> None:
    """What was expected, what came, and what is there instead."""
    with pytest.raises(kind, match=message):
        evaluate([source], small_data(tmp_path))


def test_sources_that_cannot_be_compared(trained: TrainResult, tmp_path: Path) -> None:
    """Other classes, a source given twice, a format that was not exported."""
    inputs = keras.Input((8, 8, 1), name="images")
    keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(keras.layers.Flatten()(inputs))).save(
        tmp_path / "three.keras"
    )
    with pytest.raises(DataError, match=r"sources with the same classes; .*\[6, 10\].*three.keras of \[6, 3\]"):
        evaluate([str(trained.model), str(tmp_path / "three.keras")], small_data(tmp_path), imports=[LAYERS])
    with pytest.raises(ValueError, match="every source once"):
        parse_sources([str(trained.model)] * 2)
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "model.onnx").touch()
    with pytest.raises(BundleError, match=r"expected saved_model.pb in .*--formats"):
        parse_sources([str(tmp_path / "1")], formats=["saved_model"])


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["localhost:1/m", "--data", "none.npz"], 1, "keraship: expected data at none.npz; there is no such file\n"),
        (["ftp://localhost:1/m", "--data", "none.npz"], 2, "ftp"),
        (["--data", "none.npz"], 2, "Missing argument"),
        (["localhost:1/m"], 2, "Missing option '--data'"),
    ],
)
def test_failures_of_the_command(
    arguments: list[str], status: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence and status 1 for what is not there, 2 for wrong usage; nothing is written."""
    with pytest.raises(SystemExit) as done:
        cli.main(["evaluate", *arguments, "--out", str(tmp_path / "out")])
    assert done.value.code == status
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_full_folder_is_refused_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before any source is asked."""
    (tmp_path / "notes.txt").touch()
    with pytest.raises(SystemExit) as done:
        cli.main(["evaluate", "localhost:1/m", "--data", "none.npz", "--out", str(tmp_path)])
    assert done.value.code == 1
    assert "holds notes.txt" in capsys.readouterr().err


def test_models_of_several_inputs_and_outputs() -> None:
    """Arrays go to the inputs of their names, numbers as floats, text as text; the output called scores is taken."""
    age, name = keras.Input((1,), name="age"), keras.Input((), dtype="string", name="name")
    length = keras.layers.Lambda(lambda text: tf.strings.length(text)[:, tf.newaxis], output_shape=(1,))(name)
    number = keras.layers.Lambda(lambda values: tf.cast(values, "float32"), output_shape=(1,))(length)
    outputs = {"scores": keras.layers.Concatenate()([age, number]), "other": age}
    ask = ask_keras(keras.Model({"name": name, "age": age}, outputs))
    data = {"age": np.array([[1.5], [2.5]]), "name": np.array(["four", "seventy"])}
    np.testing.assert_array_equal(ask(data), [[1.5, 4], [2.5, 7]])
    with pytest.raises(DataError, match="does not fit the model: expected arrays named"):
        ask({"age": data["age"], "height": data["age"]})
    with pytest.raises(ModelError, match="expected one output, or one called scores; the model gives"):
        ask_keras(keras.Model([age, name], [age, number]))(data)


def test_a_model_that_fails_on_the_data() -> None:
    """Keras' pages become one sentence that names the model."""
    inputs = keras.Input((None,), name="x")
    model = keras.Model(inputs, keras.layers.Lambda(lambda x: tf.reshape(x, (-1, 7)), output_shape=(7,))(inputs))
    with pytest.raises(KerashipError, match=r"^the model fails on the data: ") as caught:
        ask_keras(model)(np.zeros((2, 3), np.float32))
    assert "\n" not in str(caught.value)


def test_a_folder_of_images_of_another_size(trained: TrainResult, served: str, tmp_path: Path) -> None:
    """Image files come to every source in its own size and colours, and are judged under their folders' names."""
    data = np.load(trained.test)
    for number, (image, label) in enumerate(zip(data["images"], data["labels"], strict=True)):
        path = tmp_path / "photos" / str(label) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(image[..., 0].astype(np.uint8)).resize((16, 16), Image.Resampling.NEAREST)
        picture.convert("RGB").save(path)
    found = evaluate([str(trained.model), served], tmp_path / "photos", imports=[LAYERS])
    assert (found.rows, found.classes) == (360, tuple("0123456789"))
    for result in found.results:
        assert result.scores.metrics["accuracy"].value == pytest.approx(
            trained.quality.value, abs=0.05
        )  # resampled twice
    assert found.agreements[0].same_top1.value == 1


def test_a_table_by_another_column(tmp_path: Path) -> None:
    """The column of labels is the one that is asked for."""
    path = tmp_path / "table.csv"
    path.write_text("kind,x,label\n" + "".join(f"{'ab'[row % 2]},{row % 2},{row}\n" for row in range(12)))
    inputs = keras.Input((), name="x")
    column = keras.layers.Reshape((1,))(inputs)
    other = keras.Input((), dtype="int64", name="label")
    ignored = keras.layers.Lambda(lambda x: 0.0 * tf.cast(x, "float32")[:, None], output_shape=(1,))(other)
    model = keras.Model([inputs, other], keras.layers.Concatenate()([1 - column + ignored, column]))
    held_out = read_held_out(path, label_column="kind")
    assert held_out.classes == ("a", "b")
    fetched, labels = held_out.rows.fetch(np.arange(12))
    assert (np.asarray(ask_keras(model)(fetched)).argmax(axis=-1) == labels).all()
