"""Layers that turn strings, integers and tables into numbers, and models of such inputs."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

from zoo.table import model

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a"]  # of those that are drawn as samples


@model
def string_lookup() -> Any:
    words = keras.Input((3,), dtype="string", name="words")
    return keras.Model(
        words,
        {
            "indices": layers.StringLookup(vocabulary=WORDS)(words),
            "one_hot": layers.StringLookup(vocabulary=WORDS, output_mode="multi_hot")(words),
            "counts": layers.StringLookup(vocabulary=WORDS, output_mode="count")(words),
        },
    )


@model
def string_of_index() -> Any:
    """From a class's number to its name."""
    indices = keras.Input((), dtype="int64", name="indices")
    return keras.Model(indices, layers.StringLookup(vocabulary=WORDS, invert=True, name="names")(indices))


@model
def integer_lookup() -> Any:
    numbers = keras.Input((2,), dtype="int64", name="numbers")
    return keras.Model(
        numbers,
        [
            layers.IntegerLookup(vocabulary=[3, 5, 7, 9])(numbers),
            layers.IntegerLookup(vocabulary=[3, 5], num_oov_indices=3, mask_token=0)(numbers),
            layers.IntegerLookup(vocabulary=[1, 2, 4], output_mode="multi_hot")(numbers),
        ],
    )


@model
def text_vectorization() -> Any:
    text = keras.Input((1,), dtype="string", name="text")
    bags = {mode: layers.TextVectorization(vocabulary=WORDS, output_mode=mode)(text) for mode in ("multi_hot", "count")}
    weighted = layers.TextVectorization(vocabulary=WORDS, idf_weights=np.arange(7) / 7, output_mode="tf_idf")(text)
    pairs = layers.TextVectorization(vocabulary=[*WORDS, "the fox"], ngrams=2, output_sequence_length=6)(text)
    return keras.Model(text, {**bags, "tf_idf": weighted, "pairs": pairs})


@model
def text_classifier() -> Any:
    """Rows of any number of words, inside."""
    text = keras.Input((), dtype="string", name="text")
    tokens = layers.TextVectorization(vocabulary=WORDS)(text)
    hidden = layers.GRU(8)(layers.Embedding(9, 6, mask_zero=True)(tokens))
    return keras.Model(text, layers.Dense(3, activation="softmax", name="scores")(hidden))


@model
def characters() -> Any:
    text = keras.Input((), dtype="string", name="text")
    tokens = layers.TextVectorization(
        max_tokens=30, vocabulary=list("abcdefghijklm"), split="character", output_sequence_length=12
    )(text)
    hidden = layers.Conv1D(6, 3, activation="relu")(layers.Embedding(30, 4)(tokens))
    return keras.Model(text, layers.Dense(2)(layers.GlobalMaxPooling1D()(hidden)))


@model
def hashing() -> Any:
    words = keras.Input((2,), dtype="string", name="words")
    numbers = keras.Input((2,), dtype="int64", name="numbers")
    return keras.Model(
        [words, numbers],
        [
            layers.Hashing(7)(words),
            layers.StringLookup(vocabulary=WORDS, num_oov_indices=3)(words),
            layers.Hashing(11, salt=[3, 5])(words),
            layers.Hashing(5, output_mode="multi_hot")(numbers),
        ],
    )


@model
def crossed_features() -> Any:
    city, age = keras.Input((), dtype="string", name="city"), keras.Input((), dtype="int64", name="age")
    return keras.Model(
        [city, age],
        [layers.HashedCrossing(9)((city, age)), layers.HashedCrossing(6, output_mode="one_hot")((city, age))],
    )


@model
def numeric_features() -> Any:
    x = keras.Input((4,), name="x")
    normal = layers.Normalization(mean=[0.1, 0.2, 0.3, 0.4], variance=[0.5, 0.6, 0.7, 0.8])
    bins = layers.Discretization(bin_boundaries=[0.2, 0.4, 0.7])
    hot = layers.Discretization(bin_boundaries=[0.3, 0.6], output_mode="multi_hot")
    return keras.Model(x, [normal(x), bins(x), hot(x), layers.Normalization(mean=0.5, variance=2.0, invert=True)(x)])


@model
def category_encoding() -> Any:
    numbers = keras.Input((3,), dtype="int32", name="numbers")
    single = keras.Input((1,), dtype="int32", name="single")
    weights = keras.Input((3,), name="weights")
    return keras.Model(
        [numbers, single, weights],
        [
            layers.CategoryEncoding(10, output_mode="multi_hot")(numbers),
            layers.CategoryEncoding(10, output_mode="one_hot")(single),
            layers.CategoryEncoding(10, output_mode="count")(numbers, count_weights=weights),
        ],
    )


@model
def tabular() -> Any:
    """A dict of columns: numbers, categories as strings and as integers."""
    columns = {
        "age": keras.Input((1,), name="age"),
        "city": keras.Input((1,), dtype="string", name="city"),
        "code": keras.Input((1,), dtype="int64", name="code"),
    }
    parts = [
        layers.Normalization(mean=40.0, variance=200.0)(columns["age"]),
        layers.StringLookup(vocabulary=WORDS, output_mode="one_hot")(columns["city"]),
        layers.Flatten()(layers.Embedding(4, 3)(layers.IntegerLookup(vocabulary=[2, 3, 5])(columns["code"]))),
    ]
    hidden = layers.Dense(16, activation="relu")(layers.Concatenate()(parts))
    return keras.Model(columns, {"risk": layers.Dense(1, activation="sigmoid")(hidden), "hidden": hidden})


@model
def feature_space() -> Any:
    space = keras.utils.FeatureSpace(
        {
            "height": keras.utils.FeatureSpace.float_normalized(),
            "colour": keras.utils.FeatureSpace.string_categorical(num_oov_indices=1),
            "count": keras.utils.FeatureSpace.integer_categorical(num_oov_indices=1),
        },
        output_mode="concat",
    )
    import tensorflow as tf

    space.adapt(
        tf.data.Dataset.from_tensor_slices({"height": np.arange(14.0), "colour": WORDS * 2, "count": np.arange(14) % 5})
    )
    return keras.Model(space.get_inputs(), layers.Dense(3)(space.get_encoded_features()))
