"""Does an artifact answer as the Keras model does? Run in a fresh process, judged here, all faults at once."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from keraship import bundle
from keraship.bundle import Artifact, Manifest, Parity
from keraship.errors import BundleError, VerificationError
from keraship.exporter import children, golden, names
from keraship.exporter.findings import Comparison, Findings, Request
from keraship.extras import require
from keraship.signature import DEFAULT_SIGNATURE, Signature

Arrays = dict[str, np.ndarray[Any, Any]]
Cases = dict[int, tuple[Arrays, Arrays]]
"""Inputs and the Keras model's answers, by number of rows."""

TOLERANCES = {"float32": 1e-5, "float64": 1e-5, "float16": 1e-2, "bfloat16": 5e-2}
"""The largest error allowed, relative to an output's largest magnitude, by the coarsest type computed with.

float32 sums of another order differ by some 1e-7; 1e-5 leaves room for a hundred layers. float16 keeps 11 bits and
bfloat16 8, and runtimes round them at different places.
"""

TIMED = (1, 8)
"""The numbers of rows that are timed, where nobody asks for others."""

RUNTIMES = {"saved_model": "tensorflow", "onnx": "onnxruntime", "tflite": "tensorflow"}
"""What runs each format."""

_ALWAYS_BLOCKED = ("keras", "tf_keras")


def unreported(_stage: str) -> None:
    """Progress that nobody wants to see."""


@dataclass(frozen=True)
class Verified:
    """A published version that was proven once more; `artifacts` hold what was measured now."""

    folder: Path
    manifest: Manifest
    artifacts: tuple[Artifact, ...]


def verify(path: Path | str, *, progress: Callable[[str], None] | None = None) -> Verified:
    """Prove a published version once more: its files are those that were published, and answer as the model did.

    path: a version's folder, or a model's, which means its latest version. progress: called with each stage's name.
    Raises BundleError where there is no version; VerificationError with all that differs.
    """
    folder = bundle.resolve(Path(path))
    manifest = bundle.read_manifest(folder)
    changed = bundle.changed_files(folder, manifest)
    if changed:
        raise VerificationError(f"{folder} is not as it was published: {'; '.join(changed)}")
    report = progress or unreported
    _check_verifiable(folder, manifest)
    signature = manifest.signatures[DEFAULT_SIGNATURE]
    cases = _published_cases(folder, manifest, signature)
    report("start runtimes")
    others = {name: manifest.signatures[name] for name in manifest.more_golden}
    with (
        Checks([artifact.format for artifact in manifest.artifacts]) as checks,
        asking(signature, cases, others=others) as questions,
    ):
        found = {}
        for artifact in manifest.artifacts:
            report(f"verify {artifact.format}")
            found[artifact.format] = checks.ask(artifact.format, folder, questions)
    faults = {
        artifact.format: judge(found[artifact.format], artifact.parity.tolerance) for artifact in manifest.artifacts
    }
    raise_faults(faults)
    return Verified(
        folder, manifest, tuple(_renewed(artifact, found[artifact.format]) for artifact in manifest.artifacts)
    )


@dataclass(frozen=True)
class Questions:
    """What artifacts are asked, as files, which is how fresh processes get it; made by `asking`."""

    signature: Signature
    cases: dict[str, str]
    whole: str
    data: str | None
    work: Path
    others: Mapping[str, Signature]


@contextlib.contextmanager
def asking(
    signature: Signature,
    cases: Cases,
    data: Arrays | None = None,
    *,
    others: Mapping[str, Signature] = MappingProxyType({}),
) -> Iterator[Questions]:
    """The questions for artifacts of one signature.

    cases: what to ask and to expect; the largest is also asked row by row. data: the user's, which is only answered.
    others: signatures of which the artifacts' folders hold golden samples.
    """
    with tempfile.TemporaryDirectory(prefix="keraship-") as name:
        work = Path(name)
        folders = {str(size): str(work / f"rows-{size}") for size in cases}
        for size, (inputs, outputs) in cases.items():
            bundle.write_golden(Path(folders[str(size)]), inputs, outputs)
        if data is not None:
            bundle.write_golden(work / "data", data, {}, compress=False)
        yield Questions(
            signature, folders, str(max(cases)), str(work / "data") if data is not None else None, work, others
        )


