"""A float ONNX model to a quantized one, by one of four schemes; what would cost too much accuracy stays float.

| scheme | weights | computes in | needs |
|---|---|---|---|
| int8 | 8 bits, a scale for each output channel | 8 bits, with ranges from calibration data | calibration |
| dynamic | 8 bits | 8 bits in dense layers, with ranges from each batch; else float | |
| weight_only | 8 bits | float | |
| float16 | 16 bits | float | |

The files hold operations of the ONNX standard alone. Dynamic ranges are those of a whole batch, so that a row's answer
depends a little on the rows beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from keraship.bundle import Coverage, KeptFloat, LayerError
from keraship.errors import ExportError
from keraship.exporter import fidelity, onnx_check, onnx_dynamic, onnx_static, onnx_weights
from keraship.exporter.canonical_onnx import canonicalize
from keraship.exporter.onnx_weights import Holder

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]
Report = Callable[[str], None]

AGREEMENT = 0.995
"""The share of calibration rows that must keep their class; one row may always lose it."""

_ROWS = 64  # of the calibration data, to compare answers on
_RANKED_ROWS = 16  # of those, to compare layers on: enough to find the worst
_RANKED = 80  # layers; with more only the largest are compared, for each takes a model of its own


@dataclass(frozen=True)
class QuantizedOnnx:
    """A quantized ModelProto, and what of it is quantized."""

    model: Any
    coverage: Coverage


@dataclass(frozen=True)
class Scheme:
    """A way to quantize.

    build: a float model, the nodes to quantize, the calibration data -> a quantized model; the first is not changed.
    ops: which operations' weights it can quantize. error: the relative error of the outputs that it may cause before
    layers are kept float; None where it causes none that is worth a look.
    """

    build: Callable[[Any, Sequence[Holder], Any], Any]
    ops: frozenset[str]
    error: float | None
    calibrated: bool = False


def _stored(encode: Callable[..., onnx_weights.Stored]) -> Callable[[Any, Sequence[Holder], Any], Any]:
    def build(model: Any, chosen: Sequence[Holder], _ranges: Any) -> Any:
        copy = _copy(model)
        onnx_weights.store(copy, _weights(chosen), encode)
        return copy

    return build


def _dynamic(model: Any, chosen: Sequence[Holder], _ranges: Any) -> Any:
    copy = _copy(model)
    dense = onnx_dynamic.rewrite(copy, {holder.node for holder in chosen})
    onnx_weights.store(copy, _weights([holder for holder in chosen if holder.node not in dense]), onnx_weights.int8)
    return copy


_ALL = frozenset(onnx_weights.OPS)

SCHEMES = {
    "int8": Scheme(onnx_static.build, onnx_static.OPS, error=0.1, calibrated=True),
    "dynamic": Scheme(_dynamic, _ALL, error=0.05),
    "weight_only": Scheme(_stored(onnx_weights.int8), _ALL, error=0.05),
    "float16": Scheme(_stored(onnx_weights.float16), _ALL, error=None),
}


def quantize_onnx(
    model: Any,
    scheme: str,
    *,
    calibration: Arrays | None,
    keep_float: Iterable[str] = (),
    report: Report = lambda _stage: None,
) -> QuantizedOnnx:
    """Quantize a float ModelProto, as to_onnx gives it; it stays as it is. The same model and data give the same bytes.

    scheme: a key of SCHEMES. calibration: rows by input name; int8 takes the ranges of activations from them, and with
    them layers that cost too much accuracy are found and kept float. keep_float: names of layers to keep in any case.
    report: called with what is being done.
    Raises ExportError for an unknown scheme or layer, int8 without calibration, and where nothing can be quantized.
    """
    way = SCHEMES.get(scheme)
    if way is None:
        raise ExportError(f"expected a scheme out of {', '.join(SCHEMES)}; got {scheme!r}")
    if way.calibrated and not calibration:
        raise ExportError(f"{scheme} takes the ranges of activations from data; give some: --calibrate DATA")
    if calibration:
        _check_rows(model, calibration)
    found = onnx_weights.holders(model)
    kept = _kept_anyway(found, way, set(keep_float))
    candidates = [holder for holder in found if holder.node not in kept]
    if not candidates:
        raise ExportError(f"the model has no layer that {scheme} can quantize{_why_not(kept)}; leave {scheme} out")
    errors: list[LayerError] = []
    ranges = onnx_static.ranges(model, calibration) if way.calibrated and calibration else None
    search = _Search(model, way, candidates, ranges, calibration, report)
    result, dropped = search.run() if calibration and way.error is not None else (search.build(candidates), {})
    errors = search.errors
    kept |= dropped
    result.graph.ClearField("value_info")  # of tensors under the names that they had
    canonicalize(result)
    onnx_check.check(result)
    return QuantizedOnnx(result, _coverage(model, found, kept, errors))


def _check_rows(model: Any, calibration: Arrays) -> None:
    count, needed = len(next(iter(calibration.values()))), onnx_check.rows_at_once(model, 1)
    if count < needed:
        raise ExportError(f"expected {needed} rows of calibration data, which the model takes at once; got {count}")


def _copy(model: Any) -> Any:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _weights(chosen: Iterable[Holder]) -> dict[str, int]:
    return {name: axis for holder in chosen for name, axis in holder.weights.items()}


def _kept_anyway(found: list[Holder], way: Scheme, keep: set[str]) -> dict[str, KeptFloat]:
    """By node: what the scheme can't quantize, or the user will not have quantized."""
    unknown = sorted(keep - {holder.layer for holder in found})
    if unknown:
        raise ExportError(
            f"expected layers out of {', '.join(dict.fromkeys(holder.layer for holder in found))} to keep in "
            f"floating point; got {', '.join(unknown)}"
        )
    kept = {}
    for holder in found:
        if holder.layer in keep:
            kept[holder.node] = _keep(holder, "asked for")
        elif holder.op not in way.ops:
            kept[holder.node] = _keep(holder, f"no 8-bit operation for {holder.op} in onnxruntime")
        elif holder.inner and way.calibrated:
            kept[holder.node] = _keep(holder, "inside of a loop")
    return kept


