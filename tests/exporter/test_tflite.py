"""TFLite artifacts: the signature's names, the model's answers at every batch size, the same bytes in each process."""

import numpy as np
import pytest

from keraship import bundle
from keraship.errors import ExportError
from keraship.quiet import import_keras
from keraship.signature import TensorSpec

keras = import_keras()
layers = keras.layers


@pytest.fixture(scope="module")
def frozen():
    """A Keras model -> its frozen graph, and the Keras model's answers as a function."""
    from keraship.exporter import freeze, trace

    def run(model, **names):
        traced = trace.trace(model, **names)
        return freeze.freeze(traced), traced.answer

    return run


@pytest.fixture(scope="module")
def images(frozen):
    """A convolutional network with two outputs, one of an odd name."""
    keras.utils.set_random_seed(1)
    x = keras.Input((12, 12, 3), name="images")
    hidden = layers.BatchNormalization()(layers.Conv2D(16, 3, activation="relu")(x))
    hidden = layers.Dense(64, activation="gelu")(layers.Flatten()(hidden))
    outputs = {"scores": layers.Dense(4, activation="softmax")(hidden), "the-other.one": layers.Dense(2)(hidden)}
    return frozen(keras.Model(x, outputs))


@pytest.fixture(scope="module")
def rows():
    return {"images": np.random.default_rng(2).random((24, 12, 12, 3)).astype(np.float32)}


@pytest.fixture
def runner(tmp_path):
    """The bytes of a model -> the runtime that artifacts are verified with."""
    from keraship.exporter.runtime_check import RUNTIMES

    def run(content):
        (tmp_path / bundle.TFLITE).write_bytes(content)
        return RUNTIMES["tflite"]()(tmp_path)

    return run


@pytest.mark.parametrize(("scheme", "most"), [("", 1e-5), ("float16", 1e-2), ("dynamic", 0.05), ("int8", 0.1)])
def test_answers_as_the_model_does(images, rows, runner, scheme, most):
    """At any number of rows, with the signature's names and float inputs and outputs, whatever is inside."""
    from keraship.exporter.to_tflite import to_tflite

    graph, answer = images
    loaded = runner(to_tflite(graph, scheme, calibration=rows))
    signature = loaded.signatures["serving_default"]
    assert signature.inputs == (TensorSpec("images", "float32", (None, 12, 12, 3)),)
    assert {spec.name: spec.dtype for spec in signature.outputs} == {"scores": "float32", "the-other.one": "float32"}
    for count in (8, 1, 3, 8):
        asked = {"images": rows["images"][:count]}
        got = loaded.run(asked)
        for name, expected in answer(asked).items():
            assert got[name].shape == expected.shape
            assert np.abs(got[name] - expected).max() <= most * np.abs(expected).max(), (name, count)


def test_quantized_is_smaller(images, rows):
    """A half and a quarter, and what is not weights."""
    from keraship.exporter.to_tflite import to_tflite

    size = {
        scheme: len(to_tflite(images[0], scheme, calibration=rows)) for scheme in ("", "float16", "dynamic", "int8")
    }
    assert size["float16"] < 0.55 * size[""]
    assert max(size["dynamic"], size["int8"]) < 0.35 * size[""]


CONVERT = """
    import sys, hashlib
    import numpy as np
    from keraship.quiet import import_keras
    keras = import_keras()
    from keraship.exporter import freeze, to_tflite, trace
    if sys.argv[2] == "busy":
        other = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
        to_tflite.to_tflite(freeze.freeze(trace.trace(other)))
    frozen = freeze.freeze(trace.trace(keras.models.load_model(sys.argv[1])))
    rows = {"images": np.linspace(0, 1, 8 * 8 * 8, dtype=np.float32).reshape(8, 8, 8, 1)}
    for scheme in ("", "int8", "float16"):
        print(hashlib.sha256(to_tflite.to_tflite(frozen, scheme, calibration=rows)).hexdigest())
"""


def test_two_processes_write_the_same_bytes(models, python):
    """Whatever they did before."""
    first, second = (python(CONVERT, models / "cnn.keras", state).split() for state in ("fresh", "busy"))
    assert first == second
    assert len(set(first)) == 3


def test_what_tflite_lacks_is_refused_with_its_layer(frozen):
    """No artifact needs TensorFlow's operations beside it."""
    from keraship.exporter.to_tflite import to_tflite

    x = keras.Input((4, 4))
    graph, _ = frozen(keras.Model(x, layers.Lambda(keras.ops.erfinv, name="inverse")(x)))
    with pytest.raises(ExportError, match=r"Erfinv in the layer 'inverse.*'; leave tflite out"):
        to_tflite(graph)
    graph, _ = frozen(keras.Model(x, layers.LSTM(3, name="memory")(x)))
    with pytest.raises(ExportError, match=r"TensorListReserve in the layer 'memory'; a recurrent layer needs .*unroll"):
        to_tflite(graph)


def test_an_unrolled_recurrent_layer_converts(frozen, runner):
    """As the refusal says."""
    from keraship.exporter.to_tflite import to_tflite

    x = keras.Input((4, 4), name="x")
    graph, answer = frozen(keras.Model(x, layers.LSTM(3, unroll=True, name="y")(x)))
    asked = {"x": np.random.default_rng(0).random((3, 4, 4)).astype(np.float32)}
    np.testing.assert_allclose(runner(to_tflite(graph)).run(asked)["y"], answer(asked)["y"], atol=1e-6)


def test_text_tables_and_wrong_schemes_are_refused(images, frozen):
    """Each with what can be done."""
    from keraship.exporter.to_tflite import to_tflite

    words = keras.Input((1,), dtype="string", name="words")
    graph, _ = frozen(keras.Model(words, layers.StringLookup(vocabulary=["a"])(words)))
    with pytest.raises(ExportError, match=r"takes or gives text \(words\).*--formats saved_model"):
        to_tflite(graph)
    numbers = keras.Input((1,), dtype="int64")
    graph, _ = frozen(keras.Model(numbers, layers.IntegerLookup(vocabulary=[3])(numbers)))
    with pytest.raises(ExportError, match="up in a table"):
        to_tflite(graph)
    with pytest.raises(ExportError, match="expected a scheme out of int8, dynamic, float16; got 'weight_only'"):
        to_tflite(images[0], "weight_only")
    with pytest.raises(ExportError, match="--calibrate DATA"):
        to_tflite(images[0], "int8")
