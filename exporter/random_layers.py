"""Which layers of a model are random at inference? Those whose seeds go on when the model answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np


def random_layers(model: Any, ask: Callable[[], Any]) -> list[str]:
    """The names of the layers that draw random numbers while `ask` has the model answer once.

    Empty where the model has no layers, or where they draw from seeds that belong to no layer.
    """
    seeds = list(_seeds(model))
    before = [np.array(seed.state) for _, seed in seeds]
    ask()
    moved = [
        name
        for (name, seed), state in zip(seeds, before, strict=True)
        if not np.array_equal(np.array(seed.state), state)
    ]
    return list(dict.fromkeys(moved))


def _seeds(model: Any) -> Iterator[tuple[str, Any]]:
    import keras

    if not isinstance(model, keras.Model):
        return
    for layer in model._flatten_layers():  # Keras has no public walk through nested layers
        for value in vars(layer).values():
            if isinstance(value, keras.random.SeedGenerator):
                yield layer.name, value
