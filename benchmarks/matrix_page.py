"""docs/matrix.md from the cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from matrix_cells import COLUMNS, Cell


def summary(cells: Iterable[Cell]) -> str:
    """How many cells are what."""
    counts = Counter(cell.verdict for cell in cells)
    return ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())) or "no cells"


def write_page(path: Path, names: Sequence[str], cells: Sequence[Cell]) -> None:
    """Write the table."""
    path.write_text(summary(cells) + "\n")
