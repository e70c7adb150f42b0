"""Small pictures as SVG: histograms, curves, points. Sizes are in pixels; colours come from the page's classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from keraship.exporter import markup
from keraship.exporter.markup import Child, Markup, el

_SUPERSCRIPTS = str.maketrans("-0123456789", "\u207b\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079")

_LETTERS = 48  # that fit below a picture


@dataclass(frozen=True)
class Bin:
    """A column of a histogram: the decades (log10) that it spans, its height from 0 to 1, what it says."""

    low: float
    high: float
    height: float
    title: str


@dataclass(frozen=True)
class Line:
    """A line of a chart, its points from 0 to 1 on either axis; class_: how it looks."""

    x: Sequence[float]
    y: Sequence[float]
    class_: str
    title: str


@dataclass(frozen=True)
class Point:
    """A mark in a scatter plot: what stands in it, its interval on the y axis, whether it is the best."""

    x: float
    y: float
    low: float
    high: float
    letter: str
    class_: str
    title: str
    best: bool = False


def svg(width: float, height: float, title: str, *children: Child, class_: str | None = None) -> Markup:
    """A picture that says what it is to those who cannot see it."""
    return el(
        "svg",
        el("title", title),
        *children,
        viewBox=f"0 0 {_n(width)} {_n(height)}",
        width=_n(width),
        height=_n(height),
        role="img",
        aria_label=title,
        class_=class_,
    )


def histogram(
    bins: Sequence[Bin], low: int, high: int, title: str, *, equal: Bin | None = None, bad: Bin | None = None
) -> Markup:
    """Columns over a log axis from 10**low to 10**high; `equal` stands apart on the left, `bad` on the right."""
    width, height, left, right, bottom = 264.0, 132.0, 42.0, 224.0, 110.0
    decades = max(1, high - low)

    def x(decade: float) -> float:
        return left + (decade - low) / decades * (right - left)

    step = max(1, math.ceil(decades / 5))
    parts: list[Child] = [el("path", d=f"M0 {_n(bottom)}H{_n(width)}", class_="grid")]
    for decade in range(low, high + 1, step):
        parts.append(el("path", d=f"M{_n(x(decade))} {_n(bottom)}v4", class_="grid"))
        parts.append(_text(x(decade), bottom + 16, power(decade), "axis middle"))
    parts += [_column(x(b.low), x(b.high) - x(b.low), bottom, b, "fill") for b in bins]
    if equal is not None:
        parts += [_column(3, 20, bottom, equal, "equal"), _text(13, bottom + 16, "0", "axis middle")]
    if bad is not None:
        parts += [_column(width - 23, 20, bottom, bad, "bad"), _text(width - 13, bottom + 16, "NaN", "axis middle")]
    return svg(width, height, title, *parts)


def lines(drawn: Sequence[Line], title: str, *, x: str, y: str) -> Markup:
    """Lines over axes that both go from 0 to 1."""
    width, height, left, top, right, bottom = 264.0, 190.0, 30.0, 8.0, 256.0, 156.0
    parts: list[Child] = []
    for tick in (0.0, 0.5, 1.0):
        at_x, at_y = left + tick * (right - left), bottom - tick * (bottom - top)
        parts.append(
            el("path", d=f"M{_n(left)} {_n(at_y)}H{_n(right)}M{_n(at_x)} {_n(top)}V{_n(bottom)}", class_="grid")
        )
        parts.append(_text(left - 5, at_y + 3.5, f"{tick:g}", "axis end"))
        parts.append(_text(at_x, bottom + 14, f"{tick:g}", "axis middle"))
    parts.append(_text((left + right) / 2, height - 6, x, "axis middle"))
    parts.append(_text(9, (top + bottom) / 2, y, "axis middle", turned=True))
    for line in drawn:
        points = (
            f"{_n(left + a * (right - left))} {_n(bottom - b * (bottom - top))}"
            for a, b in zip(line.x, line.y, strict=True)
        )
        parts.append(el("path", el("title", line.title), d="M" + "L".join(points), class_=line.class_))
    return svg(width, height, title, *parts)


def scatter(points: Sequence[Point], title: str, *, x: str, y: str, log_y: bool = False) -> Markup:
    """Marks over a log x axis, and a y axis that is linear or logarithmic; intervals as whiskers."""
    width, height, left, top, right, bottom = 470.0, 320.0, 52.0, 12.0, 458.0, 272.0
    across = _log_ticks([point.x for point in points])
    up = _log_ticks([p for point in points for p in (point.low, point.high)]) if log_y else _ticks(
        [p for point in points for p in (point.low, point.high)]
    )  # fmt: skip

    def at_x(value: float) -> float:
        return left + _share(math.log(value), math.log(across[0]), math.log(across[-1])) * (right - left)

    def at_y(value: float) -> float:
        share = _share(math.log(value), math.log(up[0]), math.log(up[-1])) if log_y else _share(value, up[0], up[-1])
        return bottom - share * (bottom - top)

    parts: list[Child] = []
    for tick in across:
        parts.append(el("path", d=f"M{_n(at_x(tick))} {_n(top)}V{_n(bottom)}", class_="grid"))
        parts.append(_text(at_x(tick), bottom + 16, f"{tick:.3g}", "axis middle"))
    for tick in up:
        parts.append(el("path", d=f"M{_n(left)} {_n(at_y(tick))}H{_n(right)}", class_="grid"))
        parts.append(_text(left - 6, at_y(tick) + 3.5, _tick(tick, up, log=log_y), "axis end"))
    parts.append(_text((left + right) / 2, height - 8, x, "axis middle"))
    parts.append(_text(10, (top + bottom) / 2, y, "axis middle", turned=True))
    parts += [_point(point, at_x(point.x), at_y(point.y), at_y(point.low), at_y(point.high)) for point in points]
    return svg(width, height, title, *parts)


def _point(point: Point, x: float, y: float, low: float, high: float) -> Markup:
    return el(
        "g",
        el("title", point.title),
        el("path", d=f"M{_n(x)} {_n(low)}V{_n(high)}", class_="whisker") if low != high else None,
        el("circle", cx=_n(x), cy=_n(y), r=12, class_="ring") if point.best else None,
        el("circle", cx=_n(x), cy=_n(y), r=9, class_="fill"),
        _text(x, y + 4, point.letter, "letter"),
        class_=point.class_,
    )


def power(exponent: int) -> str:
    """A power of ten: 10 with a superscript."""
    return "10" + str(exponent).translate(_SUPERSCRIPTS)


def _column(x: float, width: float, bottom: float, bin_: Bin, class_: str) -> Markup:
    tall = max(1.5, bin_.height * (bottom - 8)) if bin_.height > 0 else 0.0
    return el(
        "rect",
        el("title", bin_.title),
        x=_n(x + 0.5),
        y=_n(bottom - tall),
        width=_n(max(0.5, width - 1)),
        height=_n(tall),
        rx=1.5,
        class_=class_,
    )


def _text(x: float, y: float, words: str, class_: str, *, turned: bool = False) -> Markup:
    turn = f"rotate(-90 {_n(x)} {_n(y)})" if turned else None
    if len(words) > _LETTERS:
        words = words[: _LETTERS - 1] + "\u2026"
    return el("text", markup.readable(words), x=_n(x), y=_n(y), class_=class_, transform=turn)


def _share(value: float, low: float, high: float) -> float:
    return (value - low) / (high - low) if high > low else 0.5


def _ticks(values: Sequence[float]) -> list[float]:
    """Round numbers from below the least value to above the largest."""
    low, high = min(values), max(values)
    step = _step((high - low) or abs(high) or 1.0)
    first = math.floor(low / step)
    last = max(first + 1, math.ceil(high / step))
    return [step * index for index in range(first, last + 1)]


def _step(span: float) -> float:
    rough = span / 4
    unit = 10.0 ** math.floor(math.log10(rough))
    return next((unit * factor for factor in (1, 2, 5) if unit * factor >= rough), unit * 10)


def _log_ticks(values: Sequence[float]) -> list[float]:
    """1, 2 and 5 times powers of ten, or of many decades the powers alone, around the values."""
    low, high = min(values), max(values)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1.0, 2.0, 5.0) if last - first <= 3 else (1.0,)
    every = max(1, (last - first) // 6)
    candidates = [factor * 10.0**decade for decade in range(first - 1, last + 2, every) for factor in factors]
    below = [tick for tick in candidates if tick <= low * 0.97]
    above = [tick for tick in candidates if tick >= high * 1.03]
    return [*below[-1:], *(tick for tick in candidates if low * 0.97 < tick < high * 1.03), *above[:1]]


def _tick(value: float, ticks: Sequence[float], *, log: bool) -> str:
    if log:
        return f"{value:.0e}" if value < 0.01 else f"{value:g}"
    step = ticks[1] - ticks[0]
    return f"{value:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"


def _n(number: float) -> str:
    """A coordinate, short."""
    return f"{number:.2f}".rstrip("0").rstrip(".")
