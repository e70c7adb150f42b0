"""What a model says to rows of data, a batch at a time, beside the truth about them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keraship.models.rows import Array, Rows


def scored(model: keras.Model, rows: Rows, *, batch_size: int) -> Iterator[tuple[Array, Array]]:
    """Targets and scores of all rows, in their order, `batch_size` of them at a time."""
    for start in range(0, len(rows), batch_size):
        inputs, targets = rows.fetch(np.arange(start, min(start + batch_size, len(rows))))
        yield targets, np.asarray(model.predict_on_batch(arranged(model, inputs)))


def arranged(model: keras.Model, inputs: dict[str, Array]) -> Any:
    """Inputs by name in the form that the model was built with, an array, a list or a dict: Keras warns of others."""
    if len(inputs) == 1:
        (only,) = inputs.values()
        return keras.tree.map_structure(lambda _: only, model.input)
    return keras.tree.map_structure(lambda tensor: inputs[tensor.name], model.input)
