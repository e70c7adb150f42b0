"""Whole networks, small: those that `keraship train` trains, and forms that people build."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from keraship.models import networks
from keraship.models.task import SEGMENTATION, of_images
from zoo.table import model

_CLASSES = tuple("abcdef")


def own(name: str, kind: str = "classification") -> Any:
    """A network of `keraship train`."""
    return networks.build(name, of_images((24, 24, 3), _CLASSES, maximum=1.0, kind=kind))


@model
def network_cnn() -> Any:
    return own("cnn")


@model
def network_resnet() -> Any:
    return own("resnet")


@model
def network_segmentation() -> Any:
    return own("segmentation", SEGMENTATION)


@model
def autoencoder() -> Any:
    images = keras.Input((16, 16, 3), name="images")
    hidden = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(images)
    code = layers.Dense(12, name="code")(layers.Flatten()(hidden))
    hidden = layers.Reshape((8, 8, 8))(layers.Dense(512, activation="relu")(code))
    return keras.Model(images, [code, layers.Conv2DTranspose(3, 3, strides=2, padding="same", name="copy")(hidden)])


@model
def squeeze_and_excitation() -> Any:
    images = keras.Input((16, 16, 3), name="images")
    hidden = layers.BatchNormalization()(layers.Conv2D(16, 3, padding="same", use_bias=False)(images))
    weights = layers.Dense(4, activation="silu")(layers.GlobalAveragePooling2D()(hidden))
    weights = layers.Reshape((1, 1, 16))(layers.Dense(16, activation="sigmoid")(weights))
    return keras.Model(images, layers.Dense(5)(layers.GlobalMaxPooling2D()(layers.Multiply()([hidden, weights]))))


@model
def mixer() -> Any:
    """Dense layers over places and over channels in turn."""
    images = keras.Input((16, 16, 3), name="images")
    hidden = layers.Reshape((16, 24))(layers.Conv2D(24, 4, strides=4)(images))
    for _ in range(2):
        turned = layers.Permute((2, 1))(layers.LayerNormalization()(hidden))
        hidden = hidden + layers.Permute((2, 1))(layers.Dense(16, activation="gelu")(turned))
        hidden = hidden + layers.Dense(24, activation="gelu")(layers.LayerNormalization()(hidden))
    return keras.Model(images, layers.Dense(5)(layers.GlobalAveragePooling1D()(hidden)))


@model
def gated_convolutions() -> Any:
    """Over a signal of open length, each layer looking back twice as far."""
    signal = keras.Input((None, 2), name="signal")
    hidden, skipped = layers.Conv1D(16, 1)(signal), []
    for distance in (1, 2, 4, 8):
        left = layers.Conv1D(16, 2, dilation_rate=distance, padding="causal", activation="tanh")(hidden)
        right = layers.Conv1D(16, 2, dilation_rate=distance, padding="causal", activation="sigmoid")(hidden)
        gated = layers.Conv1D(16, 1)(layers.Multiply()([left, right]))
        skipped.append(gated)
        hidden = layers.Add()([hidden, gated])
    return keras.Model(signal, layers.Conv1D(3, 1)(layers.ReLU()(layers.Add()(skipped))))


@model
def recommender() -> Any:
    user, item = keras.Input((), dtype="int32", name="user"), keras.Input((), dtype="int32", name="item")
    people, things = layers.Embedding(200, 16)(user), layers.Embedding(100, 16)(item)
    deep = layers.Dense(16, activation="relu")(layers.Concatenate()([people, things]))
    score = ops.sum(people * things, axis=-1, keepdims=True) + layers.Dense(1)(deep)
    return keras.Model({"user": user, "item": item}, {"score": score})
