"""An export as one HTML page for people: verdicts, pictures, how to ask it; without other files, scripts, network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from keraship import bundle
from keraship.bundle import Artifact, Coverage, Drop, Quality
from keraship.exporter import report_pictures, snippets, words
from keraship.exporter.markup import Child, Markup, el, join
from keraship.exporter.outcome import Outcome, Row, write_outcome
from keraship.exporter.report_parts import Shown, panel, section, shown, table
from keraship.exporter.report_style import STYLE
from keraship.signature import DEFAULT_SIGNATURE, Signature, TensorSpec, format_shape

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def write_report(folder: Path, outcome: Outcome) -> None:
    """Write the page, and the outcome that it was made of, into a version that is being made."""
    write_outcome(folder, outcome)
    (folder / bundle.REPORT).write_text(page(outcome), encoding="utf-8")


def page(outcome: Outcome) -> str:
    """The page's HTML; the same outcome gives the same text."""
    artifacts = shown(outcome)
    sections = {
        "Verdicts": _verdicts(outcome, artifacts),
        "Speed and size": report_pictures.tradeoff(outcome, artifacts),
        "Errors": report_pictures.errors(artifacts),
        "Layers": report_pictures.layers(artifacts),
        "Precision and recall": report_pictures.curves(outcome, artifacts),
        "Graph": report_pictures.graphs(outcome, artifacts),
        "Ask it": _use(outcome),
        "Files": _provenance(outcome, artifacts),
    }
    have = {title: body for title, body in sections.items() if body is not None}
    links = [el("a", title, href=f"#{_id(body)}") for title, body in have.items()]
    return document(
        f"{outcome.name}: export report",
        el("h1", outcome.name),
        el("p", _lead(outcome), class_="lead"),
        el("nav", links, aria_label="Parts of this page"),
        body=[_cards(outcome), *have.values()],
    )


def document(title: str, *head: Child, body: Sequence[Child]) -> str:
    """A whole page of ours: its title, what stands on top, and the rest."""
    return "<!DOCTYPE html>\n" + el(
        "html",
        el(
            "head",
            el("meta", charset="utf-8"),
            el("meta", http_equiv="Content-Security-Policy", content=_POLICY),
            el("meta", name="viewport", content="width=device-width, initial-scale=1"),
            el("meta", name="color-scheme", content="light dark"),
            el("title", title),
            el("link", rel="icon", href="data:,"),
            el("style", Markup(STYLE)),
        ),
        "\n",
        el(
            "body",
            el("header", el("div", *head)),
            "\n",
            el("main", join(body, "\n")),
            "\n",
            el("footer", "Made by keraship. This page needs no network, and sends nothing anywhere."),
        ),
        lang="en",
    ) + "\n"  # fmt: skip


def _id(body: Markup) -> str:
    """The id of a section that was made."""
    return body.partition('id="')[2].partition('"')[0]


def _lead(outcome: Outcome) -> list[Child]:
    """What came of it, in a sentence or two."""
    source = outcome.source
    origin: list[Child] = [source.model or "A model", " from ", el("code", source.file) if source.file else "memory"]
    weights = f", {words.size(source.weights_bytes)} of weights. " if source.weights_bytes else ". "
    refused = sum(row.verdict == "REFUSED" for row in outcome.rows)
    passed = len(outcome.rows) - refused
    tail = f", {refused} refused" if refused else ""
    made = f"{passed} artifact{'' if passed == 1 else 's'} proven equal or within the limits{tail}."
    return [*origin, weights, made]


def _cards(outcome: Outcome) -> Markup | None:
    best = outcome.best or next((row for row in outcome.rows if row.artifact), None)
    if best is None or best.artifact is None:
        return None
    cards: list[Child] = [
        _card(words.artifact(best, outcome), "the best" if outcome.best else "the artifact", best=True)
    ]
    cards += [_card(*pair) for pair in _merits(best.artifact, _baseline(outcome, best), outcome)]
    return el("div", cards, class_="cards")


def _card(figure: str, what: str, *, best: bool = False) -> Markup:
    return el("div", el("b", figure), el("span", what), class_="card best" if best else "card")


