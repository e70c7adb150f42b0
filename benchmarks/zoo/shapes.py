"""Models with unusual inputs and outputs: many, shared, nested, scalar, open, equal."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from zoo.table import model


@model
def many_in_many_out() -> Any:
    ends = [keras.Input((size,), name=f"in_{size}") for size in (3, 5, 2)]
    joined = layers.Dense(12, activation="relu")(layers.Concatenate()(ends))
    return keras.Model(ends, [layers.Dense(size, name=f"out_{size}")(joined) for size in (4, 1, 6)])


@model
def nested_structures() -> Any:
    inputs = {"left": keras.Input((3,), name="l"), "right": [keras.Input((2,), name="m"), keras.Input((2,), name="n")]}
    total = layers.Concatenate()([inputs["left"], *inputs["right"]])
    hidden = layers.Dense(6)(total)
    return keras.Model(inputs, {"heads": {"a": layers.Dense(2)(hidden), "b": layers.Dense(3)(hidden)}, "all": hidden})


@model
def nested_models() -> Any:
    inner_x = keras.Input((8,), name="inner_x")
    inner = keras.Model(inner_x, layers.BatchNormalization()(layers.Dense(6)(inner_x)), name="inner")
    block = keras.Sequential([inner, layers.Dense(8, activation="relu")], name="block")
    x = keras.Input((8,), name="x")
    return keras.Model(x, layers.Dense(2)(block(block(x))))


@model
def shared_layers() -> Any:
    """One encoder for two inputs."""
    encoder = keras.Sequential([layers.Conv1D(4, 3), layers.GlobalMaxPooling1D(), layers.Dense(5)])
    left, right = keras.Input((10, 2), name="left"), keras.Input((10, 2), name="right")
    return keras.Model([left, right], layers.Dot(1, normalize=True)([encoder(left), encoder(right)]))


@model
def output_is_intermediate() -> Any:
    x = keras.Input((6,), name="x")
    first = layers.Dense(5, activation="relu", name="first")(x)
    second = layers.Dense(4, name="second")(first)
    return keras.Model(x, [second, first, layers.Softmax(name="third")(second)])


@model
def output_is_input() -> Any:
    x = keras.Input((4,), name="x")
    return keras.Model(x, {"same": x, "double": x * 2, "twice": x * 2})


@model
def same_output_twice() -> Any:
    x = keras.Input((4,), name="x")
    hidden = layers.Dense(3, name="hidden")(x)
    return keras.Model(x, [hidden, hidden])


@model
def constant_output() -> Any:
    x = keras.Input((4,), name="x")
    return keras.Model(x, {"sum": ops.sum(x, axis=1), "ones": ops.ones((3,)) + 0 * ops.sum(x)})


@model
def scalar_per_row() -> Any:
    x = keras.Input((6,), name="x")
    return keras.Model(x, ops.squeeze(layers.Dense(1)(x), axis=-1))


@model
def scalar_output() -> Any:
    """One number for a whole batch."""
    x = keras.Input((6,), name="x")
    return keras.Model(x, ops.mean(layers.Dense(3)(x)))


@model
def unused_input() -> Any:
    x, unused = keras.Input((4,), name="x"), keras.Input((2,), dtype="string", name="unused")
    return keras.Model([x, unused], layers.Dense(3)(x))


@model
def open_image_size() -> Any:
    return keras.Sequential(
        [
            layers.Input((None, None, 3)),
            layers.Conv2D(12, 3, padding="same", activation="relu"),
            layers.Conv2D(8, 3, strides=2),
            layers.GlobalAveragePooling2D(),
            layers.Dense(5),
        ]
    )


@model
def open_sequence() -> Any:
    x = keras.Input((None, 4), name="x")
    hidden = layers.Conv1D(6, 3, padding="same")(x)
    return keras.Model(x, [hidden, ops.cumsum(hidden, axis=1), ops.flip(hidden, axis=1)])


@model
def fixed_batch() -> Any:
    x = keras.Input(batch_shape=(4, 6), name="x")
    return keras.Model(x, ops.matmul(layers.Dense(3)(x), ops.ones((3, 3))) - ops.mean(x))


@model
def classes_and_flags() -> Any:
    """Integers, booleans and bytes out."""
    x = keras.Input((6,), name="x")
    scores = layers.Dense(5)(x)
    return keras.Model(
        x,
        {
            "top": ops.argmax(scores, axis=-1),
            "positive": scores > 0,
            "any": ops.any(scores > 0.5, axis=-1),
            "rounded": ops.cast(ops.clip(scores * 100 + 128, 0, 255), "uint8"),
        },
    )


@model
def flags_in() -> Any:
    flags, count = keras.Input((3,), dtype="bool", name="flags"), keras.Input((3,), dtype="int8", name="count")
    both = ops.cast(flags, "float32") * ops.cast(count, "float32")
    return keras.Model([flags, count], layers.Dense(2)(both))


@model
def odd_names() -> Any:
    """Names that graphs give their own nodes, and such as no graph takes."""
    x = keras.Input((4,), name="Const")
    y = keras.Input((4,), name="1 input, odd-name")
    hidden = layers.Dense(4, name="MatMul")(layers.Add(name="Identity")([x, y]))
    return keras.Model([x, y], [layers.Dense(2, name="NoOp")(hidden), layers.ReLU(name="Relu_1")(hidden)])


@model
def deep_chain() -> Any:
    x = hidden = keras.Input((8,), name="x")
    for _ in range(60):
        hidden = layers.Add()([hidden, layers.Dense(8, activation="tanh")(hidden)])
        hidden = layers.LayerNormalization()(hidden)
    return keras.Model(x, hidden)


@model
def channels_first() -> Any:
    """Pooling and normalisation over the second axis, which a CPU can do."""
    x = keras.Input((3, 8, 8), name="x")
    hidden = layers.BatchNormalization(axis=1)(x)
    hidden = layers.Flatten(data_format="channels_first")(hidden)
    return keras.Model(x, layers.Dense(4)(hidden))
