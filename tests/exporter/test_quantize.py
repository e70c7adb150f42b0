"""Quantization as exports use it: accuracy of trained models, layers kept in float, refusals, bytes."""

import keras
import numpy as np
import pytest
from frozen_graphs import frozen, ops, run
from keras import layers
from sklearn.datasets import load_digits

from keraship.errors import ExportError
from keraship.exporter.fold import fold
from keraship.exporter.freeze import freeze
from keraship.exporter.quantize import quantize
from keraship.exporter.savedmodel import write_saved_model
from keraship.exporter.trace import trace


@pytest.fixture(scope="session")
def digits():
    """Images and labels, the first 1200 for training."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    return (images[order] / 16).astype(np.float32).reshape(-1, 8, 8, 1), labels[order]


@pytest.fixture(scope="session")
def network(digits):
    """A small residual network that was trained on the digits."""
    keras.utils.set_random_seed(3)
    x = inputs = layers.Input((8, 8, 1), name="images")
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(16, 3, padding="same", use_bias=False)(x)))
    y = layers.Conv2D(16, 3, padding="same", activation="relu")(x)
    y = layers.BatchNormalization()(layers.Conv2D(16, 3, padding="same")(y))
    x = layers.MaxPooling2D()(layers.ReLU()(layers.Add()([x, y])))
    x = layers.Dense(32, activation="relu", name="hidden")(layers.Flatten()(x))
    model = keras.Model(inputs, layers.Dense(10, activation="softmax", name="scores")(x))
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(digits[0][:1200], digits[1][:1200], epochs=12, batch_size=32, verbose=0)
    return model


@pytest.fixture(scope="session")
def folded(network):
    return fold(freeze(trace(network)))


@pytest.fixture(scope="session")
def calibration(digits):
    return {"images": digits[0][:200]}


def accuracy(graph, digits):
    scores = run(graph, {"images": digits[0][1200:]})["scores"]
    return float(np.mean(scores.argmax(axis=1) == digits[1][1200:]))


SIZES = {"int8": 0.4, "weight_only": 0.4, "float16": 0.6}


@pytest.mark.parametrize("scheme", SIZES)
def test_a_trained_network_keeps_its_accuracy_and_shrinks(scheme, folded, digits, calibration):
    done = quantize(folded, scheme, calibration=calibration)
    assert accuracy(folded, digits) > 0.95
    assert accuracy(done.frozen, digits) > accuracy(folded, digits) - 0.01
    assert done.frozen.graph.ByteSize() < SIZES[scheme] * folded.graph.ByteSize()
    assert done.coverage.weights_share > 0.9
    assert done.coverage.quantized == done.coverage.total


def test_a_layer_that_loses_too_much_stays_float(digits):
    """Its input has one channel a thousand times as large as the others, which 8 bits then can't tell apart."""
    scale = np.ones(64)
    scale[0] = 3000.0
    x = inputs = layers.Input((8, 8, 1), name="images")
    x = layers.Dense(64, activation="relu", name="first")(layers.Flatten()(x))
    x = layers.Dense(64, activation="relu", name="second")(x)
    scores = layers.Dense(10, activation="softmax", name="scores")(x)
    model = keras.Model(inputs, scores)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(digits[0][:1200], digits[1][:1200], epochs=12, batch_size=32, verbose=0)
    first, second = model.get_layer("first"), model.get_layer("second")
    first.set_weights([first.get_weights()[0] * scale, first.get_weights()[1] * scale])
    second.set_weights([second.get_weights()[0] / scale[:, None], second.get_weights()[1]])
    before = fold(freeze(trace(model)))
    done = quantize(before, "int8", calibration={"images": digits[0][:300]})
    assert [item.layer for item in done.coverage.kept_float] == ["second"]
    assert "too sensitive: alone it moves the outputs by" in done.coverage.kept_float[0].reason
    assert done.coverage.layer_errors[0].layer == "second"
    assert accuracy(done.frozen, digits) > accuracy(before, digits) - 0.01


