"""A folded float graph to a quantized one, by a scheme of the table SCHEMES, and how much of it is quantized."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keraship.bundle import Coverage
from keraship.errors import ExportError
from keraship.exporter import weight_only
from keraship.exporter.coverage import elements, share
from keraship.exporter.freeze import Frozen
from keraship.exporter.graph import Graph, name_of
from keraship.exporter.int8_calibrate import calibrate
from keraship.exporter.int8_fallback import Chosen, choose
from keraship.exporter.int8_plan import Plan, Target, plan
from keraship.exporter.int8_rewrite import rewrite, tensors_of
from keraship.exporter.session import rows_of
from keraship.exporter.verify import unreported

Array = np.ndarray[Any, Any]
Report = Callable[[str], None]

FEWEST_ROWS = 16
"""With fewer rows the ranges say more about the rows than about the model."""

ADVISED_ROWS = 100


@dataclass(frozen=True)
class Quantized:
    """A quantized graph, with the float one's signature, and how much of it is quantized."""

    frozen: Frozen
    coverage: Coverage


@dataclass(frozen=True)
class _Job:
    """What `quantize` was asked for."""

    frozen: Frozen
    calibration: Mapping[str, Array] | None
    keep_float: tuple[str, ...]
    target_agreement: float
    report: Report


def quantize(
    frozen: Frozen,
    scheme: str,
    *,
    calibration: Mapping[str, Array] | None = None,
    keep_float: Sequence[str] = (),
    target_agreement: float = 0.995,
    report: Report = unreported,
) -> Quantized:
    """Quantize a graph that `fold` has made.

    scheme: out of SCHEMES. calibration: rows by input name, like those that the model will be asked; int8 needs 16, and
    100 or more are better. keep_float: layers that may not be quantized. target_agreement: the share of calibration
    rows that must keep their class in int8, for which the most sensitive layers stay float, up to half of them; where
    no output has classes, a relative error takes its place. report: called with what is being done.
    Raises ExportError where the scheme is unknown, the calibration is missing, too short or holds numbers that are not
    finite, where keep_float names no layer, and where nothing can be quantized.
    """
    if scheme not in SCHEMES:
        raise ExportError(f"expected a scheme out of {', '.join(SCHEMES)}; got {scheme}")
    if frozen.variables:
        raise ExportError("expected weights of 2 GB or less, which is what can be quantized; publish the float model")
    return SCHEMES[scheme](_Job(frozen, calibration, tuple(keep_float), target_agreement, report))


def _int8(job: _Job) -> Quantized:
    data = _checked(job)
    graph = Graph(job.frozen)
    planned = plan(graph, job.keep_float)
    _check_plan(planned, job.keep_float)
    job.report("calibrate")
    ranges = calibrate(job.frozen, tensors_of(graph, planned.targets), data)
    job.report("find sensitive layers")
    chosen = choose(
        job.frozen,
        planned.targets,
        lambda targets: rewrite(job.frozen, targets, ranges, shapes=graph.shapes),
        data,
        target_agreement=job.target_agreement,
    )
    if not chosen.reached:
        job.report(_said(chosen))
    return Quantized(chosen.frozen, _coverage(job.frozen, planned, chosen))


def _weight_only(job: _Job) -> Quantized:
    return _stored(job, weight_only.as_int8)


def _float16(job: _Job) -> Quantized:
    return _stored(job, weight_only.as_float16)


SCHEMES: dict[str, Callable[[_Job], Quantized]] = {
    "int8": _int8,  # weights and activations in 8 bits, computed by oneDNN's 8-bit kernels
    "weight_only": _weight_only,  # weights stored in 8 bits, computed with in float
    "float16": _float16,  # weights stored in 16 bits, computed with in float
}
"""How a graph can be quantized for TensorFlow."""


def _operations(graph: Any) -> str:
    """The types of nodes that compute something, at most ten."""
    types = sorted({node.op for node in graph.node} - {"Const", "Identity", "Placeholder", "NoOp"})
    return ", ".join([*types[:10], *(["..."] if len(types) > 10 else [])]) or "none"


def _stored(job: _Job, store: weight_only.Store) -> Quantized:
    frozen, coverage = weight_only.store_weights(job.frozen, store, job.keep_float)
    if not coverage.quantized:
        raise ExportError(
            f"expected float32 weights of {weight_only.SMALLEST} or more numbers to store in fewer bits; "
            f"the model has {'those only that are to stay float' if coverage.total else 'none'} "
            f"(its operations: {_operations(job.frozen.graph)}); publish the float model"
        )
    return Quantized(frozen, coverage)


def _checked(job: _Job) -> Mapping[str, Array]:
    """The calibration data, if it will do."""
    if not job.calibration:
        raise ExportError("int8 has to be calibrated on data like that which the model will be asked: --calibrate DATA")
    rows = len(next(iter(job.calibration.values())))
    if rows < FEWEST_ROWS:
        raise ExportError(
            f"expected {FEWEST_ROWS} or more rows to calibrate on, better {ADVISED_ROWS}; got {rows}: give more data"
        )
    for name, array in job.calibration.items():
        if array.dtype.kind == "f" and not np.all(np.isfinite(array)):
            raise ExportError(
                f"the calibration data holds NaN or infinite numbers in {name!r}, which have no place in 8 bits; "
                "leave those rows out"
            )
    if rows_of(job.frozen.signature, job.calibration) < ADVISED_ROWS:
        job.report(f"calibrating on {rows} rows only, {ADVISED_ROWS} or more are better")
    return job.calibration


def _check_plan(planned: Plan, keep_float: Sequence[str]) -> None:
    names = [*(target.name for target in planned.targets), *(item.layer for item in planned.kept)]
    for asked in keep_float:
        if not any(asked == name or name.startswith(f"{asked}/") for name in names):
            raise ExportError(
                f"expected the name of a layer that is to stay float, out of {', '.join(dict.fromkeys(names))}; "
                f"got {asked!r}"
            )
    if not planned.targets:
        said = "; ".join(f"{item.layer} ({item.op}): {item.reason}" for item in planned.kept[:5])
        raise ExportError(
            "expected a Conv2D, DepthwiseConv2D or Dense layer of float32 that can be computed in 8 bits; "
            f"the model has none{f' ({said})' if said else ''}; use weight_only or float16"
        )


def _coverage(frozen: Frozen, planned: Plan, chosen: Chosen) -> Coverage:
    quantized = Counter(target.node.op for target in chosen.targets)
    kept = (*chosen.kept, *planned.kept)
    weights = {_weights_name(target): target.layer.weights.size for target in chosen.targets}
    return Coverage(
        quantized=dict(quantized),
        total=dict(quantized + Counter(item.op for item in kept)),
        weights_share=share(sum(weights.values()), elements(frozen)),
        kept_float=kept,
        layer_errors=chosen.errors,
    )


def _weights_name(target: Target) -> str:
    """Layers may share their weights, which count once."""
    return name_of(target.node.input[target.layer.kind.weights])


def _said(chosen: Chosen) -> str:
    found = chosen.fidelity
    reached = f"an error of {found.error:.1%}" if found.agreement is None else f"{found.agreement:.1%} of classes kept"
    return f"with {len(chosen.kept)} layers in float, int8 reaches {reached}, less than is aimed at"
