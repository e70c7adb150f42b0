"""Figures as people read them: the same on the terminal and on the page."""

from __future__ import annotations

import math
from collections.abc import Iterable

from keraship.bundle import Drop, Quality
from keraship.exporter.outcome import Outcome, Row

NONE = "\u2013"
"""Where there is nothing to say."""

MINUS, TIMES = "\u2212", "\u00d7"


def size(count: float) -> str:
    """Bytes in a unit that fits: `1.19 MB`."""
    for unit in ("bytes", "kB", "MB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} GB" if count < 999.5 else f"{count:,.0f} GB"


def count(number: float) -> str:
    """A large number in short: `37 k`, `2.2 M`."""
    for unit in ("", " k", " M"):
        if number < 999.5:
            return f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:,.3g} G" if number < 999.5 else f"{number:,.0f} G"


def milliseconds(value: float) -> str:
    """`0.42 ms`."""
    return f"{value:.3g} ms" if value < 999.5 else f"{value / 1000:.3g} s"


def seconds(value: float) -> str:
    """`0.31 s`."""
    return f"{value:.2f} s"


def error(value: float) -> str:
    """`2.4e-07`; 0 where nothing differs."""
    return "0" if value == 0 else f"{value:.2g}" if math.isfinite(value) else "no number"


def quality(found: Quality | None) -> str:
    """`0.964 [0.947, 0.976]`."""
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]" if found else NONE


def change(drop: Drop | None) -> str:
    """A drop as the change that it is, in percentage points with its interval: `-0.17 [-0.48, +0.14]`."""
    if drop is None:
        return NONE
    return f"{_signed(-drop.points)} [{_signed(-drop.high)}, {_signed(-drop.low)}]"


def _signed(value: float) -> str:
    rounded = round(value, 2)
    sign = MINUS if rounded < 0 else "+" if rounded > 0 else ""
    return f"{sign}{abs(rounded):.2f}"


def rows(number: str) -> str:
    """`1 row`, `32 rows`."""
    return f"{number} row" if number == "1" else f"{number} rows"


def by_rows(sizes: Iterable[str]) -> list[str]:
    """Numbers of rows, each once, the least first; JSON's keys are texts, and stand in alphabetical order."""
    return sorted(dict.fromkeys(sizes), key=lambda size: (int(size) if size.isdecimal() else math.inf, size))


def ratio(value: float) -> str:
    """How long something takes over what it is compared with: `0.28x`."""
    return f"{value:.2f}{TIMES}"


def percent(share: float) -> str:
    """`97.2 %`; 100 % only where it is all."""
    shown = f"{share * 100:.1f}"
    if shown == "100.0":
        return "100 %" if share >= 1 else ">99.9 %"
    return f"{shown} %"


def scheme(row: Row) -> str:
    """How the artifact is quantized, in a word."""
    return row.scheme.replace("_", "-") or "float"


def artifact(row: Row, outcome: Outcome) -> str:
    """The artifact's name among those of one export: `int8 onnx`; with its model's where that is another."""
    own = f"{scheme(row)} {row.format}"
    return own if row.model_name in (outcome.name, f"{outcome.name}-{row.scheme}") else f"{row.model_name} {own}"
