"""The page's pictures: trade-off, size, latency, errors, layers, curves, graphs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from keraship.bundle import Coverage, KeptFloat
from keraship.exporter import drawing, graph_drawing, words
from keraship.exporter.curves import ALL
from keraship.exporter.drawing import Bin, Line, Point
from keraship.exporter.markup import Child, Markup, el
from keraship.exporter.outcome import Curve, Distribution, Graph, Outcome
from keraship.exporter.report_parts import Bar, Shown, bars, figure, panel, section, table

_HISTOGRAMS = 24  # more are a wall
_LAYERS = 20  # bars before the rest is folded away


def tradeoff(outcome: Outcome, artifacts: Sequence[Shown]) -> Markup | None:
    """Quality against latency, then size and latency as bars."""
    where = f" on {outcome.machine}" if outcome.machine else ""
    return section(
        "tradeoff",
        "Quality, speed and size",
        f"Latency is the median of one call in a process of its own{where}.",
        el("div", _scatter(artifacts), _sizes(outcome, artifacts), *_latencies(artifacts), class_="pair"),
    )  # fmt: skip


def _scatter(artifacts: Sequence[Shown]) -> Markup | None:
    """At the smallest number of rows that all were timed at."""
    measured = [each for each in artifacts if _timed(each)]
    first = _timed(measured[0]) if measured else {}
    size = next(
        (size for size in words.by_rows(first) if all(_timed(each).get(size, 0) > 0 for each in measured)), None
    )
    if size is None:
        return None
    x = f"milliseconds for {words.rows(size)} (log)"
    judged = [_judged(each, size) for each in measured if each.row.artifact and each.row.artifact.quality]
    if len(judged) > 1:
        metric = _metric(measured)
        title = f"{metric} against latency: up and to the left is better"
        return panel(f"{metric.capitalize()} against latency", _better(), drawing.scatter(judged, title, x=x, y=metric))
    wrong = [point for each in measured for point in _wrong(each, size)]
    if len(wrong) < 2:
        return None
    title = "largest error against latency: down and to the left is better"
    picture = drawing.scatter(wrong, title, x=x, y="max error", log_y=True)
    return panel("Largest error against latency", el("p", "Down and to the left is better.", class_="soft"), picture)


def _timed(each: Shown) -> dict[str, float]:
    return each.row.artifact.latency_ms if each.row.artifact else {}


def _metric(measured: Sequence[Shown]) -> str:
    found = (each.row.artifact.quality for each in measured if each.row.artifact)
    return next((quality.metric for quality in found if quality), "quality")


def _judged(each: Shown, size: str) -> Point:
    artifact = each.row.artifact
    if artifact is None or artifact.quality is None:
        raise AssertionError("only artifacts with a quality are drawn by it")
    quality, ms = artifact.quality, artifact.latency_ms[size]
    title = f"{each.name}: {words.quality(quality)}, {words.milliseconds(ms)}"
    best = each.row.verdict == "BEST"
    return Point(ms, quality.value, quality.low, quality.high, each.letter, each.series, title, best)


def _wrong(each: Shown, size: str) -> Iterator[Point]:
    """By its largest error; one that is no number has no place."""
    error = each.row.artifact.parity.max_abs_error if each.row.artifact else math.inf
    if math.isfinite(error):
        place, title = max(error, 1e-9), f"{each.name}: max error {words.error(error)}"
        best = each.row.verdict == "BEST"
        yield Point(_timed(each)[size], place, place, place, each.letter, each.series, title, best)


def _better() -> Markup:
    return el("p", "Up and to the left is better; whiskers are 95 % intervals, the ring is the best.", class_="soft")


def _sizes(outcome: Outcome, artifacts: Sequence[Shown]) -> Markup | None:
    have = [(each, each.row.artifact.bytes) for each in artifacts if each.row.artifact and each.row.artifact.bytes]
    if not have:
        return None
    weights = outcome.source.weights_bytes
    return panel(
        "Size on disk",
        el("p", f"The line: the Keras model's weights, {words.size(weights)}.", class_="soft") if weights else None,
        bars(
            [Bar(each.label, size, words.size(size), each.series) for each, size in have],
            mark=weights or None,
            mark_title="the Keras model's weights",
        ),
    )  # fmt: skip


def _latencies(artifacts: Sequence[Shown]) -> Iterator[Markup]:
    sizes = words.by_rows(size for each in artifacts for size in _timed(each))
    for size in sizes:
        items = [
            Bar(each.label, ms, words.milliseconds(ms), each.series)
            for each in artifacts
            if each.row.artifact
            for ms in [each.row.artifact.latency_ms.get(size)]
            if ms is not None
        ]
        yield panel(f"Latency at {words.rows(size)}", bars(items))


def errors(artifacts: Sequence[Shown]) -> Markup | None:
    """A histogram for each output of each artifact, over one axis."""
    all_ = [(each, found) for each in artifacts for found in each.row.errors if found.total]
    if not all_:
        return None
    edges = [edge for _, found in all_ for edge in found.edges]
    low = math.floor(math.log10(min(edges)) + 1e-9) if edges else -8
    high = math.ceil(math.log10(max(edges)) - 1e-9) if edges else 0
    drawn = _chosen(all_)
    several = len({found.output for _, found in all_}) > 1
    left_out = len(all_) - len(drawn)
    return section(
        "errors",
        "How far the answers are from the Keras model's",
        "Absolute errors of output elements, over powers of ten; the green column stands for those that are equal.",
        el("div", [_histogram(each, found, low, high, several=several) for each, found in drawn], class_="many panel"),
        el("p", f"Not drawn: {left_out} more outputs of these artifacts, whose errors are smaller.", class_="soft")
        if left_out
        else None,
    )


def _chosen(all_: Sequence[tuple[Shown, Distribution]]) -> list[tuple[Shown, Distribution]]:
    """As many outputs of each artifact as there is room for, those with the largest errors."""
    room = max(1, _HISTOGRAMS // max(1, len({each.letter for each, _ in all_})))
    taken: dict[str, int] = {}
    chosen = set()
    worst = sorted(range(len(all_)), key=lambda at: (-bool(all_[at][1].not_finite), -_largest(all_[at][1]), at))
    for at in worst:
        letter = all_[at][0].letter
        taken[letter] = taken.get(letter, 0) + 1
        if taken[letter] <= room:
            chosen.add(at)
    return [item for at, item in enumerate(all_) if at in chosen]


def _largest(found: Distribution) -> float:
    return found.edges[-1] if found.edges else 0.0


def _histogram(each: Shown, found: Distribution, low: int, high: int, *, several: bool) -> Markup:
    total = found.total
    tallest = max([*found.counts, found.equal, found.not_finite, 1])
    bins = [
        Bin(math.log10(start), math.log10(end), many / tallest, f"{start:.1e} to {end:.1e}: {_share(many, total)}")
        for start, end, many in zip(found.edges, found.edges[1:], found.counts, strict=False)
    ]
    equal = Bin(0, 0, found.equal / tallest, f"equal: {_share(found.equal, total)}") if found.equal else None
    lost = _share(found.not_finite, total)
    bad = Bin(0, 0, found.not_finite / tallest, f"no number: {lost}") if found.not_finite else None
    half = _median(found)
    said = f"median {half}" + (f", {lost} no number" if found.not_finite else "")
    title = f"errors of {each.name}, output {found.output}: {said}"
    picture = el("div", drawing.histogram(bins, low, high, title, equal=equal, bad=bad), class_=each.series)
    output = [el("br"), el("span", "output ", el("code", found.output))] if several else None
    return figure([each.label, output, el("br"), f"{said} of {words.count(total)} elements"], picture)


def _median(found: Distribution) -> str:
    """In which bin the middle element is."""
    left = found.total / 2 - found.equal
    if left <= 0:
        return "0"
    for start, end, many in zip(found.edges, found.edges[1:], found.counts, strict=False):
        left -= many
        if left <= 0:
            return f"about {math.sqrt(start * end):.0e}"
    return "no number"


def _share(many: int, total: int) -> str:
    return f"{many} of {total} ({words.percent(many / total)})"


def layers(artifacts: Sequence[Shown]) -> Markup | None:
    """Which layers of quantized artifacts cost most, and which stayed in floating point."""
    panels = [
        _layers(each, each.row.artifact.coverage)
        for each in artifacts
        if each.row.artifact and each.row.artifact.coverage
    ]
    return section(
        "layers",
        "What quantization does to each layer",
        "How much one layer's quantization alone moves the model's outputs, relative to their size, the largest first. "
        "Hatched layers were kept in floating point.",
        panels,
    )


def _layers(each: Shown, coverage: Coverage) -> Markup:
    kept = {item.layer: item for item in coverage.kept_float}
    ordered = sorted(coverage.layer_errors, key=lambda item: -_finite(item.error))
    items = [
        Bar(
            [el("code", item.layer or "(no name)"), " ", el("small", item.op)],
            item.error,
            words.error(item.error),
            "hollow" if item.layer in kept else each.series,
            f"kept float: {kept[item.layer].reason}" if item.layer in kept else None,
        )
        for item in ordered
    ]
    measured = {item.layer for item in ordered}
    others = [item for item in coverage.kept_float if item.layer not in measured]
    by_op = ", ".join(
        f"{coverage.quantized.get(op, 0)} of {total} {op}" for op, total in sorted(coverage.total.items())
    )
    return panel(
        each.label,
        el("p", f"Quantized: {words.percent(coverage.weights_share)} of the weights; {by_op or 'no ops'}."),
        bars(items[:_LAYERS]) if items else el("p", "The layers' own errors were not measured.", class_="soft"),
        _folded(items[_LAYERS:]),
        _kept(others),
    )


def _kept(items: Sequence[KeptFloat]) -> Child:
    if not items:
        return None
    rows = [[el("code", item.layer), item.op, item.reason] for item in items]
    return [el("h3", "Kept in floating point, not measured"), table(["layer", "op", "why"], rows)]


def _folded(items: Sequence[Bar]) -> Markup | None:
    if not items:
        return None
    return el("details", el("summary", f"{len(items)} more layers, each at most {items[0].words}"), bars(items))


def _finite(value: float) -> float:
    """Infinite errors, and those that are no numbers, are the largest."""
    return value if math.isfinite(value) else math.inf


def curves(outcome: Outcome, artifacts: Sequence[Shown]) -> Markup | None:
    """Precision and recall of each class, the Keras model's and every artifact's."""
    with_curves = [each for each in artifacts if each.row.curves]
    names = list(
        dict.fromkeys(c.name for source in (outcome.curves, *(e.row.curves for e in with_curves)) for c in source)
    )
    if not names:
        return None
    model = {curve.name: curve for curve in outcome.curves}
    pictures = [_curves(name, model.get(name), with_curves) for name in names]
    headers = ["average precision", *(name if name == ALL else f"class {name}" for name in names)]
    rows = [["Keras model", *(_area(model.get(name)) for name in names)]] if model else []
    own = [[each.label, *(_area(_of(each, name)) for name in names)] for each in with_curves]
    return section(
        "curves",
        "Precision and recall",
        "The further to the top right, the better: what is found is right, and all of it is found. The broad grey line "
        "is the Keras model; the classes with the least average precision are shown.",
        el("div", pictures, class_="many panel"),
        panel(None, table(headers, [*rows, *own], numbers=range(1, len(headers)))),
    )


def _curves(name: str, model: Curve | None, artifacts: Sequence[Shown]) -> Markup:
    own = [(each, curve) for each in artifacts for curve in [_of(each, name)] if curve is not None]
    drawn = [Line(model.recall, model.precision, "model", "Keras model")] if model else []
    drawn += [Line(curve.recall, curve.precision, f"stroke {each.series}", each.name) for each, curve in own]
    least = min(own, key=lambda pair: pair[1].average_precision, default=None)
    said = [f"AP {model.average_precision:.3f}"] if model else []
    if least is not None:
        said.append(f"least {least[1].average_precision:.3f} ({least[0].letter})")
    label = name if name == ALL else f"class {name}"
    title = f"precision against recall, {label}: {', '.join(said)}"
    return figure([el("b", label), ": ", ", ".join(said)], drawing.lines(drawn, title, x="recall", y="precision"))


def _of(each: Shown, name: str) -> Curve | None:
    return next((curve for curve in each.row.curves if curve.name == name), None)


def _area(curve: Curve | None) -> str:
    return f"{curve.average_precision:.3f}" if curve else words.NONE


def graphs(outcome: Outcome, artifacts: Sequence[Shown]) -> Markup | None:
    """The model's graph as it was traced, and as it was written: drawn, and its ops counted."""
    after = [(each.label, each.name, each.row.graph) for each in artifacts if each.row.graph]
    after.sort(key=lambda item: not (outcome.best and item[2] is outcome.best.graph))
    before = [("Keras model, as traced", "the Keras model as traced", outcome.graph)] if outcome.graph else []
    all_ = [*before, *after]
    if not all_:
        return None
    open_, folded = all_[: len(before) + 1], all_[len(before) + 1 :]
    return section(
        "graph",
        "The graph before and after",
        "Ops that follow one another without a branch are one box; its stripe has the colour of its weights' type. "
        "What only computes shapes or prepares constants is counted and not drawn.",
        el("div", [_graph(label, name, graph) for label, name, graph in open_], class_="pair"),
        [el("details", el("summary", "Graph of ", label), _graph(label, name, graph)) for label, name, graph in folded],
        el("details", el("summary", "All ops, counted"), _ops([(label, graph) for label, _, graph in all_])),
    )


def _graph(label: object, name: str, graph: Graph) -> Markup:
    total = sum(graph.ops.values())
    most = ", ".join(f"{many} {op}" for op, many in list(graph.ops.items())[:6])
    return panel(
        label,
        el("p", f"{total} ops: {most}{' ...' if len(graph.ops) > 6 else ''}", class_="soft"),
        el("div", graph_drawing.draw(graph, f"graph of {name}"), class_="graph scroll", tabindex="0")
        if graph.blocks
        else None,
    )


def _ops(all_: Sequence[tuple[object, Graph]]) -> Markup:
    kinds = sorted({op for _, graph in all_ for op in graph.ops})
    rows = [[el("code", op), *(str(graph.ops.get(op, words.NONE)) for _, graph in all_)] for op in kinds]
    totals = [["all ops", *(str(sum(graph.ops.values())) for _, graph in all_)]]
    return table(["op", *(label for label, _ in all_)], [*rows, *totals], numbers=range(1, len(all_) + 1))
