"""docs/matrix.md from the cells: a row for each model, a column for each kind of artifact, and what the issue asks."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

from matrix_cells import COLUMNS, MAX_ERRORS, MIN_AGREEMENT, Cell

_PACKAGES = ("tensorflow", "keras", "tf2onnx", "onnx", "onnxruntime")

_HEAD = """# Every model as every artifact

`make matrix` wrote this page; it goes on where a run was interrupted, and `benchmarks/matrix.py --help` says how to
repeat a part. The models are in `benchmarks/zoo`; they have random weights, so that "right" means "as the Keras model
answers", and nothing is said about how accurate a trained model stays: that is what `keraship export --evaluate`
measures. Each cell is an artifact that was written by the exporter's own steps, and loaded in a process where neither
Keras nor the zoo's code can be imported.

A green cell holds the error, the size, and the median time at one row:

- **error**: the root mean square of the difference over that of the Keras model's answers, the worst output's, on
  {rows} rows that the exporter has not seen. Float artifacts must stay below their number type's tolerance; quantized
  ones below {limits}. Where outputs are integers, flags or text, the share of equal ones stands behind it; it must be
  1 for float artifacts, and at least {shares} for quantized ones.
- **size**: of the artifact's file.
- **time**: in milliseconds, and for quantized artifacts the ratio to the float one, timed in turns beside it.
  Other work on the machine moves the times, and the ratios far less.

"refused" means that the exporter says why in a sentence that names the layer or operation; the sentences stand below
the table. **FAILED**: it broke, or named nothing. **WRONG**: it would have published what answers differently.
"""


def summary(cells: Iterable[Cell]) -> str:
    """How many cells are what."""
    counts = Counter(cell.verdict for cell in cells)
    return ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())) or "no cells"


def write_page(path: Path, names: Sequence[str], cells: Sequence[Cell]) -> None:
    """Write the page for these models, in their order."""
    found = {(cell.model, cell.column): cell for cell in cells}
    limits = ", ".join(f"{limit:g} ({scheme})" for scheme, limit in MAX_ERRORS.items())
    shares = ", ".join(f"{share:g} ({scheme})" for scheme, share in MIN_AGREEMENT.items())
    parts = [  # an empty one is left out
        _HEAD.format(rows=32, limits=limits, shares=shares),
        _made_with(),
        _missing(names, cells),
        _counts(cells),
        _goals(cells),
        _table(names, found),
        _sentences(cells),
    ]
    path.write_text("\n".join(part for part in parts if part))


def _made_with() -> str:
    versions = ", ".join(f"{package} {version(package)}" for package in _PACKAGES)
    return f"Made with {versions}, Python {platform.python_version()}.\n"


def _missing(names: Sequence[str], cells: Sequence[Cell]) -> str:
    missing = len(names) * len(COLUMNS) - len(cells)
    return f"Not run yet, and empty below: {missing} of {len(names) * len(COLUMNS)} cells.\n" if missing else ""


def _counts(cells: Sequence[Cell]) -> str:
    """Verdicts by column."""
    lines = ["| artifact | cells | green | refused | FAILED | WRONG |", "|---|--:|--:|--:|--:|--:|"]
    for column in [*COLUMNS, "all"]:
        own = [cell for cell in cells if column in (cell.column, "all")]
        counts = Counter(cell.verdict for cell in own)
        if own:
            figures = " | ".join(str(counts[verdict]) for verdict in ("green", "refused", "FAILED", "WRONG"))
            lines.append(f"| {column} | {len(own)} | {figures} |")
    return "\n".join([*lines, ""])


def _goals(cells: Sequence[Cell]) -> str:
    """What was to be reached, and what was."""

    def share(verdicts: Sequence[str], column: str = "") -> float:
        own = [cell for cell in cells if column in ("", cell.column)]
        return sum(cell.verdict in verdicts for cell in own) / max(1, len(own))

    wrong = sum(cell.verdict == "WRONG" for cell in cells)
    goals = [
        ("SavedModel green", share(["green"], "SavedModel"), ">=", 1.0),
        ("ONNX green", share(["green"], "ONNX"), ">=", 0.92),
        ("all cells green or refused by name", share(["green", "refused"]), ">=", 0.98),
        ("all cells refused", share(["refused"]), "<=", 0.12),
    ]
    lines = ["| goal | asked | reached | |", "|---|--:|--:|---|"]
    for what, reached, sign, asked in goals:
        met = reached >= asked if sign == ">=" else reached <= asked
        lines.append(f"| {what} | {sign} {asked:.0%} | {reached:.1%} | {'yes' if met else '**no**'} |")
    lines.append(f"| silently wrong | 0 | {wrong} | {'yes' if wrong == 0 else '**no**'} |")
    return "\n".join([*lines, ""])


def _table(names: Sequence[str], found: dict[tuple[str, str], Cell]) -> str:
    columns = [column for column in COLUMNS if any(key[1] == column for key in found)]
    lines = ["| model | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for name in names:
        cells = " | ".join(_shown(found.get((name, column))) for column in columns)
        lines.append(f"| {name} | {cells} |")
    return "\n".join([*lines, ""])


def _shown(cell: Cell | None) -> str:
    if cell is None:
        return ""
    if cell.verdict != "green":
        return cell.verdict if cell.verdict == "refused" else f"**{cell.verdict}**"
    error = "0" if not cell.error else f"{cell.error:.0e}".replace("e-0", "e-")
    share = "" if cell.agreement is None else f" ={cell.agreement:.3g}"
    ratio = "" if cell.ratio is None else f" x{cell.ratio:.2f}"
    return f"{error}{share}, {_size(cell.bytes or 0)}, {cell.milliseconds or 0:.2g} ms{ratio}"


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def _sentences(cells: Sequence[Cell]) -> str:
    """Why cells are not green: each sentence once, with its cells."""
    places: dict[tuple[str, str], list[str]] = {}
    for cell in cells:
        if cell.verdict != "green":
            places.setdefault((cell.verdict, cell.reason), []).append(f"{cell.model} ({cell.column})")
    lines = ["## What is not green", ""]
    for (verdict, reason), where in sorted(places.items()):
        lines.append(f"- {verdict}: {', '.join(where)}: {_plain(reason)}")
    return "\n".join([*lines, ""] if places else [])


def _plain(text: str) -> str:
    flat = " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
    return flat if len(flat) < 600 else flat[:600] + " ..."