def _merits(artifact: Artifact, base: Artifact | None, outcome: Outcome) -> Iterator[tuple[str, str]]:
    """Figures and what they are of."""
    for size in words.by_rows(artifact.latency_ratio):
        if (value := artifact.latency_ratio[size]) > 0:
            yield f"{1 / value:.2f}{words.TIMES} as fast", f"as float at {words.rows(size)}"
    if not artifact.latency_ratio:
        for size in words.by_rows(artifact.latency_ms):
            yield words.milliseconds(artifact.latency_ms[size]), f"for {words.rows(size)}"
    if base is not None and base is not artifact and base.bytes and artifact.bytes:
        yield words.size(artifact.bytes), f"{words.percent(artifact.bytes / base.bytes)} of the float artifact"
    elif artifact.bytes:
        yield words.size(artifact.bytes), "on disk"
    if artifact.quality is not None:
        q = artifact.quality
        change = f", {words.change(artifact.drop)} points" if artifact.drop else ""
        yield f"{q.value:.3f}", f"{q.metric} on {q.samples} rows{change}"
    elif outcome.rows:
        yield words.error(artifact.parity.max_abs_error), "largest error of any output"


def _baseline(outcome: Outcome, row: Row) -> Artifact | None:
    """The float artifact of the same format."""
    return next((r.artifact for r in outcome.rows if not r.scheme and r.format == row.format and r.artifact), None)


_COLUMNS = ("artifact", "verdict", "loads", "max error", "quality", "size", "latency", "quantized")


def _verdicts(outcome: Outcome, artifacts: Sequence[Shown]) -> Markup | None:
    if not artifacts:
        return None
    points = outcome.max_drop
    allowed = "" if points is None else f" A quantized one may lose up to {points:g} percentage points of quality."
    samples = [row.artifact.quality.samples for row in outcome.rows if row.artifact and row.artifact.quality]
    judged = f" Quality is measured on {samples[0]} held-out rows, in brackets the 95 % interval." if samples else ""
    head = el("thead", el("tr", [el("th", name, scope="col", class_=_look(name)) for name in _COLUMNS]))
    rows = [_verdict_row(each) for each in artifacts]
    model = outcome.source.quality
    if model is not None:
        rows.insert(0, _model_row(model))
    return section(
        "verdicts",
        "Every artifact and its verdict",
        f"Each was loaded and asked in a fresh process that had neither Keras nor the model's code.{allowed}{judged}",
        el("div", el("table", head, el("tbody", rows), class_="stack"), class_="panel scroll", tabindex="0"),
        [el("p", note) for note in outcome.notes],
    )  # fmt: skip


def _model_row(found: Quality) -> Markup:
    cells = [_filled(name, _quality(found, None)) if name == "quality" else el("td") for name in _COLUMNS[1:]]
    return el("tr", el("th", "Keras model", scope="row"), cells)


def _verdict_row(each: Shown) -> Markup:
    row, artifact = each.row, each.row.artifact
    cells: dict[str, Child] = {
        "verdict": [
            el("span", row.verdict, class_=f"chip {row.verdict.lower()}"),
            el("small", row.reason, class_="breaks") if row.reason else None,
        ]
    }
    if artifact is not None:
        cells |= _measured(artifact)
    name = [each.label, el("small", el("code", row.model_name), class_="breaks")]
    look = {"REFUSED": "refused", "BEST": "lead"}.get(row.verdict)
    filled = [_filled(column, cells.get(column, words.NONE)) for column in _COLUMNS[1:]]
    return el("tr", el("th", name, scope="row"), filled, class_=look)


def _measured(artifact: Artifact) -> dict[str, Child]:
    parity = artifact.parity
    agreement = f"same class: {words.percent(parity.agreement)}" if parity.agreement is not None else None
    return {
        "loads": words.seconds(artifact.load_seconds),
        "max error": [words.error(parity.max_abs_error), el("small", agreement) if agreement else None],
        "quality": _quality(artifact.quality, artifact.drop) if artifact.quality else words.NONE,
        "size": words.size(artifact.bytes) if artifact.files else words.NONE,
        "latency": [_latency(artifact, size) for size in words.by_rows(artifact.latency_ms)] or words.NONE,
        "quantized": _quantized(artifact.coverage) if artifact.coverage else words.NONE,
    }


