"""Policies of number types."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from zoo.table import model


def network(policy: str) -> Any:
    """A small network for images, its last layer in float32 unless the policy is wider."""
    x = keras.Input((12, 12, 3), name="x")
    hidden = layers.Conv2D(6, 3, padding="same", use_bias=False, dtype=policy)(x)
    hidden = layers.ReLU(dtype=policy)(layers.BatchNormalization(dtype=policy)(hidden))
    hidden = layers.Dense(8, activation="gelu", dtype=policy)(layers.GlobalAveragePooling2D(dtype=policy)(hidden))
    last = "float32" if "16" in policy else policy
    return keras.Model(x, layers.Dense(3, activation="softmax", dtype=last)(hidden))


@model
def mixed_float16() -> Any:
    return network("mixed_float16")


@model
def mixed_bfloat16() -> Any:
    return network("mixed_bfloat16")


@model
def pure_float16() -> Any:
    x = keras.Input((8,), dtype="float16", name="x")
    return keras.Model(x, layers.Dense(3, dtype="float16")(layers.Dense(16, "relu", dtype="float16")(x)))


@model
def float64() -> Any:
    return network("float64")


@model
def keras_int8() -> Any:
    """Quantized by Keras itself, before the export."""
    x = keras.Input((16,), name="x")
    hidden = layers.Dense(32, activation="relu")(x)
    built = keras.Model(x, layers.Dense(4)(hidden))
    built.quantize("int8")
    return built
