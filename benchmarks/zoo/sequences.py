"""Recurrent layers, masks, attention, and networks made of them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from zoo.layer_kinds import chain
from zoo.table import model


@model
def recurrent_kinds() -> Any:
    x = keras.Input((7, 5), name="x")
    kinds = [
        layers.LSTM(6),
        layers.GRU(6),
        layers.GRU(6, reset_after=False, go_backwards=True),
        layers.SimpleRNN(6, return_sequences=True),
        layers.LSTM(4, unroll=True),
    ]
    return keras.Model(x, [kind(x) for kind in kinds])


@model
def recurrent_cells() -> Any:
    x = keras.Input((6, 4), name="x")
    stacked = layers.RNN(layers.StackedRNNCells([layers.LSTMCell(5), layers.GRUCell(4), layers.SimpleRNNCell(3)]))
    return keras.Model(x, [stacked(x), layers.RNN(layers.LSTMCell(3), return_sequences=True)(x)])


@model
def stacked_bidirectional() -> Any:
    """Of open length."""
    return chain(
        (None, 4),
        layers.Bidirectional(layers.LSTM(5, return_sequences=True)),
        layers.Bidirectional(layers.GRU(4), merge_mode="ave"),
        layers.Dense(3, activation="softmax"),
    )


@model
def states_in_and_out() -> Any:
    x = keras.Input((5, 3), name="x")
    hidden, cell = keras.Input((4,), name="hidden"), keras.Input((4,), name="cell")
    sequence, new_hidden, new_cell = layers.LSTM(4, return_sequences=True, return_state=True)(
        x, initial_state=[hidden, cell]
    )
    return keras.Model([x, hidden, cell], {"sequence": sequence, "hidden_out": new_hidden, "cell_out": new_cell})


@model
def stateful_rnn() -> Any:
    """A fixed number of rows; a served model starts every call from the state that it was saved with."""
    x = keras.Input(batch_shape=(2, 5, 3), name="x")
    return keras.Model(x, layers.GRU(4, stateful=True)(x))


@model
def masked_sequences() -> Any:
    """Zeros at the end are padding."""
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    hidden = layers.Embedding(10, 6, mask_zero=True)(tokens)
    hidden = layers.Bidirectional(layers.LSTM(5, return_sequences=True))(hidden)
    attended = layers.MultiHeadAttention(2, 4)(hidden, hidden)
    return keras.Model(tokens, layers.Dense(2)(layers.GlobalAveragePooling1D()(attended)))


@model
def masking_layer() -> Any:
    return chain((6, 3), layers.Masking(0.0), layers.GRU(5, return_sequences=True), layers.LSTM(4))


@model
def convolutional_lstm() -> Any:
    x = keras.Input((4, 8, 8, 2), name="frames")
    line = layers.Reshape((4, 8, 16))(x)
    box = layers.Reshape((4, 4, 4, 4, 2))(x)
    return keras.Model(
        x,
        [
            layers.ConvLSTM2D(3, 3, padding="same")(x),
            layers.ConvLSTM1D(3, 3, return_sequences=True)(line),
            layers.ConvLSTM3D(2, 2, padding="same")(box),
        ],
    )


@model
def time_distributed() -> Any:
    return chain(
        (5, 8, 8, 3),
        layers.TimeDistributed(layers.Conv2D(4, 3, strides=2)),
        layers.TimeDistributed(layers.BatchNormalization()),
        layers.TimeDistributed(layers.Flatten()),
        layers.TimeDistributed(layers.Dense(6)),
        layers.LSTM(5),
    )


@model
def attentions() -> Any:
    query, value = keras.Input((5, 8), name="query"), keras.Input((7, 8), name="value")
    outputs = {
        "dot": layers.Attention(use_scale=True)([query, value]),
        "additive": layers.AdditiveAttention()([query, value]),
        "heads": layers.MultiHeadAttention(2, 4)(query, value),
        "groups": layers.GroupQueryAttention(4, 4, 2)(query, value),
        "causal": layers.MultiHeadAttention(2, 4)(query, query, use_causal_mask=True),
    }
    heads, scores = layers.MultiHeadAttention(2, 4, value_dim=3, output_shape=6)(
        query, value, return_attention_scores=True
    )
    return keras.Model([query, value], {**outputs, "scored": heads, "scores": scores})


def positions(tokens: Any, width: int) -> Any:
    angles = np.arange(64)[:, None] / 100 ** (np.arange(width)[None] / width)
    return tokens + ops.convert_to_tensor(np.sin(angles), "float32")[: ops.shape(tokens)[1]]


@keras.saving.register_keras_serializable("zoo")
class Positions(layers.Layer):
    """Adds what tells the places in a sequence of any length apart."""

    def call(self, tokens: Any) -> Any:
        return positions(tokens, tokens.shape[-1])


def transformer_block(hidden: Any, *, mask: Any = None, causal: bool = False) -> Any:
    attended = layers.MultiHeadAttention(4, 8)(hidden, hidden, attention_mask=mask, use_causal_mask=causal)
    hidden = layers.LayerNormalization()(layers.Add()([hidden, layers.Dropout(0.1)(attended)]))
    inner = layers.Dense(hidden.shape[-1])(layers.Dense(64, activation="gelu")(hidden))
    return layers.LayerNormalization()(layers.Add()([hidden, inner]))


@model
def transformer_encoder() -> Any:
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    hidden = Positions()(layers.Embedding(10, 32)(tokens))
    for _ in range(2):
        hidden = transformer_block(hidden)
    return keras.Model(tokens, layers.Dense(5)(layers.GlobalMaxPooling1D()(hidden)))


@model
def transformer_decoder() -> Any:
    """Causal, with the embedding's weights as the last layer's too."""
    tokens = keras.Input((None,), dtype="int64", name="tokens")
    embedding = layers.ReversibleEmbedding(10, 32)
    hidden = transformer_block(Positions()(embedding(tokens)), causal=True)
    return keras.Model(tokens, embedding(hidden, reverse=True))


@model
def vision_transformer() -> Any:
    images = keras.Input((32, 32, 3), name="images")
    hidden = layers.Reshape((16, 32))(layers.Conv2D(32, 8, strides=8)(images))
    return keras.Model(images, layers.Dense(10)(layers.GlobalAveragePooling1D()(transformer_block(hidden))))


@model
def encoder_decoder() -> Any:
    """Two sequences of open lengths."""
    source, target = keras.Input((None,), dtype="int32", name="source"), keras.Input((None, 6), name="target")
    _, *state = layers.LSTM(8, return_state=True)(layers.Embedding(10, 6)(source))
    decoded = layers.LSTM(8, return_sequences=True)(target, initial_state=state)
    return keras.Model({"source": source, "target": target}, layers.Dense(10, activation="softmax")(decoded))
