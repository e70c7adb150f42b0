"""The export of a Keras model, read top-down: load, trace, sample, freeze, write, verify, publish."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keraship import bundle
from keraship.bundle import Artifact, Manifest, Quality
from keraship.errors import ExportError
from keraship.exporter import golden, quality
from keraship.exporter.findings import Findings
from keraship.exporter.names import SIGNATURES
from keraship.exporter.verify import (
    TOLERANCES,
    Cases,
    Checks,
    is_row_independent,
    judge,
    parity,
    raise_faults,
    unreported,
)
from keraship.extras import require
from keraship.keras_file import load
from keraship.quiet import import_keras
from keraship.samples import Samples, read_samples

if TYPE_CHECKING:
    from keraship.exporter.freeze import Frozen
    from keraship.exporter.trace import Traced

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Exported:
    """A version that was published: its folder, and what its manifest says."""

    folder: Path
    manifest: Manifest


def export(
    model: Any,
    to: Path | str,
    *,
    name: str | None = None,
    version: int | None = None,
    formats: Sequence[str] = ("saved_model", "onnx"),
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
    evaluate: Path | str | Samples | None = None,
    imports: Sequence[str] = (),
    progress: Progress | None = None,
) -> Exported:
    """Export a Keras model into the model repository `to`; published only once every artifact was proven equal to it.

    model: the path of a .keras file, or a keras.Model. name: the file's or the model's where left out. version: the
    next one where left out. formats: out of FORMATS. inputs, outputs: names in the model's order, in place of the
    layers'. evaluate: data whose first rows become the golden samples, and on whose labels accuracy is measured.
    imports: modules that register the model's own classes. progress: called with the name of each stage.
    Raises VersionExists and BundleError for the target, DataError for the data, ModelError for the file, ExportError
    for a model that cannot be exported, VerificationError for an artifact that does not answer as the model does.

        export("run/best.keras", "repo", name="digits", evaluate="run/test.npz")   # repo/digits/1
    """
    chosen = _chosen(formats)
    path = Path(model) if isinstance(model, str | Path) else None
    name = name or (path.stem if path else str(getattr(model, "name", "model")))
    require("export", *sorted({package for format_ in chosen for package in FORMATS[format_].packages}))
    blocked = (*imports, *(() if path else _own_modules(model)))
    with (
        _data_file(evaluate) as data,
        bundle.stage(Path(to), name, version) as staging,
        Checks(chosen, blocked) as checks,
    ):
        job = _Job(path or model, name, chosen, inputs, outputs, data, tuple(imports), progress or unreported)
        manifest = _fill(staging.folder, job, checks)
    if staging.published is None:  # stage() sets it, or raises
        raise AssertionError("a version was neither published nor refused")
    return Exported(staging.published, manifest)


@dataclass(frozen=True)
class _Job:
    """What is asked for, checked as far as it can be without TensorFlow."""

    model: Any
    name: str
    formats: tuple[str, ...]
    inputs: Sequence[str] | None
    outputs: Sequence[str] | None
    data: Path | None
    imports: tuple[str, ...]
    report: Progress


def _fill(folder: Path, job: _Job, checks: Checks) -> Manifest:
    """The steps, in their order; each is reported as it begins."""
    job.report("load")
    model = _load(job)
    from keraship.exporter import freeze, source, trace

    job.report("trace")
    traced = trace.trace(model, inputs=job.inputs, outputs=job.outputs)
    signature = traced.signature
    data = golden.fit(signature, read_samples(job.data)) if job.data else None

    job.report("sample")
    samples = golden.golden(signature, traced.answer, data)
    golden_entry = bundle.write_golden(folder, *samples)
    if data is not None and data.labels is not None:
        quality.check_labels(samples[1], data.labels)

    job.report("freeze")
    frozen = freeze.freeze(traced)

    for format_ in job.formats:
        job.report(f"write {format_}")
        FORMATS[format_].write(frozen, folder, job.name, samples[0])

    found = checks.run(folder, signature, _cases(traced, samples), evaluate=job.data, report=job.report)
    tolerance = max((TOLERANCES[dtype] for dtype in frozen.float_dtypes), default=TOLERANCES["float32"])
    raise_faults({format_: judge(found[format_], tolerance) for format_ in job.formats})

    job.report("publish")
    path = job.model if isinstance(job.model, Path) else None
    manifest = Manifest(
        source=source.source(model, path, _quality(traced, data)),
        signatures=dict.fromkeys(SIGNATURES, signature),
        artifacts=tuple(_artifact(folder, format_, found[format_], tolerance) for format_ in job.formats),
        golden=golden_entry,
        tools=source.tools(),
    )
    bundle.write_manifest(folder, manifest)
    return manifest


@dataclass(frozen=True)
class _Format:
    """A way to write a frozen graph: the function, the files that it makes, what it needs installed."""

    write: Callable[[Frozen, Path, str, golden.Arrays], None]
    files: tuple[str, ...]
    packages: tuple[str, ...]
    opset: int | None = None


def _write_saved_model(frozen: Frozen, folder: Path, name: str, inputs: golden.Arrays) -> None:
    from keraship.exporter.savedmodel import write_saved_model
    from keraship.exporter.warmup import write_warmup

    write_saved_model(frozen, folder)
    batches = [golden.rows(inputs, 0, 1), inputs] if golden.is_batchable(frozen.signature) else [inputs]
    write_warmup(folder, name, frozen.signature, batches)


def _write_onnx(frozen: Frozen, folder: Path, _name: str, _inputs: golden.Arrays) -> None:
    from keraship.exporter.to_onnx import write_onnx

    write_onnx(frozen, folder, opset=_OPSET)


_OPSET = 18  # of the ONNX standard: old enough for the runtimes in use, new enough for Keras' operations
_NEEDED = ("tensorflow", "keras")

FORMATS = {
    "saved_model": _Format(_write_saved_model, (bundle.SAVED_MODEL, bundle.WARMUP), (*_NEEDED, "tensorflow_serving")),
    "onnx": _Format(_write_onnx, (bundle.ONNX,), (*_NEEDED, "onnx", "tf2onnx", "onnxruntime"), opset=_OPSET),
}
"""What a model can be exported to."""


def _chosen(formats: Sequence[str]) -> tuple[str, ...]:
    chosen = tuple(dict.fromkeys([formats] if isinstance(formats, str) else formats))
    unknown = [format_ for format_ in chosen if format_ not in FORMATS]
    if unknown or not chosen:
        raise ExportError(f"expected formats out of {', '.join(FORMATS)}; got {', '.join(unknown) or 'none'}")
    return chosen


def _load(job: _Job) -> Any:
    import_keras()
    return load(job.model, imports=job.imports) if isinstance(job.model, Path) else job.model


def _own_modules(model: Any) -> list[str]:
    """The modules of the model's own classes, which artifacts must not need."""
    classes = {type(item) for item in (model, *getattr(model, "layers", ()))}
    modules = {class_.__module__ for class_ in classes}
    return sorted(module for module in modules if module != "__main__" and module.partition(".")[0] != "keras")


