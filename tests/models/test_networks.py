"""What all networks have in common: raw inputs, scores, one training step, a file that needs no code of its own."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from keraship.errors import TrainingError
from keraship.models import task as tasks
from keraship.models.networks import NETWORKS, build, loss_for, names_for
from keraship.models.pipeline import batches
from keraship.models.rows import ArrayRows
from keraship.models.task import CLASSIFICATION, SEGMENTATION, Task
from keraship.signature import TensorSpec

Array = np.ndarray[Any, Any]

RANDOM = np.random.default_rng(0)
COUNT = 12
LABELS = np.arange(COUNT) % 3
CLASSES = ("a", "b", "c")


def strings(*values: str) -> Array:
    return np.array([values[i % len(values)] for i in range(COUNT)], object)


IMAGES = tasks.of_images((8, 8, 1), CLASSES, maximum=16.0)
MASKS = tasks.of_images((9, 14, 3), CLASSES, maximum=255.0, kind=SEGMENTATION)
TEXTS = tasks.of_text(CLASSES)
TABLE = Task(
    CLASSIFICATION,
    tuple(
        TensorSpec(name, dtype, (None,))
        for name, dtype in (("weight", "float32"), ("age", "int64"), ("kind", "string"))
    ),
    CLASSES,
)
OPEN = Task(CLASSIFICATION, (TensorSpec("images", "float32", (None, None, None, 1)),), CLASSES, 1.0)
PHOTOS = RANDOM.uniform(0, 16, (COUNT, 8, 8, 1)).astype("float32")

CASES: dict[str, tuple[Task, ArrayRows]] = {
    "cnn": (IMAGES, ArrayRows({"images": PHOTOS}, LABELS)),
    "resnet": (IMAGES, ArrayRows({"images": PHOTOS}, LABELS)),
    "finetune": (IMAGES, ArrayRows({"images": PHOTOS}, LABELS)),
    "segmentation": (
        MASKS,
        ArrayRows(
            {"images": RANDOM.uniform(0, 255, (COUNT, 9, 14, 3)).astype("float32")},
            RANDOM.integers(0, 3, (COUNT, 9, 14)),
        ),
    ),
    "text": (TEXTS, ArrayRows({"text": strings("The quick fox.", "a lazy dog", "", "über uns")}, LABELS)),
    "tabular": (
        TABLE,
        ArrayRows(
            {
                "weight": np.array([1.5, np.nan, 3.0, -2.0] * 3, "float32"),
                "age": np.arange(COUNT) + 1_700_000_000,
                "kind": strings("x", "y", "", "x"),
            },
            LABELS,
        ),
    ),
}
"""A task for each network, and its rows."""

OPTIONS: dict[str, dict[str, Any]] = {"text attention": {"encoder": "attention"}}
EVERY = [*CASES, *OPTIONS]


def case(name: str) -> tuple[Task, ArrayRows, keras.Model]:
    network = name.partition(" ")[0]
    task, rows = CASES[network]
    return task, rows, build(network, task, rows=rows, **OPTIONS.get(name, {}))


@pytest.fixture(scope="module")
def stepped() -> dict[str, keras.Model]:
    """Every network after one pass over its rows."""
    made = {}
    for name in EVERY:
        task, rows, model = case(name)
        # To compile MobileNetV2 with XLA takes far longer than a step.
        model.compile(keras.optimizers.Adam(1e-4), loss=loss_for(task), jit_compile=False)
        before = [np.array(weight) for weight in model.trainable_weights]
        history = model.fit(batches(rows, batch_size=COUNT), shuffle=False, verbose=0)
        assert np.isfinite(history.history["loss"]).all(), name
        changed = [not np.array_equal(old, new) for old, new in zip(before, model.trainable_weights, strict=True)]
        assert any(changed), name
        made[name] = model
    return made


def answer(model: keras.Model, rows: ArrayRows) -> Array:
    scores: Array = np.asarray(model.predict(batches(rows, batch_size=5, deterministic=True), verbose=0))
    return scores


@pytest.mark.parametrize("name", EVERY)
def test_contract(name: str, stepped: dict[str, keras.Model]) -> None:
    """Every network takes its task's inputs by name, as they are, and gives `scores`: float32, of sum 1, finite."""
    task, rows = CASES[name.partition(" ")[0]]
    model = stepped[name]
    inputs = {tensor.name: (tuple(tensor.shape), tensor.dtype) for tensor in model.inputs}
    assert inputs == {spec.name: (spec.shape, spec.dtype) for spec in task.inputs}
    assert model.layers[-1].name == "scores"
    scores = answer(model, rows)
    assert scores.shape == (*rows.targets.shape, 3)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores.sum(axis=-1), 1, rtol=1e-5)


CHILD = """
import json, sys
from pathlib import Path
import numpy as np
from keraship.keras_file import load
for name in json.loads(sys.argv[2]):
    folder = Path(sys.argv[1]) / name
    model = load(folder / "model.keras", imports=["keraship.models.layers"])
    import tensorflow as tf
    arrays = {k: tf.constant(v) for k, v in np.load(folder / "inputs.npz").items()}
    scores = model.predict_on_batch(arrays if len(arrays) > 1 else next(iter(arrays.values())))
    np.save(folder / "scores.npy", scores)
"""


