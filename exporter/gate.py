"""May an artifact be published? Quantized ones against the limits of error, quality and latency; the reasons, in words.

A float artifact is judged by `verify.judge`: it must answer as the Keras model does. A quantized one can't; it must be
as good on the user's data, and never slower than the float artifact that it replaces.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from keraship.exporter.fidelity import Fidelity
from keraship.exporter.findings import Findings

MAX_DROP = 1.0
"""Percentage points of accuracy that a quantized artifact may lose, where the user does not say."""

SLOWER = 1.05
"""Ratios of latency up to this one are the same speed: two runs of one artifact differ by as much."""


@dataclass(frozen=True)
class Limits:
    """What is allowed: max_drop in percentage points of accuracy; max_error, of Fidelity, where there are no labels."""

    max_drop: float
    max_error: float
    min_agreement: float = 0.97


MAX_ERRORS = {"float16": 0.01, "weight_only": 0.1, "dynamic": 0.1, "int8": 0.2}
"""The root mean square error, relative to the outputs, that each scheme may cause.

float16 keeps 11 bits of a weight, so that a deep network's outputs move by some .1 %. 8 bits of each weight move them
by 1 to 5 %, and 8 bits of each activation as well by up to 15 % while the classes stay (int8 on trained networks).
What is beyond has lost more than numbers.
"""


def judge(found: Findings, fidelity: Fidelity | None, limits: Limits) -> list[str]:
    """Why a quantized artifact is refused, a clause each; nothing where it is not.

    fidelity: None where the process gave no answers to compare, which is refused with what it said.
    """
    return [*_broken(found), *(_unfaithful(fidelity, limits) if fidelity else ()), *_slow(found)]


def _broken(found: Findings) -> Iterator[str]:
    yield from found.faults
    for item in found.comparisons:
        if math.isinf(item.max_abs):
            yield f"output {item.output!r} at {item.rows} rows has another shape or dtype, or numbers that are none"
    if not found.repeat_error <= _REPEATS:
        yield f"asked the same twice, its answers differ by {found.repeat_error:.3g} of their size"


def _unfaithful(fidelity: Fidelity, limits: Limits) -> Iterator[str]:
    if fidelity.drop is not None:
        if not fidelity.drop.high <= limits.max_drop:
            yield (
                f"it loses {fidelity.drop.points:.2f} points of accuracy, 95 % interval "
                f"[{fidelity.drop.low:.2f}, {fidelity.drop.high:.2f}] on {fidelity.rows} rows, "
                f"and at most {limits.max_drop:g} are allowed (--max-drop); more rows narrow the interval"
            )
        return
    if not fidelity.error <= limits.max_error:
        yield f"its outputs are {fidelity.error:.1%} off, and {limits.max_error:.0%} is allowed"
    if fidelity.agreement is not None and fidelity.rows >= _ENOUGH and fidelity.agreement < limits.min_agreement:
        yield (
            f"it names the model's class on {fidelity.agreement:.1%} of {fidelity.rows} rows, "
            f"and {limits.min_agreement:.0%} is needed"
        )


_REPEATS = 1e-3  # relative: threads add in another order, which rounding to 8 bits can turn into one step
_ENOUGH = 100  # rows: with fewer, one that changes its class by a hair would decide


def _slow(found: Findings) -> Iterator[str]:
    for size, ratio in found.latency_ratio.items():
        if ratio.median > SLOWER and ratio.low > 1:
            yield (
                f"at {size} row{'' if size == '1' else 's'} it takes {ratio.median:.2f} times as long as the float "
                f"artifact [{ratio.low:.2f}, {ratio.high:.2f}]"
            )