class Checks:
    """The fresh processes for some formats, started at once; a `with` block ends them."""

    def __init__(self, formats: Sequence[str], blocked: Sequence[str] = ()) -> None:
        self._children = children.Children(formats, [*_ALWAYS_BLOCKED, *blocked])

    def __enter__(self) -> Checks:
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self._children.__exit__(*exc_info)

    def ask(
        self,
        format_: str,
        version: Path,
        questions: Questions,
        *,
        timed: Sequence[int] = TIMED,
        baseline: Path | None = None,
        answers: Path | None = None,
    ) -> Findings:
        """Ask the artifact of a format in the folder `version`.

        timed: numbers of rows to time. baseline: a version to time beside it. answers: a folder, made for its answers
        to the questions' data. Raises VerificationError where the process crashes.
        """
        request = Request(
            version=str(version.resolve()),
            signature=questions.signature,
            cases=questions.cases,
            whole=questions.whole,
            batchable=golden.is_batchable(questions.signature),
            timed=tuple(timed),
            answer=str(questions.work / "findings.json"),
            baseline=str(baseline.resolve()) if baseline else None,
            data=questions.data if answers else None,
            answers=str(answers) if answers else None,
            others={name: questions.others[name] for name in names.offered(format_, questions.others)},
        )
        return self._children.ask(format_, request)


def judge(found: Findings, tolerance: float) -> list[str]:
    """What is wrong with an artifact, a sentence each."""
    faults = list(found.faults)
    faults += [_mismatch(item, tolerance) for item in found.comparisons if not item.max_rel <= tolerance]
    if not found.repeat_error <= tolerance:
        faults.append(f"asked the same twice, its answers differ by {found.repeat_error:.3g} of their size")
    return faults


def raise_faults(faults: Mapping[str, list[str]]) -> None:
    """Raise one VerificationError with everything that is wrong with any artifact; nothing is."""
    said = [f"{format_}: {fault}" for format_, sentences in faults.items() for fault in sentences]
    if said:
        raise VerificationError(f"expected the Keras model's answers; {'; '.join(said)}")


def parity(found: Findings, tolerance: float) -> Parity:
    """The findings of an artifact that passed, as the manifest keeps them."""
    agreements = [item.agreement for item in found.comparisons if item.agreement is not None]
    return Parity(
        max_abs_error=max(item.max_abs for item in found.comparisons),
        max_rel_error=max(item.max_rel for item in found.comparisons),
        tolerance=tolerance,
        agreement=min(agreements) if agreements else None,
        batch_sizes=tuple(sorted({item.rows for item in found.comparisons})),
    )


def is_row_independent(found: Findings, tolerance: float) -> bool:
    """Whether a batch was answered as its rows are one by one."""
    return found.row_error is not None and found.row_error <= tolerance


def _check_verifiable(folder: Path, manifest: Manifest) -> None:
    formats = [artifact.format for artifact in manifest.artifacts]
    unknown = [format_ for format_ in formats if format_ not in RUNTIMES]
    if DEFAULT_SIGNATURE not in manifest.signatures or not formats or unknown:
        raise BundleError(
            f"expected {folder} to hold the signature {DEFAULT_SIGNATURE} and artifacts out of {', '.join(RUNTIMES)}; "
            f"got {', '.join(manifest.signatures) or 'no signature'} and {', '.join(formats) or 'no artifact'}"
        )
    require("export", *(RUNTIMES[format_] for format_ in formats))


def _mismatch(item: Comparison, tolerance: float) -> str:
    where = f"output {item.output!r} {list(item.shape)} at {item.rows} rows"
    if math.isinf(item.max_abs):
        return f"{where} has another shape, dtype or text, or other NaNs, than is expected"
    return (
        f"{where} differs by {item.max_abs:.3g} ({item.max_rel:.3g} of its largest value; {tolerance:.3g} is allowed)"
    )


def _published_cases(folder: Path, manifest: Manifest, signature: Signature) -> Cases:
    """The golden samples; and their first rows alone, where a row's answer does not depend on the others."""
    inputs, outputs = bundle.read_golden(folder)
    count = len(next(iter(inputs.values())))
    independent = all(artifact.row_independent for artifact in manifest.artifacts)
    sizes = (*golden.BATCHES, count) if independent and golden.is_batchable(signature) else (count,)
    return {
        size: (golden.rows(inputs, 0, size), golden.rows(outputs, 0, size)) if size != count else (inputs, outputs)
        for size in sizes
    }


def _renewed(artifact: Artifact, found: Findings) -> Artifact:
    return replace(
        artifact,
        load_seconds=found.load_seconds,
        parity=parity(found, artifact.parity.tolerance),
        latency_ms=found.latency_ms,
        row_independent=artifact.row_independent and is_row_independent(found, artifact.parity.tolerance),
        quality=None,  # the data is not part of a version
    )
