"""Which layers lose too much in 8 bits: each is tried alone, and the worst stay float until the answers are good."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keraship.bundle import KeptFloat, LayerError
from keraship.exporter import fidelity
from keraship.exporter.fidelity import Fidelity, Reference
from keraship.exporter.freeze import Frozen
from keraship.exporter.int8_plan import Target
from keraship.exporter.session import Session, head, rows_of

Arrays = dict[str, np.ndarray[Any, Any]]
Build = Callable[[Sequence[Target]], Frozen]

MAX_ERROR = 0.05
"""The relative root mean square error that is aimed at, where no output has classes."""

_TRIED = 64
"""Rows that each layer is tried on: enough to tell which is worst."""

_PIXELS = _TRIED * 64 * 64 * 3
"""How many input values that may be: fewer rows of large images, for there is a run for each layer."""

_JUDGED = 512
"""Rows that the whole is judged on."""


@dataclass(frozen=True)
class Chosen:
    """The graph whose answers are good, or the best that was found.

    targets: the layers that are in 8 bits. errors: what each moves alone, the largest first. reached: whether the
    target was.
    """

    frozen: Frozen
    targets: tuple[Target, ...]
    errors: tuple[LayerError, ...]
    kept: tuple[KeptFloat, ...]
    fidelity: Fidelity
    reached: bool


def choose(
    frozen: Frozen, targets: Sequence[Target], build: Build, data: Mapping[str, Any], *, target_agreement: float
) -> Chosen:
    """Keep as few layers in float as the target allows, the most sensitive first, and no more than half of them.

    build: makes the graph with some of the targets in 8 bits. data: the calibration rows.
    """
    errors = _alone(frozen, targets, build, data)
    order = sorted(targets, key=lambda target: -errors[target.node.name])
    measured = head(frozen.signature, data, _JUDGED)
    reference = Reference(_answers(frozen, measured))
    tried: dict[int, tuple[Frozen, Fidelity]] = {}

    def is_good(count: int) -> bool:
        if count not in tried:
            graph = build(_without(targets, order[:count]))
            tried[count] = graph, fidelity.measure(reference, _answers(graph, measured))
        return _reaches(tried[count][1], target_agreement)

    count = _fewest(len(targets) // 2, is_good)
    reached = count is not None
    if count is None:
        count = min(tried, key=lambda number: (*_badness(tried[number][1]), number))
    return Chosen(
        frozen=tried[count][0],
        targets=tuple(_without(targets, order[:count])),
        errors=tuple(LayerError(item.name, item.node.op, errors[item.node.name]) for item in order),
        kept=tuple(KeptFloat(item.name, item.node.op, _reason(errors[item.node.name])) for item in order[:count]),
        fidelity=tried[count][1],
        reached=reached,
    )


def _alone(frozen: Frozen, targets: Sequence[Target], build: Build, data: Mapping[str, Any]) -> dict[str, float]:
    """The relative error of the outputs where one layer is in 8 bits, by the layer's node."""
    rows = max(1, rows_of(frozen.signature, data))
    values = sum(np.asarray(array).size for array in data.values()) // rows
    few = head(frozen.signature, data, max(8, min(_TRIED, _PIXELS // max(1, values))))
    reference = Reference(_answers(frozen, few))
    return {target.node.name: fidelity.measure(reference, _answers(build([target]), few)).error for target in targets}


def _answers(frozen: Frozen, data: Mapping[str, Any]) -> Arrays:
    with Session(frozen) as session:
        return session.answer(data)


def _without(targets: Sequence[Target], out: Sequence[Target]) -> list[Target]:
    names = {target.node.name for target in out}
    return [target for target in targets if target.node.name not in names]


def _fewest(most: int, is_good: Callable[[int], bool]) -> int | None:
    """The least count up to `most` that is good, or one near it: steps that double, then halves; None where none is."""
    low, high = -1, 0
    while not is_good(high):
        if high >= most:
            return None
        low, high = high, min(most, 2 * high or 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_good(middle) else (middle, high)
    return high


def _reaches(found: Fidelity, target_agreement: float) -> bool:
    return found.error <= MAX_ERROR if found.agreement is None else found.agreement >= target_agreement


def _badness(found: Fidelity) -> tuple[float, float]:
    return -(found.agreement or 0.0), found.error


def _reason(error: float) -> str:
    return (
        f"too sensitive: alone it moves the outputs by {error:.2g} of their size"
        if error >= 1
        else (f"too sensitive: alone it moves the outputs by {100 * error:.2g} %")
    )
