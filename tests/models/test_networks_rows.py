"""The networks whose preprocessing comes from the training rows: text and tabular."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from keraship.models import task as tasks
from keraship.models.networks import build
from keraship.models.rows import ArrayRows
from keraship.models.task import CLASSIFICATION, Task
from keraship.signature import TensorSpec

Array = np.ndarray[Any, Any]

CLASSES = ("a", "b")
TEXTS = tasks.of_text(CLASSES)


def objects(values: list[Any]) -> Array:
    return np.array(values, object)


def text_rows(texts: list[str]) -> ArrayRows:
    return ArrayRows({"text": objects(texts)}, np.arange(len(texts)) % 2)


def table(**columns: Array) -> tuple[Task, ArrayRows]:
    """A table's task, and its rows."""
    dtypes = {name: "string" if array.dtype == object else array.dtype.name for name, array in columns.items()}
    specs = tuple(TensorSpec(name, dtype, (None,)) for name, dtype in dtypes.items())
    count = len(next(iter(columns.values())))
    return Task(CLASSIFICATION, specs, CLASSES), ArrayRows(columns, np.arange(count) % 2)


def tabular(**columns: Array) -> keras.Model:
    task, rows = table(**columns)
    return build("tabular", task, rows=rows)


def features(model: keras.Model, **columns: Any) -> Array:
    """What the first layer of weights gets."""
    inside = keras.Model(model.input, next(layer for layer in model.layers if layer.name.startswith("dense")).input)
    return np.asarray(inside({name: tf.constant(values) for name, values in columns.items()}))


def test_words_are_those_of_the_training_rows() -> None:
    """In lower case and without punctuation; the most frequent, no more than were asked for."""
    rows = text_rows(["The cat.", "the CAT!", "the dog", "über"])
    model = build("text", TEXTS, rows=rows)
    assert model.get_layer("vectorization").get_vocabulary() == ["", "[UNK]", "the", "cat", "über", "dog"]
    model = build("text", TEXTS, rows=rows, words=4)
    assert model.get_layer("vectorization").get_vocabulary() == ["", "[UNK]", "the", "cat"]


@pytest.mark.parametrize("encoder", ["gru", "attention"])
def test_texts_of_any_length(encoder: str) -> None:
    """Empty texts, unknown words and long texts have finite scores, whatever stands beside them in the batch."""
    model = build("text", TEXTS, rows=text_rows(["one two three four"] * 4), encoder=encoder)
    texts = tf.constant(["", "   ", "never seen", "one two", "one " * 50])
    together = np.asarray(model(texts, training=False))
    alone = np.concatenate([np.asarray(model(texts[i : i + 1], training=False)) for i in range(5)])
    assert np.isfinite(together).all()
    np.testing.assert_allclose(together, alone, rtol=1e-4)
    assert not np.allclose(together[0], together[3])
    np.testing.assert_array_equal(together[0], together[1])


@pytest.mark.parametrize("encoder", ["gru", "attention"])
def test_the_order_of_words_counts(encoder: str) -> None:
    """Both encoders tell two orders of the same words apart."""
    model = build("text", TEXTS, rows=text_rows(["one two three"] * 4), encoder=encoder)
    scores = np.asarray(model(tf.constant(["one two three", "three two one"]), training=False))
    assert not np.allclose(scores[0], scores[1], rtol=1e-6)


def test_length() -> None:
    """As many words are read as 19 of 20 training texts have, or as asked."""
    rows = text_rows(["one two three"] * 99 + ["word " * 500])
    assert build("text", TEXTS, rows=rows).get_layer("vectorization").output.shape == (None, 3)
    assert build("text", TEXTS, rows=rows, length=7).get_layer("vectorization").output.shape == (None, 7)


def test_numbers_are_normalised() -> None:
    """Mean 0 and deviation 1 over the training rows, exactly for large whole numbers, too."""
    height = np.array([1.0, 2.0, 3.0, 4.0], "float32")
    moment = np.array([1_700_000_001, 1_700_000_002, 1_700_000_003, 1_700_000_004])
    model = tabular(height=height, moment=moment)
    seen = features(model, height=height, moment=moment)
    expected = (height - 2.5) / np.sqrt(1.25)
    np.testing.assert_allclose(seen, np.stack([np.zeros(4), expected, expected], 1), atol=1e-5)


def test_missing_numbers() -> None:
    """NaN is left out of the statistics, stands for the mean, and is marked; a column of NaN alone is no harm."""
    height = np.array([1.0, np.nan, 3.0, np.nan], "float32")
    nothing = np.full(4, np.nan, "float32")
    model = tabular(height=height, nothing=nothing)
    seen = features(model, height=height, nothing=nothing)
    np.testing.assert_allclose(seen, [[0, 1, -1, 0], [1, 1, 0, 0], [0, 1, 1, 0], [1, 1, 0, 0]], atol=1e-6)
    later = features(model, height=np.array([np.inf], "float32"), nothing=np.array([5], "float32"))
    np.testing.assert_allclose(later, [[1, 0, 0, 5]], atol=1e-6)


def test_a_column_of_one_value() -> None:
    """It becomes 0, and another value later on is as far from it as it is, not 10 million times as far."""
    same = np.full(4, 7.0, "float32")
    model = tabular(same=same, kind=objects(["x", "x", "y", "y"]))
    seen = features(model, same=np.array([7.0, 8.0], "float32"), kind=["x", "x"])
    np.testing.assert_allclose(seen[:, 1], [0, 1])


def test_strings_become_values() -> None:
    """One feature for each value that two rows have, and one for all others, those of later rows too."""
    kind = objects(["x", "x", "", "", "rare", "[UNK]", "[UNK]", "ü", "ü"])
    model = tabular(kind=kind)
    inside = keras.Model(model.input, model.get_layer("kind_value").output)
    seen = np.asarray(inside(tf.constant(["x", "", "ü", "rare", "[UNK]", "new"])))
    np.testing.assert_array_equal(seen, np.eye(4)[[2, 1, 3, 0, 0, 0]])


def test_strings_all_of_their_own() -> None:
    """A column in which no value occurs twice tells nothing, and does not stop the others."""
    kind = objects([f"id-{i}" for i in range(8)])
    model = tabular(kind=kind, height=np.arange(8, dtype="float32"))
    assert features(model, kind=["id-1", "new"], height=np.zeros(2, "float32")).shape == (2, 4)


def test_one_column() -> None:
    """A table of one column is a model of one input, which is given no dict."""
    task, rows = table(height=np.arange(8, dtype="float32"))
    model = build("tabular", task, rows=rows)
    assert model.predict(rows.inputs["height"], verbose=0).shape == (8, 2)


def test_large_and_small_numbers() -> None:
    """Numbers of any size come to deviation 1, where layers compute in float16, too."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        large, small = (np.linspace(0, top, 8, dtype="float32") for top in (1e30, 1e-9))
        task, rows = table(large=large, small=small)
        model = build("tabular", task, rows=rows)
    finally:
        keras.config.set_dtype_policy("float32")
    scores = model.predict(rows.inputs, verbose=0)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    seen = features(model, **rows.inputs)
    np.testing.assert_allclose(seen[:, 2:].std(axis=0), 1, rtol=1e-2)
