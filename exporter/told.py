"""What is told of an export: artifacts for the manifest, the outcome for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from keraship import bundle
from keraship.bundle import Artifact
from keraship.exporter.fidelity import Fidelity
from keraship.exporter.findings import Findings
from keraship.exporter.formats import FORMATS, model_name
from keraship.exporter.machine import machine
from keraship.exporter.names import SIGNATURES, offered
from keraship.exporter.outcome import Outcome, Row
from keraship.exporter.run import Key, Run
from keraship.exporter.verify import TOLERANCES, is_row_independent, parity
from keraship.signature import Signature


def artifacts(run: Run) -> dict[Key, Artifact]:
    """What was measured, of those that were refused too; while their files are there."""
    return {key: _artifact(run, key) for key in run.keys if key in run.found and run.found[key].comparisons}


def origin(run: Run) -> bundle.Source:
    """The model that is exported."""
    from keraship.exporter import source

    path = run.job.model if isinstance(run.job.model, Path) else None
    return source.source(run.model, path, run.reference.quality)


def signatures(run: Run) -> dict[str, Signature]:
    """All of a version's, by name; not every format has all of them."""
    return dict.fromkeys(SIGNATURES, run.traced.signature) | (run.additions.public if run.additions else {})


def outcome(run: Run, measured: Mapping[Key, Artifact], source_: bundle.Source) -> Outcome:
    """The whole export, as people look at it."""
    from keraship.exporter import source

    best = min(run.made, key=run.latency)
    return Outcome(
        name=run.job.name,
        source=source_,
        signatures=signatures(run),
        rows=tuple(_row(run, key, best, measured.get(key)) for key in run.keys),
        tools=source.tools(),
        max_drop=run.job.max_drop,
        notes=_notes(run),
        curves=run.reference.curves(),
        graph=run.graph,
        machine=machine(),
    )


def _artifact(run: Run, key: Key) -> Artifact:
    scheme, format_ = key
    folder = run.stagings[scheme].folder
    found, faithful = run.found[key], run.fidelity.get(key)
    tolerance = _recorded_tolerance(found) if scheme else run.tolerance
    return Artifact(
        format=format_,
        files=bundle.file_entries(folder, *(file for file in FORMATS[format_].files if (folder / file).exists())),
        load_seconds=found.load_seconds,
        parity=_parity(found, faithful, tolerance, quantized=bool(scheme)),
        row_independent=_are_rows_independent(run, key, tolerance),
        latency_ms=found.latency_ms,
        quality=faithful.quality if faithful else None,
        opset=FORMATS[format_].opset,
        latency_ratio={size: ratio.median for size, ratio in found.latency_ratio.items()},
        coverage=run.coverage.get(key),
        drop=faithful.drop if faithful and scheme else None,
        signatures=offered(format_, signatures(run)),
    )


def _parity(found: Findings, faithful: Fidelity | None, tolerance: float, *, quantized: bool) -> bundle.Parity:
    """On the golden samples; the agreement of quantized artifacts on the user's data, which are more."""
    own = parity(found, tolerance)
    return replace(own, agreement=faithful.agreement) if quantized and faithful else own


def _recorded_tolerance(found: Findings) -> float:
    """What a quantized artifact must keep to when it is verified again: what it did, with room for another CPU."""
    return max(2 * max(item.max_rel for item in found.comparisons), TOLERANCES["float16"])


def _are_rows_independent(run: Run, key: Key, tolerance: float) -> bool:
    """A quantized artifact's rows are as independent as the float one's, unless its ranges come from the batch."""
    scheme, format_ = key
    if not is_row_independent(run.found[key], tolerance):
        return False
    return not scheme or (scheme != "dynamic" and is_row_independent(run.found["", format_], run.tolerance))


def _notes(run: Run) -> tuple[str, ...]:
    if run.data.labels is not None and run.reference.scores is None:
        return ("the labels fit none of the outputs, so quality was judged by agreement with the Keras model alone",)
    return ()


def _row(run: Run, key: Key, best: Key, artifact: Artifact | None) -> Row:
    scheme, format_ = key
    return Row(
        model_name=model_name(run.job.name, scheme),
        scheme=scheme,
        format=format_,
        artifact=artifact,
        verdict="REFUSED" if key in run.refused else "BEST" if key == best else "OK",
        reason=run.refused.get(key, "the fastest" if key == best else ""),
        errors=run.errors.get(key, ()),
        curves=run.curves.get(key, ()),
        graph=run.graphs.get(key),
    )
