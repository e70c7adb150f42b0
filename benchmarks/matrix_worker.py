"""The process behind matrix.py: makes artifacts with the exporter's own steps, and checks them by data of its own.

It reads requests from standard input, a JSON object a line, and writes each cell to standard output.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matrix_cells import CLOSE, COLUMNS, MAX_ERRORS, MIN_AGREEMENT, Cell

from keraship.quiet import import_keras

import_keras()

import zoo  # noqa: E402  # TensorFlow's chatter first

from keraship import bundle  # noqa: E402
from keraship.errors import ExportError, KerashipError  # noqa: E402
from keraship.exporter import conditioning, fold, freeze, golden, trace  # noqa: E402
from keraship.exporter.formats import FORMATS, Material  # noqa: E402
from keraship.exporter.verify import TOLERANCES, Checks, Questions, asking, judge  # noqa: E402

CALIBRATION = 128
ROWS = 32
"""Rows to compare on, others than the exporter's golden samples."""


def main() -> None:
    answers = sys.stdout
    sys.stdout = sys.stderr  # what models print is no answer
    formats = sorted({format_ for format_, _ in COLUMNS.values() if format_ in FORMATS})
    with Checks(formats, ["zoo"]) as checks:
        for line in sys.stdin:
            request = json.loads(line)
            for answer in _answers(checks, request):
                print(json.dumps(answer), file=answers, flush=True)


