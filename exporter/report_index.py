"""The models of a repository side by side: the latest version of each, with a link to its own page."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from keraship import bundle
from keraship.bundle import Artifact, Manifest
from keraship.exporter import words
from keraship.exporter.markup import Child, el
from keraship.exporter.report import document
from keraship.exporter.report_parts import Bar, bars, panel, table

_HEADERS = ("model", "version", "artifact", "max error", "quality", "change", "size", "latency", "quantized")


def index_page(repository: Path, versions: Sequence[tuple[Path, Manifest]], page: Path | None = None) -> str:
    """The page's HTML. versions: folders with their manifests. page: where it will stand, for its links."""
    name = repository.resolve().name or str(repository)
    models = len(versions)
    lead = f"{models} model{'' if models == 1 else 's'}, the latest version of each."
    rows = [_row(folder, manifest, artifact, page) for folder, manifest in versions for artifact in manifest.artifacts]
    sizes = [
        Bar(f"{folder.parent.name} {artifact.format}", artifact.bytes, words.size(artifact.bytes), "s0")
        for folder, manifest in versions
        for artifact in manifest.artifacts
    ]
    return document(
        f"{name}: models",
        el("h1", name),
        el("p", lead, class_="lead"),
        body=[
            panel("Artifacts", table(_HEADERS, rows, numbers=(1, 3, 4, 5, 6, 7))) if rows else el("p", "No models."),
            panel("Size on disk", bars(sizes)) if sizes else None,
        ],
    )


def _row(folder: Path, manifest: Manifest, artifact: Artifact, page: Path | None) -> list[Child]:
    latency = [
        f"{words.milliseconds(artifact.latency_ms[size])} at {words.rows(size)}"
        for size in words.by_rows(artifact.latency_ms)
    ]
    held = artifact.coverage
    return [
        _link(folder, page),
        folder.name,
        el("span", f"{manifest.scheme.replace('_', '-') or 'float'} {artifact.format}", class_="nowrap"),
        words.error(artifact.parity.max_abs_error),
        words.quality(artifact.quality),
        words.change(artifact.drop),
        words.size(artifact.bytes),
        [el("div", each) for each in latency],
        f"{words.percent(held.weights_share)} of weights" if held else words.NONE,
    ]


def _link(folder: Path, page: Path | None) -> Child:
    """The model's name, leading to its version's own page where there is one to be found from here."""
    own = folder / bundle.REPORT
    if page is None or not own.is_file():
        return folder.parent.name
    return el("a", folder.parent.name, href=quote(os.path.relpath(own.resolve(), page.resolve().parent)))
