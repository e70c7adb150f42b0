"""What an export came to, on the terminal: one table of artifacts and verdicts, the reasons below it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from keraship.bundle import Artifact, Quality
from keraship.exporter import words
from keraship.exporter.markup import readable
from keraship.exporter.outcome import Outcome, Row

_NARROW = 140  # columns; where there are fewer, cells have several lines, and quality no interval
_FILE = 200
_LONG = 11  # letters: "saved_model" stays whole
_NO_BREAK = "\u00a0"

_STYLES = {"BEST": "bold green", "OK": "cyan", "REFUSED": "bold red"}


def print_outcome(outcome: Outcome, console: Console | None = None) -> None:
    """Print the table on stdout: artifact, loads, parity, quality and its change, size, latency, verdict."""
    console = console or _stdout()
    console.print(_table(outcome.rows, outcome.source.quality, outcome, narrow=console.width < _NARROW))
    for row in outcome.rows:
        if row.verdict == "REFUSED":
            console.print(Text(f"REFUSED {words.artifact(row, outcome)}: {readable(row.reason)}"), soft_wrap=True)
    for note in outcome.notes:
        console.print(Text(readable(note)), soft_wrap=True)


def _stdout() -> Console:
    """As wide as the terminal; as wide as the table needs where there is none."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_FILE)


def _table(rows: Sequence[Row], source: Quality | None, outcome: Outcome, *, narrow: bool) -> Table:
    metric = _metric(rows, source)
    table = Table(box=None, pad_edge=False, collapse_padding=narrow, header_style="bold")
    table.add_column("artifact", overflow="fold", min_width=11)  # no format is broken
    wide = ("loads", "parity (max error)", f"{metric} [95 %]", "change [95 %]", "size")
    for header in ("loads", "error", metric, "change", "size") if narrow else wide:
        table.add_column(escape(header), justify="right", no_wrap=header in ("loads", "size"))
    sizes = words.by_rows(size for row in rows if row.artifact for size in row.artifact.latency_ms)
    for size in sizes:
        table.add_column(escape(words.rows(readable(size))), justify="right")
    table.add_column("verdict", no_wrap=True, min_width=7)
    if source is not None:
        table.add_row("Keras model", "", "", escape(_quality(source, narrow=narrow)), *[""] * (2 + len(sizes)), "")
    for row in rows:
        cells = _measured(row.artifact, sizes, narrow=narrow) if row.artifact else [words.NONE] * (5 + len(sizes))
        name = readable(words.artifact(row, outcome))
        if narrow:
            name, *cells = (cell.replace(" ", "\n") if len(cell) > _LONG else cell for cell in (name, *cells))
        verdict = Text(row.verdict, style=_STYLES[row.verdict])
        table.add_row(Text(name), *map(escape, cells), verdict)
    return table


def _metric(rows: Sequence[Row], source: Quality | None) -> str:
    found = (row.artifact.quality for row in rows if row.artifact)
    return readable(next((quality.metric for quality in (source, *found) if quality), "quality")).replace("_", " ")


def _measured(artifact: Artifact, sizes: Sequence[str], *, narrow: bool) -> list[str]:
    return [
        words.seconds(artifact.load_seconds),
        words.error(artifact.parity.max_abs_error),
        _quality(artifact.quality, narrow=narrow),
        words.change(artifact.drop),
        words.size(artifact.bytes) if artifact.files else words.NONE,
        *_latencies(artifact, sizes),
    ]


def _quality(found: Quality | None, *, narrow: bool) -> str:
    return f"{found.value:.3f}" if found and narrow else words.quality(found)


def _latencies(artifact: Artifact, sizes: Sequence[str]) -> Iterator[str]:
    for size in sizes:
        ms, ratio = artifact.latency_ms.get(size), artifact.latency_ratio.get(size)
        if ms is None:
            yield words.NONE
        else:
            against = f" ({words.ratio(ratio)})" if ratio is not None else ""
            yield words.milliseconds(ms).replace(" ", _NO_BREAK) + against