@contextlib.contextmanager
def _data_file(data: Path | str | Samples | None) -> Iterator[Path | None]:
    """The data as a file, which is how fresh processes get it; checked."""
    if data is None or isinstance(data, str | Path):
        if data is not None:
            read_samples(Path(data))
        yield None if data is None else Path(data)
        return
    with tempfile.TemporaryDirectory(prefix="keraship-") as folder:
        arrays = {**data.inputs} if data.labels is None else {**data.inputs, "labels": data.labels}
        path = Path(folder) / "data.npz"
        np.savez(path, **{name: _plain(array) for name, array in arrays.items()})
        yield path


def _plain(array: Any) -> Any:
    """Strings of varying length as numpy can store them without pickle."""
    return array.astype("S") if array.dtype.kind == "O" else array


def _cases(traced: Traced, samples: tuple[golden.Arrays, golden.Arrays]) -> Cases:
    """What artifacts are asked: the golden samples, and where their number is free, fewer of them."""
    inputs, outputs = samples
    whole = len(next(iter(inputs.values())))
    cases = {whole: (inputs, outputs)}
    if golden.is_batchable(traced.signature):
        for size in golden.BATCHES:
            few = golden.rows(inputs, 0, size)
            cases[size] = (few, traced.answer(few))
    return cases


def _quality(traced: Traced, data: Samples | None) -> Quality | None:
    if data is None or not golden.is_batchable(traced.signature):
        return None
    return quality.evaluate(traced.answer, data)


def _artifact(folder: Path, format_: str, found: Findings, tolerance: float) -> Artifact:
    return Artifact(
        format=format_,
        files=bundle.file_entries(folder, *FORMATS[format_].files),
        load_seconds=found.load_seconds,
        parity=parity(found, tolerance),
        row_independent=is_row_independent(found, tolerance),
        latency_ms=found.latency_ms,
        quality=found.quality,
        opset=FORMATS[format_].opset,
    )