def _answers(checks: Checks, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "names" in request:
        yield {"names": zoo.all_names(all_members=request["all_members"])}
        return
    for cell in cells(checks, request["model"], request["columns"]):
        yield asdict(cell)


@dataclass(frozen=True)
class Subject:
    """A model that is ready to be written: what artifacts are made of, asked and judged by."""

    material: Material
    questions: Questions
    samples: tuple[golden.Arrays, golden.Arrays]
    moved: Any
    expected: golden.Arrays
    tolerance: float
    folder: Path


def cells(checks: Checks, name: str, columns: list[str]) -> Iterator[Cell]:
    """The cells of a model; where it can't be traced, all are the same."""
    left = list(columns)
    begun = time.monotonic()
    try:
        with tempfile.TemporaryDirectory() as folder, _subject(name, Path(folder)) as subject:
            while left:
                try:
                    cell = _cell(checks, subject, name, left[0])
                except Exception as error:  # whatever it is, it is a cell of the table
                    cell = _refused(name, left[0], error)
                yield replace(cell, seconds=round(time.monotonic() - begun, 2))
                left.pop(0)
                begun = time.monotonic()
    except Exception as error:
        for column in left:
            yield replace(_refused(name, column, error), seconds=round(time.monotonic() - begun, 2))


@contextlib.contextmanager
def _subject(name: str, folder: Path) -> Iterator[Subject]:
    """Trace, sample, freeze: what all columns of a model share."""
    traced = trace.trace(zoo.build(name))
    inputs, outputs = golden.golden(traced.signature, traced.answer, None)
    unseen = golden.more(traced.signature, inputs, seed=1, count=ROWS)
    calibration = golden.more(traced.signature, inputs, seed=2, count=CALIBRATION)
    expected = golden.in_parts(traced.answer, unseen)  # as artifacts are asked
    frozen = fold.fold(freeze.freeze(traced))
    count = len(next(iter(inputs.values())))
    one = golden.rows(inputs, 0, 1)
    cases = {1: (one, traced.answer(one))} if golden.is_batchable(traced.signature) else {}
    cases[count] = (inputs, outputs)
    material = Material(frozen, name, inputs, calibration, lambda _stage: None)
    tolerance = max((TOLERANCES[dtype] for dtype in frozen.float_dtypes), default=TOLERANCES["float32"])
    with asking(traced.signature, cases, unseen) as questions:
        yield Subject(material, questions, (inputs, outputs), traced.moved, expected, tolerance, folder)


def _cell(checks: Checks, subject: Subject, name: str, column: str) -> Cell:
    """Make an artifact, ask it, judge it."""
    format_, scheme = COLUMNS[column]
    version = subject.folder / (scheme or "float")
    version.mkdir(exist_ok=True)
    bundle.write_golden(version, subject.material.inputs, {})
    FORMATS[format_].write(subject.material, scheme, version, ())
    if scheme:
        _write_float(subject, format_)
    answers = subject.folder / f"answers-{column}"
    found = checks.ask(
        format_,
        version,
        subject.questions,
        timed=(1,),
        baseline=subject.folder / "float" if scheme else None,
        answers=answers,
    )
    done = Cell(
        name,
        column,
        "green",
        bytes=(version / FORMATS[format_].files[0]).stat().st_size,
        milliseconds=next(iter(found.latency_ms.values()), None),
        ratio=next((ratio.median for ratio in found.latency_ratio.values()), None),
    )
    tolerance = conditioning.tolerance(subject.tolerance, [found], subject.samples, subject.moved)
    if found.faults or (not scheme and judge(found, tolerance)):
        return replace(done, verdict="FAILED", reason="; ".join(judge(found, tolerance)))
    done = replace(done, **compare(subject.expected, bundle.read_golden(answers)[1], CLOSE if scheme else 0.0))
    return replace(done, **_verdict(done, scheme, tolerance))


def _write_float(subject: Subject, format_: str) -> None:
    """What a quantized artifact is timed beside, where its column was not asked for."""
    folder = subject.folder / "float"
    folder.mkdir(exist_ok=True)
    if not (folder / FORMATS[format_].files[0]).exists():
        FORMATS[format_].write(subject.material, "", folder, ())


def _verdict(cell: Cell, scheme: str, tolerance: float) -> dict[str, Any]:
    """The matrix' own judgement, on rows that the exporter did not see."""
    error, agreement = MAX_ERRORS.get(scheme, tolerance), MIN_AGREEMENT.get(scheme, 1.0)
    if (cell.error or 0.0) <= error and (cell.agreement is None or cell.agreement >= agreement):
        return {}
    return {"verdict": "WRONG", "reason": f"error {cell.error}, agreement {cell.agreement} on unseen rows"}


def compare(expected: golden.Arrays, got: golden.Arrays, close: float) -> dict[str, Any]:
    """error: of float outputs, the root mean square of the difference over that of the values, the largest.
    agreement: of outputs that are integers, flags or text the share of equal elements, the smallest; integers within
    `close` of the largest are equal.
    """
    errors, shares = [0.0], []
    for name, want in expected.items():
        have = got[name]
        if want.shape != have.shape or want.dtype != have.dtype:
            errors.append(float("inf"))
        elif want.dtype.kind in "fcV":
            errors.append(_error(want, have))
        else:
            shares.append(_agreement(want, have, close))
    return {"error": max(errors), "agreement": min(shares, default=None)}


def _agreement(want: Any, have: Any, close: float) -> float:
    if want.dtype.kind not in "iu":
        return float(np.mean(want == have)) if want.size else 1.0
    left, right = want.astype(float), have.astype(float)
    return float(np.mean(np.abs(left - right) <= close * np.abs(left).max())) if want.size else 1.0


def _error(want: Any, have: Any) -> float:
    left, right = (array.astype(complex) for array in (want, have))
    same = (left == right) | (np.isnan(left) & np.isnan(right))  # infinities and NaNs must stand at the same places
    difference, left = np.where(same, 0, left - right), np.where(np.isfinite(left), left, 0)
    size = float(np.sqrt(np.mean(np.abs(left) ** 2))) if left.size else 0.0
    error = float(np.sqrt(np.mean(np.abs(difference) ** 2))) if left.size else 0.0
    return error / (size or 1.0) if np.isfinite(error) else float("inf")


def _said(error: Exception) -> str:
    if isinstance(error, KerashipError):
        return str(error)
    traceback.print_exc(file=sys.stderr)
    return f"{type(error).__name__}: {error}"[:400]


_NAMED = re.compile(
    "|".join(
        [
            r"layers? '",
            r"(?:input|output) '",
            r"the model's own code",
            r"\(\w*[A-Z]\w*: ",
            r"\b[A-Z]\w+ in the ",
            r"operations: ",
            r"node with name '",
            r"text \(",  # and the inputs that are
            r"up in a table",
        ]
    )
)
"""What a sentence that names a layer, an operation or an input has."""


def _refused(name: str, column: str, error: Exception) -> Cell:
    """A sentence of the exporter that names a layer, an operation or an input is a refusal; all else is a failure."""
    said = _said(error)
    refused = isinstance(error, ExportError) and _NAMED.search(said)
    return Cell(name, column, "refused" if refused else "FAILED", said)


if __name__ == "__main__":
    main()
