"""The network text: words in their order, by a GRU or attention, beside the mean of the words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keraship.models.choice import choose
from keraship.models.network_parts import scores, whole_number
from keraship.models.rows import Rows, fetch_all
from keraship.models.task import TEXT, Task

_WIDTH = 64  # numbers for each word
_LONGEST = 256  # words, where the training texts decide
_COVERED = 0.95  # of the training texts are read to their end
_UNKNOWN = 1  # the number that TextVectorization has for words it does not know


def build(
    task: Task, *, rows: Rows, encoder: str = "gru", words: int = 20_000, length: int | None = None
) -> keras.Model:
    """Texts as they are, string [n], to scores; the vocabulary is that of the training rows, and part of the model.

    encoder, words, length: as NETWORKS describes them. Texts are taken without punctuation,
    their ASCII letters in lower case; words are what stands between spaces.
    """
    encode = choose("an encoder", encoder, _ENCODERS)
    vectorization = _vectorization(rows, whole_number("words", words, least=3), length)
    inputs = keras.Input((), dtype="string", name=TEXT)
    tokens = vectorization(inputs)  # [n, words]; 0 after a text's end
    tokens = ops.pad(tokens, [[0, 0], [1, 0]], constant_values=_UNKNOWN)  # an empty text has a word, too
    embedding = keras.layers.Embedding(vectorization.vocabulary_size(), _WIDTH, mask_zero=True, name="embedding")
    x = keras.layers.Dropout(0.3, noise_shape=(None, None, 1))(
        embedding(tokens)
    )  # [n, words, width]; drops whole words
    both = [encode(x, tokens), keras.layers.GlobalAveragePooling1D(name="mean")(x)]
    x = keras.layers.Dropout(0.5)(keras.layers.Concatenate()(both))
    return keras.Model(inputs, scores(x, task), name="text")


def _vectorization(rows: Rows, words: int, length: int | None) -> Any:
    texts = tf.constant(fetch_all(rows)[0][TEXT].tolist(), tf.string)
    if length is None:
        length = _usual_length(texts)
    vectorization = keras.layers.TextVectorization(
        max_tokens=words, output_sequence_length=whole_number("length", length), name="vectorization"
    )
    vectorization.adapt(texts)
    return vectorization


def _usual_length(texts: Any) -> int:
    counts = tf.strings.split(texts).row_lengths().numpy()
    return int(np.clip(np.quantile(counts, _COVERED), 1, _LONGEST))


def _gru(x: Any, _tokens: Any) -> Any:
    """Word for word in both directions; what is left at the end, [n, 2 * width]."""
    return keras.layers.Bidirectional(keras.layers.GRU(_WIDTH), name="gru")(x)


def _attention(x: Any, tokens: Any) -> Any:
    """Every word looks at every other, knowing its place; the mean of what they saw, [n, width]."""
    places = ops.cumsum(ops.ones_like(tokens), axis=1) - 1
    x = keras.layers.Add()([x, keras.layers.Embedding(tokens.shape[1], _WIDTH, name="places")(places)])
    for _ in range(2):
        seen = keras.layers.MultiHeadAttention(4, _WIDTH // 4, dropout=0.1)(x, x)
        x = keras.layers.LayerNormalization()(keras.layers.Add()([x, seen]))
        thought = keras.layers.Dense(_WIDTH)(keras.layers.Dense(2 * _WIDTH, activation="relu")(x))
        x = keras.layers.LayerNormalization()(keras.layers.Add()([x, thought]))
    return keras.layers.GlobalAveragePooling1D()(x)


_ENCODERS: dict[str, Callable[[Any, Any], Any]] = {"gru": _gru, "attention": _attention}
