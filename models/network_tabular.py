"""The network tabular: columns of numbers and of strings, of which any cell may be missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from keraship.models.network_parts import scores
from keraship.models.rows import Array, Inputs, Rows, fetch_all
from keraship.models.task import Task
from keraship.signature import TensorSpec

_MOST_VALUES = 1000  # of a column of strings; the others count as one
_OTHER = "[UNK]"  # what StringLookup calls a value that it does not know
_WIDTH = 64
_PRECISE = "float64"
_LEAST_DEVIATION = 1e-3


def build(task: Task, *, rows: Rows) -> keras.Model:
    """One input for each column, [n], to scores.

    Numbers are brought to mean 0 and deviation 1 over the training rows; one that is not finite counts as missing,
    which is as good as the mean, and a feature of its own. Strings become one of the values that at least two training
    rows have, or "other"; the empty string is a value.
    """
    columns, _ = fetch_all(rows)
    inputs = {spec.name: keras.Input((), dtype=spec.dtype, name=spec.name) for spec in task.inputs}
    features = [*_numbers(task.inputs, inputs, columns), *_strings(task.inputs, inputs, columns)]
    known = keras.layers.Concatenate(name="features")(features) if len(features) > 1 else features[0]
    x = known
    for _ in range(2):
        x = keras.layers.Dense(_WIDTH, activation="relu")(x)
        x = keras.layers.Dropout(0.2)(x)
    # What a straight line tells need not go through the layers between.
    x = keras.layers.Concatenate()([x, known])
    only = next(iter(inputs.values())) if len(inputs) == 1 else inputs
    return keras.Model(only, scores(x, task), name="tabular")


def _numbers(specs: Iterable[TensorSpec], inputs: dict[str, Any], columns: Inputs) -> Iterable[Any]:
    """Normalised numbers [n, columns]; ahead of them, of those that can be missing, whether they are."""
    floats = [spec.name for spec in specs if spec.dtype.startswith("float")]
    names = floats + [spec.name for spec in specs if spec.dtype != "string" and spec.name not in floats]
    if not names:
        return
    # float32 would round large whole numbers, such as times in seconds, before the mean is taken off.
    numbers = ops.stack([ops.cast(inputs[name], _PRECISE) for name in names], axis=-1)
    normal = ops.cast(_normalised(numbers, [columns[name] for name in names]), "float32")
    if floats:
        yield 1 - ops.cast(ops.isfinite(normal[:, : len(floats)]), "float32")
    yield ops.where(ops.isfinite(normal), normal, 0.0)


def _normalised(numbers: Any, columns: list[Array]) -> Any:
    mean, deviation = np.array([_moments(column) for column in columns]).T
    units = _units(deviation)
    if (units != 1).any():
        numbers = keras.layers.Rescaling(units.tolist(), dtype=_PRECISE, name="units")(numbers)
    normalization = keras.layers.Normalization(dtype=_PRECISE, name="normalization")
    # Two rows that have these moments: given as arguments, they would be rounded to float32.
    normalization.adapt(np.stack([mean - deviation, mean + deviation]) * units)
    return normalization(numbers)


def _moments(column: Array) -> tuple[float, float]:
    """Mean and deviation of the finite numbers; 1 for a deviation of 0, by which nothing can be divided."""
    finite = column[np.isfinite(column)].astype(np.float64)
    if not len(finite):
        return 0.0, 1.0
    return float(finite.mean()), float(finite.std()) or 1.0


def _units(deviation: Array) -> Array:
    """What to multiply columns by whose deviation Normalization would take for 0: powers of 2, which round nothing."""
    powers = 2.0 ** np.clip(-np.log2(deviation), 0, 100).round()
    return np.where(deviation < _LEAST_DEVIATION, powers, 1.0)


def _strings(specs: Iterable[TensorSpec], inputs: dict[str, Any], columns: Inputs) -> Iterable[Any]:
    """For each column of strings which of its values it is, [n, values + 1]; the first stands for all others."""
    for spec in specs:
        if spec.dtype == "string":
            lookup = keras.layers.StringLookup(
                vocabulary=_values(columns[spec.name]),
                oov_token=_OTHER,
                output_mode="one_hot",
                name=f"{spec.name}_value",
            )
            yield lookup(inputs[spec.name])


def _values(column: Array) -> list[str]:
    """The column's frequent values. Those of one row alone stay out: "other" would never be seen in training."""
    counts = Counter(value for value in column.tolist() if value != _OTHER)
    frequent = [value for value, count in counts.most_common(_MOST_VALUES) if count > 1]
    return sorted(frequent or [""])