def _keep(holder: Holder, reason: str) -> KeptFloat:
    return KeptFloat(holder.layer, holder.op, reason)


def _why_not(kept: dict[str, KeptFloat]) -> str:
    reasons = dict.fromkeys(f"{item.layer}: {item.reason}" for item in list(kept.values())[:3])
    return f" ({'; '.join(reasons)})" if reasons else ""


class _Search:
    """Which layers must stay float for the answers to stay what they are: the worst, in growing numbers."""

    def __init__(
        self, model: Any, way: Scheme, candidates: list[Holder], ranges: Any, calibration: Arrays | None, report: Report
    ) -> None:
        self._model, self._way, self._candidates, self._ranges = model, way, candidates, ranges
        count = onnx_check.rows_at_once(model, _ROWS)
        self._rows = {name: array[:count] for name, array in (calibration or {}).items()}
        self._report = report
        self.errors: list[LayerError] = []

    def build(self, chosen: Sequence[Holder]) -> Any:
        return self._way.build(self._model, chosen, self._ranges)

    def run(self) -> tuple[Any, dict[str, KeptFloat]]:
        """The quantized model, and what it keeps float, by node."""
        reference = fidelity.Reference(answers(self._model, self._rows))
        result = self.build(self._candidates)
        if self._is_good(result, reference):
            return result, {}
        order = self._ranked()
        count = 1
        while True:
            dropped = order[:count]
            rest = [holder for holder in self._candidates if holder not in dropped]
            if not rest:
                raise ExportError(
                    "with any layer in 8 bits the model's answers change too much "
                    f"(more than {self._way.error:.0%}, or the class; the least with the layer {order[-1].layer!r}); "
                    "use float16"
                )
            result = self.build(rest)
            if self._is_good(result, reference):
                return result, {holder.node: self._reason(holder) for holder in dropped}
            count += max(1, count // 2)

    def _is_good(self, result: Any, reference: fidelity.Reference) -> bool:
        found = fidelity.measure(reference, answers(result, self._rows))
        needed = min(AGREEMENT, 1 - 1 / found.rows)
        return found.error <= (self._way.error or 0.0) and (found.agreement is None or found.agreement >= needed)

    def _ranked(self) -> list[Holder]:
        """The layers, the worst first: each quantized alone."""
        count = onnx_check.rows_at_once(self._model, _RANKED_ROWS)
        rows = {name: array[:count] for name, array in self._rows.items()}
        reference = fidelity.Reference(answers(self._model, rows))
        found = {}
        for index, holder in enumerate(self._candidates[:_RANKED]):
            self._report(f"layer {index + 1} of {len(self._candidates)} alone")
            found[holder.node] = fidelity.measure(reference, answers(self.build([holder]), rows)).error
        order = sorted(self._candidates[:_RANKED], key=lambda holder: -found[holder.node])
        self.errors = [LayerError(holder.layer, holder.op, found[holder.node]) for holder in order]
        return [*order, *self._candidates[_RANKED:]]

    def _reason(self, holder: Holder) -> KeptFloat:
        alone = next((item.error for item in self.errors if item.layer == holder.layer), None)
        return _keep(holder, "accuracy" if alone is None else f"accuracy: alone it moves the outputs by {alone:.2%}")


def answers(model: Any, rows: Arrays) -> Arrays:
    """What onnxruntime gives, by output name."""
    session = onnx_check.session(model)
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, onnx_check.run(session, names, rows), strict=True))


def _coverage(model: Any, found: list[Holder], kept: dict[str, KeptFloat], errors: list[LayerError]) -> Coverage:
    sizes = onnx_weights.floats(model)
    quantized = [holder for holder in found if holder.node not in kept]
    names = {name for holder in quantized for name in holder.weights}
    return Coverage(
        quantized=_counts(quantized),
        total=_counts(found),
        weights_share=sum(sizes[name] for name in names) / max(1, sum(sizes.values())),
        kept_float=tuple(kept.values()),
        layer_errors=tuple(errors),
    )


def _counts(found: Iterable[Holder]) -> dict[str, int]:
    return dict(sorted(Counter(holder.op for holder in found).items()))
