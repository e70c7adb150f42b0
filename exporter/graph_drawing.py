"""A graph's blocks as a picture: from its inputs above to its outputs below, branches side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from keraship.exporter import words
from keraship.exporter.drawing import svg
from keraship.exporter.graph_summary import INPUT, OUTPUT
from keraship.exporter.markup import Child, Markup, el, readable
from keraship.exporter.outcome import Block, Graph

_WIDTH, _GAP, _DOWN, _LANE = (
    196.0,
    14.0,
    22.0,
    11.0,
)  # of a box; between boxes, ranks, edges at the side
_NAME, _OPS = 25, 32  # letters that fit into a box

_COLOURS = {"float32": "s0", "float64": "s0", "int8": "s1", "qint8": "s1", "uint8": "s1", "quint8": "s1", "int4": "s1",
            "uint4": "s1", "float16": "s2", "bfloat16": "s2"}  # fmt: skip
"""The series that a weight's type is drawn in: that of the scheme which makes it."""


@dataclass(frozen=True)
class _Box:
    """Where a block stands."""

    block: Block
    rank: int
    x: float
    y: float
    height: float

    @property
    def middle(self) -> float:
        return self.x + _WIDTH / 2


def draw(graph: Graph, title: str) -> Markup:
    """The picture; as wide as its widest rank."""
    ranks = _ranks(graph.blocks)
    rows = [[index for index, rank in enumerate(ranks) if rank == level] for level in range(max(ranks, default=-1) + 1)]
    inner = max((len(row) for row in rows), default=1) * (_WIDTH + _GAP) - _GAP
    boxes = _placed(graph.blocks, rows, inner)
    lanes = _lanes(graph.blocks, ranks)
    width = inner + (max(lanes.values(), default=-1) + 1) * _LANE + (14 if lanes else 2)
    height = max((box.y + box.height for box in boxes.values()), default=0) + 2
    edges = [
        _edge(boxes[start], boxes[end], inner, lanes.get((start, end)))
        for end, block in enumerate(graph.blocks)
        for start in block.inputs
    ]
    return svg(width, height, title, edges, [_drawn(boxes[index]) for index in range(len(boxes))])


def _ranks(blocks: Sequence[Block]) -> list[int]:
    """For each block the length of the longest way to it; inputs stand right above what reads them first."""
    ranks: list[int] = []
    for block in blocks:
        ranks.append(max((ranks[before] + 1 for before in block.inputs), default=0))
    for index in reversed(range(len(blocks))):
        if not blocks[index].inputs:
            readers = [ranks[at] for at, block in enumerate(blocks) if index in block.inputs]
            ranks[index] = max(0, min(readers) - 1) if readers else ranks[index]
    return ranks


def _placed(blocks: Sequence[Block], rows: Sequence[Sequence[int]], inner: float) -> dict[int, _Box]:
    boxes: dict[int, _Box] = {}
    y = 1.0
    for rank, row in enumerate(rows):
        ordered = sorted(row, key=lambda index: _above(blocks[index], boxes, inner))
        left = (inner - len(row) * (_WIDTH + _GAP) + _GAP) / 2 + 1
        for place, index in enumerate(ordered):
            height = _height(blocks[index])
            boxes[index] = _Box(blocks[index], rank, left + place * (_WIDTH + _GAP), y, height)
        y += max((boxes[index].height for index in row), default=0) + _DOWN
    return boxes


def _above(block: Block, boxes: dict[int, _Box], inner: float) -> float:
    """Where what a block reads stands, in the mean: blocks in this order have fewer crossing edges."""
    middles = [boxes[before].middle for before in block.inputs if before in boxes]
    return sum(middles) / len(middles) if middles else inner / 2


def _height(block: Block) -> float:
    return 24.0 if _is_end(block) else 24.0 + 14 * (bool(_ops(block)) and bool(block.name)) + 14 * bool(block.weights)


def _is_end(block: Block) -> bool:
    return block.ops in ((INPUT,), (OUTPUT,))


