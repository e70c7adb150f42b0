"""The table of models: what a builder is, and how models get weights that make a test of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

Builder = Callable[[], Any]

MODELS: dict[str, Builder] = {}
"""Name -> what builds the model; filled by the files beside this one."""


def model(builder: Builder) -> Builder:
    """Enter a builder into the table, under its own name."""
    if builder.__name__ in MODELS:
        raise ValueError(f"expected another name than {builder.__name__}, which is taken")
    MODELS[builder.__name__] = builder
    return builder


def build(name: str) -> Any:
    """The model of that name; its weights are the same in every process."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    built = with_head(MODELS[name]())
    shake(built)
    return built


def with_head(built: Any) -> Any:
    """The model itself; one without weights worth quantizing gets dense layers behind the first output that fits."""
    if any(int(np.prod(weight.shape)) >= _WORTH for weight in built.trainable_weights) or not hasattr(built, "output"):
        return built
    fitting = [tensor for tensor in [*built.outputs, *built.inputs] if _is_table(tensor)]
    if not fitting:
        return built
    rows = keras.layers.Flatten()(keras.ops.cast(fitting[0], "float32"))
    # one number, no classes: without training their scores are so close that rounding turns them
    head = keras.layers.Dense(1, name="head")(keras.layers.Dense(max(64, -(-_WORTH // rows.shape[1])), "relu")(rows))
    named = isinstance(built.output, dict)
    return keras.Model(built.input, {**built.output, "head": head} if named else [*built.outputs, head])


_WORTH = 256  # elements; quantizers leave smaller weights alone


def _is_table(tensor: Any) -> bool:
    return len(tensor.shape) > 1 and None not in tensor.shape[1:] and tensor.dtype not in ("string", "bool")


def shake(built: Any) -> None:
    """Move biases, scales and moving statistics away from zeros and ones, where errors in them would not show."""
    random = np.random.default_rng(0)
    for weight in built.trainable_weights:
        if len(weight.shape) == 1 and "float" in weight.dtype:
            weight.assign(np.asarray(weight.numpy(), np.float32) + random.normal(0, 0.1, weight.shape))
    for layer in built._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(random.normal(0, 0.1, layer.moving_mean.shape))
            layer.moving_variance.assign(random.uniform(0.5, 1.5, layer.moving_variance.shape))