@pytest.mark.parametrize("scheme", SIZES)
def test_what_is_asked_to_stay_float_does(scheme, folded, calibration):
    done = quantize(folded, scheme, calibration=calibration, keep_float=["hidden"])
    assert ("hidden", "asked to stay float") in [(item.layer, item.reason) for item in done.coverage.kept_float]


def test_nothing_measured_keeps_nothing_float_where_the_classes_stay(folded, calibration):
    assert not quantize(folded, "int8", calibration=calibration, target_agreement=0.9).coverage.kept_float


@pytest.mark.parametrize(
    ("scheme", "rows", "options", "said"),
    [
        ("int4", 200, {}, "expected a scheme out of int8, weight_only, float16"),
        ("int8", None, {}, "--calibrate"),
        ("int8", 15, {}, "expected 16 or more rows"),
        ("int8", 200, {"keep_float": ["hiden"]}, "out of .*hidden.*; got 'hiden'"),
    ],
)
def test_what_cannot_be_done_is_said(scheme, rows, options, said, folded, digits):
    data = None if rows is None else {"images": digits[0][:rows]}
    with pytest.raises(ExportError, match=said):
        quantize(folded, scheme, calibration=data, **options)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_calibration_data_that_is_not_finite_is_refused(value, folded, digits):
    images = digits[0][:50].copy()
    images[7, 3, 3, 0] = value
    with pytest.raises(ExportError, match="NaN or infinite"):
        quantize(folded, "int8", calibration={"images": images})


def test_few_rows_are_warned_of(folded, digits):
    said = []
    quantize(folded, "int8", calibration={"images": digits[0][:40]}, report=said.append)
    assert any("40 rows only" in line for line in said)


def test_a_model_without_layers_for_8_bits_is_refused():
    x = layers.Input((7, 6), name="x")
    before = fold(frozen(keras.Model(x, {"y": layers.LSTM(3)(x)})))
    data = {"x": np.random.default_rng(0).random((50, 7, 6), np.float32)}
    with pytest.raises(ExportError, match=r"inside a loop.*use weight_only or float16"):
        quantize(before, "int8", calibration=data)
    with pytest.raises(ExportError, match="float32 weights of 256 or more"):
        quantize(before, "weight_only")


def test_embeddings_and_the_weights_of_loops_are_stored_in_8_bits():
    tokens = layers.Input((7,), dtype="int32", name="tokens")
    x = layers.LSTM(20)(layers.Embedding(100, 16)(tokens))
    before = fold(frozen(keras.Model(tokens, {"y": layers.Dense(30)(x)})))
    done = quantize(before, "weight_only")
    feed = {"tokens": np.arange(70, dtype=np.int32).reshape(10, 7)}
    expected, got = run(before, feed)["y"], run(done.frozen, feed)["y"]
    assert np.sqrt(np.mean((expected - got) ** 2)) < 0.02 * np.sqrt(np.mean(expected**2))
    assert done.coverage.weights_share > 0.97
    assert {"While", "MatMul"} <= set(done.coverage.quantized)


LOADED = """
    import sys
    import numpy as np, tensorflow as tf
    folder = sys.argv[1]
    call = tf.saved_model.load(folder).signatures["serving_default"]
    np.save(f"{folder}/scores.npy", call(images=tf.constant(np.load(f"{folder}/images.npy")))["scores"])
"""


@pytest.mark.parametrize("scheme", ["int8", "weight_only"])
def test_it_is_the_same_bytes_each_time_and_answers_alike_elsewhere(scheme, tmp_path, folded, calibration, python):
    written = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        done = quantize(folded, scheme, calibration=calibration)
        write_saved_model(done.frozen, tmp_path / name)
        written.append((tmp_path / name / "saved_model.pb").read_bytes())
    assert written[0] == written[1]
    np.save(tmp_path / "first" / "images.npy", calibration["images"])
    python(LOADED, tmp_path / "first")
    expected = run(done.frozen, calibration)["scores"]
    assert np.abs(expected - np.load(tmp_path / "first" / "scores.npy")).max() < 1e-3


def test_8_bits_leave_no_float_layer_in_between(folded, calibration):
    done = quantize(folded, "int8", calibration=calibration)
    assert not {"Conv2D", "MatMul", "BiasAdd"} & set(ops(done.frozen))
