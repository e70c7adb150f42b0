"""How an artifact's errors are spread: arrays to a Distribution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from keraship.exporter.outcome import Distribution

Array = np.ndarray[Any, Any]

_LEAST, _LARGEST = 1e-20, 1e20  # errors beyond are counted with these
_PER_DECADE = 2  # bins: enough to see a shape, few enough to count rows that are few


def distribution(output: str, expected: Array, got: Array) -> Distribution:
    """How far `got` is from `expected`, element by element, in bins of half a decade.

    expected, got: of one shape; of texts and booleans, one that differs has an error of 1.
    """
    errors = _errors(expected, got)
    finite = np.clip(errors[np.isfinite(errors) & (errors > 0)], _LEAST, _LARGEST)
    edges = _edges(finite)
    bins = np.searchsorted(edges, finite, side="right") - 1
    return Distribution(
        output=output,
        edges=tuple(edges),
        counts=tuple(np.bincount(bins, minlength=max(0, len(edges) - 1)).tolist()) if len(finite) else (),
        equal=int(np.sum(errors == 0)),
        not_finite=int(np.sum(~np.isfinite(errors))),
    )


def _errors(expected: Array, got: Array) -> Array:
    """Absolute errors, flat, float64; infinite where only one side is a number, or both are other infinities."""
    if expected.dtype.kind in "OSUTb":
        return np.asarray(expected != got, float).reshape(-1)
    wide = complex if expected.dtype.kind == "c" else float
    left, right = expected.astype(wide).reshape(-1), got.astype(wide).reshape(-1)
    with np.errstate(invalid="ignore", over="ignore"):
        errors = np.abs(left - right)
    errors[(left == right) | (np.isnan(left) & np.isnan(right))] = 0.0
    return np.where(np.isnan(errors), np.inf, errors)


def _edges(errors: Array) -> list[float]:
    """From the edge at or below the least error to the one above the largest; none without errors."""
    if not len(errors):
        return []
    low, high = (math.floor(math.log10(error) * _PER_DECADE) for error in (errors.min(), errors.max()))
    # one more on either side, for a logarithm may be rounded across an edge; then without those that hold nothing
    edges = [10.0 ** (exponent / _PER_DECADE) for exponent in range(low - 1, high + 3)]
    start = max(index for index, edge in enumerate(edges) if edge <= errors.min())
    stop = min(index for index, edge in enumerate(edges) if edge > errors.max())
    return edges[start : stop + 1]