def test_files_in_a_fresh_process(stepped: dict[str, keras.Model], tmp_path: Path) -> None:
    """A saved network answers as before in a process that knows none but keraship's layers: its vocabularies and
    statistics are in the file."""
    for name, model in stepped.items():
        rows = CASES[name.partition(" ")[0]][1]
        (tmp_path / name).mkdir()
        model.save(tmp_path / name / "model.keras")
        inputs = {key: tf.constant(array).numpy() for key, array in rows.inputs.items()}
        plain = {key: array.astype("S") if array.dtype == object else array for key, array in inputs.items()}
        np.savez(tmp_path / name / "inputs.npz", **plain)
    subprocess.run([sys.executable, "-c", CHILD, str(tmp_path), json.dumps(EVERY)], check=True, timeout=200)
    for name, model in stepped.items():
        rows = CASES[name.partition(" ")[0]][1]
        scores = np.load(tmp_path / name / "scores.npy")
        np.testing.assert_allclose(scores, answer(model, rows), rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("name", ["text", "tabular"])
def test_export(name: str, stepped: dict[str, keras.Model], tmp_path: Path) -> None:
    """A network with strings in its graph is exported, which proves the artifact equal to it in another process."""
    from keraship.exporter import export

    path = tmp_path / "network.keras"
    stepped[name].save(path)
    exported = export(path, tmp_path / "repository", formats=("saved_model",), imports=("keraship.models.layers",))
    assert exported.manifest.signatures["serving_default"].outputs[0].name == "scores"


def test_losses() -> None:
    """Cross-entropy for rows; for pixels the mean overlap, besides."""
    y_true = np.zeros((2, 4, 4), "int64")
    y_pred = np.full((2, 4, 4, 3), 1 / 3, "float32")
    entropy = np.log(3)
    assert float(loss_for(IMAGES)(y_true[:, 0, 0], y_pred[:, 0, 0])) == pytest.approx(entropy, rel=1e-5)
    # Of the first class 16 pixels: 1 - (2 * 16/3 + 1) / (16 + 16/3 + 1); of the others none: 1 - 1 / (16/3 + 1).
    dice = np.mean([1 - (32 / 3 + 1) / (16 + 16 / 3 + 1), *[1 - 1 / (16 / 3 + 1)] * 2])
    assert float(loss_for(MASKS)(y_true, y_pred)) == pytest.approx(dice + entropy, rel=1e-5)


def test_names_for() -> None:
    """Each kind of task has its networks, and each network is of one of them."""
    assert names_for(IMAGES) == ("cnn", "resnet", "finetune")
    assert [names_for(task) for task in (MASKS, TEXTS, TABLE)] == [("segmentation",), ("text",), ("tabular",)]


def test_options_are_those_of_the_network() -> None:
    """What NETWORKS says of options is what each network takes."""
    for name, network in NETWORKS.items():
        taken = set(inspect.signature(import_module(f"keraship.models.network_{name}").build).parameters)
        assert taken - {"task", "rows"} == set(network.options), name
        assert ("rows" in taken) == network.needs_rows, name


def test_unknown_network() -> None:
    """An unknown name is answered with the one that was meant, and the list."""
    with pytest.raises(TrainingError, match=r"out of cnn, resnet, .*; got 'cnnn', did you mean 'cnn'\?"):
        build("cnnn", IMAGES)


@pytest.mark.parametrize(
    ("name", "task", "message"),
    [
        ("cnn", TEXTS, r"cnn is made for classification of images; got classification of text \(text .*\): train text"),
        ("resnet", MASKS, r"resnet is made for classification of images; got segmentation .*: train segmentation"),
        ("segmentation", IMAGES, r"got classification of images .*: train cnn, resnet, finetune on these"),
        ("text", TABLE, r"text is made for classification of text; got classification of columns .*: train tabular"),
        ("tabular", TEXTS, r"tabular is made for classification of columns; .*: train text on these"),
        ("text", TEXTS, r"expected training rows, which text takes its preprocessing from; got none"),
        ("cnn", tasks.Task(CLASSIFICATION, IMAGES.inputs, CLASSES), r"brightest value, .*; got None"),
        ("cnn", tasks.of_images((8, 8, 1), ("a",), maximum=1.0), "expected two classes or more; got a"),
        ("cnn", OPEN, r"images of known size and channels for cnn; got float32 \[-1,-1,-1,1\]"),
    ],
)
def test_another_task(name: str, task: Task, message: str) -> None:
    """A network that is not made for a task says what it is made for, and which ones are."""
    with pytest.raises(TrainingError, match=message):
        build(name, task)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cnn", {"width": 3}, "cnn has no options; got 'width'"),
        (
            "finetune",
            {"bodi": "VGG16"},
            "of finetune out of body, weights, image_size; got 'bodi', did you mean 'body'",
        ),
        ("finetune", {"body": "MobileNetV9"}, "a body out of .*got 'MobileNetV9', did you mean 'MobileNetV2'"),
        ("finetune", {"body": ["VGG16"]}, "a body out of "),
        ("finetune", {"image_size": 31}, "image_size to be a whole number from 32 on; got 31"),
        ("finetune", {"weights": "missing.h5"}, "got missing.h5, there is no such file"),
        ("text", {"encoder": "lstm"}, "an encoder out of gru, attention; got 'lstm'"),
        ("text", {"words": "many"}, "words to be a whole number from 3 on; got 'many'"),
        ("text", {"length": 0}, "length to be a whole number from 1 on; got 0"),
    ],
)
def test_wrong_options(name: str, options: dict[str, Any], message: str) -> None:
    """An option that a network does not have, or that cannot be, is named with what could be."""
    task, rows = CASES[name]
    with pytest.raises(TrainingError, match=message):
        build(name, task, rows=rows, **options)