def _quality(found: Quality, drop: Drop | None) -> Child:
    points, _, interval = words.change(drop).partition(" ")
    change = el("small", el("b", points), f" points {interval}") if drop else None
    return [f"{found.value:.3f} ", el("small", f"[{found.low:.3f}, {found.high:.3f}]"), change]


def _latency(artifact: Artifact, size: str) -> Markup:
    ratio = artifact.latency_ratio.get(size)
    against = f", {words.ratio(ratio)} of float" if ratio is not None else ""
    return el("div", words.milliseconds(artifact.latency_ms[size]), " ", el("small", f"{words.rows(size)}{against}"))


def _quantized(coverage: Coverage) -> Child:
    ops = f"{sum(coverage.quantized.values())} of {sum(coverage.total.values())} ops"
    kept = f", {len(coverage.kept_float)} layers kept float" if coverage.kept_float else ""
    return [f"{words.percent(coverage.weights_share)} of weights", el("small", ops, kept)]


def _filled(column: str, content: Child) -> Markup:
    look = f"{_look(column)} nothing" if content == words.NONE else _look(column)
    return el("td", el("div", content), data_label=column, class_=look)


def _look(column: str) -> str:
    return "what" if column in ("artifact", "verdict", "quantized") else "num"


def _use(outcome: Outcome) -> Markup | None:
    row = outcome.best or next((row for row in outcome.rows if row.verdict != "REFUSED"), None)
    if row is None or not outcome.signatures:
        return None
    return section(
        "use",
        "Ask it",
        "Start a server, then ask it; one click selects a whole box. TensorFlow Serving answers to the same requests.",
        panel("Serve", el("pre", el("code", snippets.serve(row.model_name)))),
        [
            panel(["Signature ", el("code", ", ".join(same))], _signature(row.model_name, outcome.signatures, same[0]))
            for same in _distinct(outcome.signatures)
        ],
    )


def _distinct(signatures: dict[str, Signature]) -> list[list[str]]:
    """The names, those of the same signature together."""
    found: list[list[str]] = []
    for name, signature in signatures.items():
        names = next((names for names in found if signatures[names[0]] == signature), None)
        if names is None:
            found.append([name])
        else:
            names.append(name)
    return found


def _signature(model: str, signatures: dict[str, Signature], name: str) -> list[Child]:
    signature, features = signatures[name], signatures.get(DEFAULT_SIGNATURE)
    specs = [_spec("input", spec) for spec in signature.inputs] + [_spec("output", spec) for spec in signature.outputs]
    return [
        table(["", "name", "dtype", "shape"], specs),
        el("h3", "curl"),
        el("pre", el("code", snippets.curl(model, signature, name, features=features))),
        el("h3", "Python"),
        el("pre", el("code", snippets.python(model, signature, name, features=features))),
    ]


def _spec(side: str, spec: TensorSpec) -> list[Child]:
    return [side, el("code", spec.name), spec.dtype, el("code", format_shape(spec.shape))]


def _provenance(outcome: Outcome, artifacts: Sequence[Shown]) -> Markup | None:
    files = [
        [el("code", f"{each.row.model_name}: {path}"), words.size(entry.bytes), el("code", entry.sha256)]
        for each in artifacts
        if each.row.artifact and each.row.verdict != "REFUSED"
        for path, entry in each.row.artifact.files.items()
    ]
    source = outcome.source
    origin = [["source", source.file or "in memory"], ["class", source.model]]
    origin += [["source sha256", source.sha256]] if source.sha256 else []
    facts = [[name, el("code", value, class_="breaks")] for name, value in origin]
    facts += [[package, el("code", version)] for package, version in outcome.tools.items()]
    facts += [["measured on", outcome.machine]] if outcome.machine else []
    return section(
        "files",
        "Files, and what made them",
        "keraship verify proves a published version again, by these sums and by its golden samples.",
        panel("Files", table(["file", "size", "sha256"], files, numbers=[1])) if files else None,
        panel("Made from, and with", table(["", ""], facts)),
    )