def _lanes(blocks: Sequence[Block], ranks: Sequence[int]) -> dict[tuple[int, int], int]:
    """The lane at the side of each edge that passes ranks by; edges in one lane do not meet."""
    passing = sorted(
        (ranks[end] - ranks[start], start, end)
        for end, block in enumerate(blocks)
        for start in block.inputs
        if ranks[end] - ranks[start] > 1
    )
    lanes: dict[tuple[int, int], int] = {}
    used: list[list[tuple[int, int]]] = []
    for _, start, end in passing:  # short ones are nearest
        span = ranks[start], ranks[end]
        lane = next(
            (at for at, spans in enumerate(used) if all(span[1] <= low or high <= span[0] for low, high in spans)),
            len(used),
        )
        used[lane:lane] = [] if lane < len(used) else [[]]
        used[lane].append(span)
        lanes[start, end] = lane
    return lanes


def _edge(start: _Box, end: _Box, inner: float, lane: int | None) -> Markup:
    bottom, top = start.y + start.height, end.y
    if lane is None:
        half = (bottom + top) / 2
        curve = f"C{start.middle:g} {half:g} {end.middle:g} {half:g} {end.middle:g} {top:g}"
        return el("path", d=f"M{start.middle:g} {bottom:g}{curve}")
    side = inner + 8 + lane * _LANE
    right_start, right_end = start.x + _WIDTH, end.x + _WIDTH
    out, into = start.y + start.height / 2 + 4, end.y + end.height / 2 - 4
    return el(
        "path",
        d=f"M{right_start:g} {out:g}C{side:g} {out:g} {side:g} {out:g} {side:g} {out + 14:g}V{into - 14:g}"
        f"C{side:g} {into:g} {side:g} {into:g} {right_end:g} {into:g}",
    )


def _drawn(box: _Box) -> Markup:
    block, x, y = box.block, box.x, box.y
    full = f"{block.name or 'ops'}: {_ops(block)}" + (f"; weights {_weights(block)}" if block.weights else "")
    if _is_end(block):
        label = _cut(f"{block.ops[0].lower()} {block.name}", _NAME)
        return el(
            "g",
            el("title", full),
            el("rect", x=f"{x:g}", y=f"{y:g}", width=_WIDTH, height=box.height, rx=12, class_="terminal"),
            el("text", label, x=f"{box.middle:g}", y=f"{y + 16:g}", class_="name middle"),
        )
    lines: list[Child] = []
    shown = [(block.name or _ops(block), "name"), (_ops(block) if block.name else "", "ops")]
    shown.append((_weights(block), "weights"))
    for words_, class_ in shown:
        if words_:
            at = y + 16 + 14 * len(lines)
            lines.append(
                el(
                    "text",
                    _cut(words_, _NAME if class_ == "name" else _OPS),
                    x=f"{x + 12:g}",
                    y=f"{at:g}",
                    class_=class_,
                )
            )
    return el(
        "g",
        el("title", full),
        el("rect", x=f"{x:g}", y=f"{y:g}", width=_WIDTH, height=box.height, rx=5, class_="box"),
        el("rect", x=f"{x:g}", y=f"{y:g}", width=4, height=box.height, rx=2, class_=f"tag {_colour(block)}"),
        lines,
    )


def _ops(block: Block) -> str:
    """`Conv2D x2, Relu`, in the order in which they come first."""
    return ", ".join(op if many == 1 else f"{op} {words.TIMES}{many}" for op, many in Counter(block.ops).items())


def _weights(block: Block) -> str:
    return ", ".join(f"{words.count(many)} {dtype}" for dtype, many in _largest_first(block))


def _colour(block: Block) -> str:
    """That of the type which most weights have."""
    return next((_COLOURS.get(dtype, "s5") for dtype, _ in _largest_first(block)), "")


def _largest_first(block: Block) -> list[tuple[str, int]]:
    return sorted(block.weights.items(), key=lambda item: (-item[1], item[0]))


def _cut(line: str, letters: int) -> str:
    line = readable(line)
    return line if len(line) <= letters else line[: letters - 1] + "\u2026"
