"""What every part of the page is made of: how an artifact is shown, tables, bars, sections."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from keraship.exporter import words
from keraship.exporter.markup import Child, Markup, el
from keraship.exporter.outcome import Outcome, Row

_SERIES = {"": "0", "int8": "1", "float16": "2", "weight_only": "3", "dynamic": "4"}


@dataclass(frozen=True)
class Shown:
    """An artifact as the page shows it: its letter, the same in every picture, and its name."""

    row: Row
    letter: str
    name: str

    @property
    def series(self) -> str:
        """The class of its colour, which is that of its scheme."""
        return f"s{_SERIES.get(self.row.scheme, '5')}"

    @cached_property
    def key(self) -> Markup:
        """Its letter on its colour."""
        return el("span", self.letter, class_=f"key k{_SERIES.get(self.row.scheme, '5')}")

    @property
    def label(self) -> Markup:
        """Letter and name."""
        return el("span", self.key, self.name)


def shown(outcome: Outcome) -> list[Shown]:
    """The artifacts with their letters: A, B ... Z, AA."""
    return [Shown(row, _letter(index), words.artifact(row, outcome)) for index, row in enumerate(outcome.rows)]


def _letter(index: int) -> str:
    return (_letter(index // 26 - 1) if index >= 26 else "") + chr(ord("A") + index % 26)


def section(id_: str, title: str, explanation: Child, *children: Child) -> Markup | None:
    """A part of the page; None where it has nothing to show."""
    held = [child for child in children if child is not None and child != []]
    if not held:
        return None
    return el("section", el("h2", title), el("p", explanation, class_="soft"), held, id=id_)


def panel(title: Child, *children: Child) -> Markup:
    """A box within a section."""
    return el("div", el("h3", title) if title else None, *children, class_="panel")


def figure(caption: Child, picture: Child) -> Markup:
    """A picture and what it is."""
    return el("figure", el("figcaption", caption), picture)


def table(headers: Sequence[Child], rows: Iterable[Sequence[Child]], *, numbers: Sequence[int] = ()) -> Markup:
    """A plain table; the first column heads its row; numbers: the columns that are set to the right."""
    return el(
        "div",
        el(
            "table",
            el(
                "thead", el("tr", [el("th", h, scope="col", class_=_number(i, numbers)) for i, h in enumerate(headers)])
            ),
            el("tbody", [el("tr", [_cell(i, cell, numbers) for i, cell in enumerate(row)]) for row in rows]),
        ),
        class_="scroll",
        tabindex="0",
    )


def _cell(index: int, cell: Child, numbers: Sequence[int]) -> Markup:
    if index == 0:
        return el("th", cell, scope="row")
    return el("td", cell, class_=_number(index, numbers) or "breaks")


def _number(index: int, numbers: Sequence[int]) -> str | None:
    return "num" if index in numbers else None


@dataclass(frozen=True)
class Bar:
    """One bar: what it is of, how long, in words, how it looks, and a remark below it."""

    name: Child
    value: float
    words: Child
    class_: str
    note: Child = None


def bars(items: Sequence[Bar], *, mark: float | None = None, mark_title: str = "") -> Markup:
    """Bars from zero to the largest value, or to the mark, a line across all of them."""
    largest = max([*(item.value for item in items if math.isfinite(item.value)), mark or 0.0], default=0.0) or 1.0
    line = None
    if mark is not None:
        line = el("div", class_="mark", style=f"left:{mark / largest * 100:.2f}%", title=mark_title)
    return el("ul", [_bar(item, largest, line) for item in items], class_="bars")


def _bar(item: Bar, largest: float, line: Markup | None) -> Markup:
    share = min(1.0, item.value / largest) if math.isfinite(item.value) else 1.0
    return el(
        "li",
        el("span", item.name, class_="name"),
        el(
            "div",
            el("div", class_=f"bar {item.class_}", style=f"width:{share * 100:.2f}%"),
            line,
            class_="track",
        ),
        el("span", item.words, class_="value"),
        el("small", item.note, class_="note") if item.note else None,
    )
