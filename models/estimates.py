"""Numbers with how sure they are: a bootstrap over rows, and what ranks rows under resampling, fast."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from keraship.intervals import wilson

Array = np.ndarray[Any, Any]

RESAMPLES = (100, 1000)
"""Fewest and most resamples: as many as _BUDGET allows for the size of the data."""

_BUDGET = 50_000_000  # values gone through: some ten seconds
_AT_ONCE = 50_000  # values in memory for it: what stays in a processor's cache is done in half the time
_BOUNDS = (2.5, 97.5)  # percentiles


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % confidence interval [low, high]; None where the data cannot tell one."""

    value: float
    low: float | None = None
    high: float | None = None


def share(successes: int, total: int) -> Estimate:
    """A share that was counted, with Wilson's interval."""
    return Estimate(successes / total, *wilson(successes, total))


def bootstrap(
    statistic: Callable[[Array], Array], rows: int, *, seed: int, width: int = 1
) -> list[tuple[float, float] | tuple[None, None]]:
    """The 95 % percentile intervals of statistics over resampled rows.

    statistic: how often each row is drawn, int64 [resamples, rows], to values [resamples, statistics]; NaN where a
    resample has none, which is then left out. width: values that a row has, for the budget of time and memory.
    (None, None) where there is one row only, or no resample has a value.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 13.3.
    """
    values = np.concatenate([statistic(weights) for weights in _draws(rows, seed=seed, width=width)])
    return [_interval(column[np.isfinite(column)], rows) for column in values.T]


def mean_of_finite(values: Array) -> Array:
    """The mean over the last axis of what is finite there; NaN where nothing is."""
    finite = np.isfinite(values)
    total = np.where(finite, values, 0.0).sum(axis=-1)
    return _divided(total, finite.sum(axis=-1))


class Ranking:
    """Rows in the order of a score, for average precision and the area under the ROC curve with any row weights.

    positive: bool [n]; scores: [n]. Equal scores are one threshold, as in scikit-learn.
    """

    def __init__(self, positive: Array, scores: Array) -> None:
        self._order = np.argsort(-scores, kind="stable")
        self._positive = positive[self._order].astype(np.int64)
        descending = scores[self._order]
        self._ends = np.append(np.flatnonzero(descending[1:] != descending[:-1]), len(scores) - 1)

    def areas(self, weights: Array) -> tuple[Array, Array]:
        """Average precision and ROC AUC, each float64 [resamples], for weights [resamples, n]; NaN where undefined."""
        ranked = weights.take(self._order, axis=1)  # an index in brackets takes four times as long
        hits = np.cumsum(ranked * self._positive, axis=1, dtype=np.float64).take(self._ends, axis=1)
        taken = np.cumsum(ranked, axis=1, dtype=np.float64).take(self._ends, axis=1)
        misses = taken - hits
        new_hits, new_misses = _steps(hits), _steps(misses)
        precision = hits / (taken + (taken == 0))  # before the first row with a weight: 0, of no consequence
        trapezoids = (new_misses * (hits - new_hits / 2)).sum(axis=1)
        return (
            _divided((new_hits * precision).sum(axis=1), hits[:, -1]),
            _divided(trapezoids, hits[:, -1] * misses[:, -1]),
        )


def _steps(totals: Array) -> Array:
    """What each column adds to the one before."""
    steps = totals.copy()
    steps[:, 1:] -= totals[:, :-1]
    return steps


def _draws(rows: int, *, seed: int, width: int) -> Iterator[Array]:
    """How often each row is drawn, in as many resamples as there is time for, a few at a time."""
    random = np.random.default_rng(seed)
    fewest, most = RESAMPLES
    left = min(most, max(fewest, _BUDGET // (rows * width)))
    at_once = max(1, _AT_ONCE // (rows * width))
    while left > 0:
        yield random.multinomial(rows, np.full(rows, 1 / rows), size=min(left, at_once))
        left -= at_once


def _interval(values: Array, rows: int) -> tuple[float, float] | tuple[None, None]:
    if rows == 1 or not len(values):
        return None, None
    low, high = np.percentile(values, _BOUNDS)
    return float(low), float(high)


def _divided(numerator: Array, denominator: Array) -> Array:
    """A quotient, and NaN where it would be by zero."""
    quotients: Array = np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator != 0)
    return quotients
