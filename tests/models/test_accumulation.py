from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from keraship.models.schedules import Exponential, Plan

Make = Callable[..., Any]

SETTINGS: dict[str, Make] = {
    "sgd": lambda **k: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True, **k),
    "adamw, clipped": lambda **k: keras.optimizers.AdamW(0.01, weight_decay=0.1, global_clipnorm=0.5, **k),
    "loss scale": lambda **k: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1, **k)),
}


def trained(optimizer: Any, batch_size: int) -> list[Any]:
    """Weights after four epochs over 24 rows, in order."""
    random = np.random.default_rng(0)
    model = keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Dense(7, activation="tanh", kernel_initializer=keras.initializers.GlorotUniform(1)),
            keras.layers.Dense(3, activation="softmax", kernel_initializer=keras.initializers.GlorotUniform(2)),
        ]
    )
    model.compile(optimizer, loss="sparse_categorical_crossentropy", jit_compile=False)
    x, y = random.normal(size=(24, 5)).astype("float32"), random.integers(0, 3, 24)
    model.fit(x, y, batch_size=batch_size, epochs=4, shuffle=False, verbose=0)
    return list(model.get_weights())


@pytest.mark.parametrize("name", SETTINGS)
def test_accumulated_gradients(name: str) -> None:
    """Gradients accumulated over four batches of 2 give the weights of batches of 8."""
    whole = trained(SETTINGS[name](), 8)
    parts = trained(SETTINGS[name](gradient_accumulation_steps=4), 2)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


def test_without_accumulation() -> None:
    """Small batches alone give other weights, so that the agreement above says something."""
    whole, small = trained(SETTINGS["sgd"](), 8), trained(SETTINGS["sgd"](), 2)
    assert not np.allclose(whole[0], small[0], atol=1e-2)


def test_schedules_count_batches() -> None:
    """With accumulated gradients, an update has the schedule's rate of its last batch."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
    rate = Exponential(factor=0.5, every=1).rate(Plan(1.0, epochs=2, steps_per_epoch=4))
    optimizer = keras.optimizers.SGD(rate, gradient_accumulation_steps=2)
    model.compile(optimizer, loss=lambda target, score: -target * score, jit_compile=False)  # a gradient of -1
    model.fit(np.ones((4, 1)), np.ones((4, 1)), batch_size=1, epochs=2, verbose=0)
    assert float(model.get_weights()[0][0, 0]) == pytest.approx(sum(0.5 ** (step / 4) for step in (1, 3, 5, 7)))
