"""Odd models of the zoo as artifacts; `make matrix` runs all of them."""

import inspect
import re
from pathlib import Path

import pytest

from keraship.quiet import import_keras

import_keras()

import keras  # noqa: E402  # TensorFlow's chatter first
import matrix_worker  # noqa: E402  # of benchmarks
import zoo  # noqa: E402

from keraship.exporter.verify import Checks  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Keras' own, about unusual structures

BOTH = [
    "conv_2d",
    "integer_lookup",
    "masked_sequences",
    "mixed_float16",
    "nested_structures",
    "output_is_input",
    "stateful_rnn",
    "subclassed_tokens",
    "while_loop",
]
ONLY_SAVED_MODEL = ["hashing", "text_classifier"]

# Bases, and bridges to frameworks that are not installed.
NOT_IN_ZOO = {"FlaxLayer", "InputSpec", "JaxLayer", "Layer", "TorchModuleWrapper", "Wrapper"}
NOT_IN_ZOO |= {
    "InputLayer",
    "MaxNumBoundingBoxes",
}  # part of every model; takes a dict of boxes that no signature holds


@pytest.fixture(scope="module")
def checks():
    with Checks(["saved_model", "onnx"], ["zoo"]) as started:
        yield started


@pytest.mark.parametrize("name", BOTH)
def test_models_become_equal_artifacts(checks, name):
    """SavedModel and ONNX answer as Keras does, to samples and to rows that the exporter never saw."""
    cells = list(matrix_worker.cells(checks, name, ["SavedModel", "ONNX"]))
    assert [(cell.verdict, cell.reason) for cell in cells] == [("green", "")] * 2


@pytest.mark.parametrize("name", ONLY_SAVED_MODEL)
def test_models_of_text_become_equal_saved_models(checks, name):
    """Hashes and rows of any number of words: what ONNX has no operations for."""
    (cell,) = matrix_worker.cells(checks, name, ["SavedModel"])
    assert (cell.verdict, cell.reason) == ("green", "")


def test_every_layer_of_keras_is_in_the_zoo():
    """By the source: building all models takes a minute."""
    source = "\n".join(path.read_text() for path in Path(zoo.__file__).parent.glob("*.py"))
    used = {getattr(keras.layers, name) for name in re.findall(r"\blayers\.(\w+)\b", source)}
    known = {cls for cls in vars(keras.layers).values() if inspect.isclass(cls)}
    assert sorted({cls.__name__ for cls in known - used} - NOT_IN_ZOO) == []


def test_the_zoo_has_every_family_of_applications():
    """Modules of keras.applications that hold models."""
    hidden = {"mobilenet_v3", "resnet50"}  # its models stand elsewhere; a part of resnet
    modules = {
        name
        for name, module in vars(keras.applications).items()
        if inspect.ismodule(module) and any(name[0].isupper() for name in vars(module))
    }
    assert modules | hidden == {*zoo.applications.FAMILIES, "resnet50"}
