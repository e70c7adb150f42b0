"""Tables as rows: columns of numbers and of strings, and one of labels. Or, of two columns, texts."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keraship.errors import DataError
from keraship.models import labels, task, text
from keraship.models.rows import Array, ArrayRows, Fault, Found
from keraship.models.task import CLASSIFICATION, TEXT, Task
from keraship.signature import TensorSpec

LABEL = "label"

_MISSING = {"", "na", "n/a", "nan", "null", "none", "?"}
_NO_LABEL = {"", "nan"}  # "none" may well be a class
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_WHOLE = re.compile(r"[+-]?\d+")
_CODE = re.compile(r"0\d+")  # a post code, a telephone number: no quantity
_MOST = 0.95  # of a column's cells, for the others to be errors and not strings
_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True)
class _Table:
    """Cells as text. places: where each row is, for people."""

    names: list[str]
    rows: list[list[str]]
    places: list[str]
    where: str


def read(path: Path, *, label_column: str | None = None) -> Found:
    """The rows of a .csv file with a header, in UTF-8.

    Columns called `text` and `label` alone are texts. Otherwise whole numbers become int64, other numbers float32, and
    all else strings. Rows with an empty cell among numbers, or one that is no number, are faults.
    label_column: by default the one called `label`, else the last.
    Raises DataError where it is no such file.
    """
    faults: list[Fault] = []
    return _found(_read_table(path, faults), label_column, faults)


def from_frame(frame: Any, *, label_column: str | None = None) -> Found:
    """The rows of a pandas DataFrame, taken as those of a .csv file are."""
    if not hasattr(frame, "columns") or not hasattr(frame, "__getitem__"):
        raise DataError(f"expected the name or path of a data set, or a data frame; got {type(frame).__name__}")
    names = [str(name) for name in frame.columns]
    _check_names(names, "the data frame")
    columns = [[_cell(value) for value in frame[name]] for name in frame.columns]
    rows = [list(row) for row in zip(*columns, strict=True)]
    table = _Table(names, rows, [f"row {number}" for number in range(len(rows))], "the data frame")
    return _found(table, label_column, [])


def from_bunch(bunch: Any) -> Found:
    """One of scikit-learn's data sets of numbers."""
    columns = {str(name): bunch.data[:, i].astype(np.float32) for i, name in enumerate(bunch.feature_names)}
    specs, inputs = column_specs(columns, "scikit-learn's set")
    classes = tuple(str(name) for name in bunch.target_names)
    rows = ArrayRows(inputs, bunch.target.astype(np.int64))
    return Found(Task(CLASSIFICATION, specs, classes), {"train": rows})


def column_specs(columns: Mapping[str, Array], where: str) -> tuple[tuple[TensorSpec, ...], dict[str, Array]]:
    """The inputs that columns make, and the columns under the inputs' names.

    An input's name is the column's with `_` for all but letters and digits; raises DataError where two become one.
    """
    inputs = {input_name(name): array for name, array in columns.items()}
    if len(inputs) < len(columns):
        raise DataError(f"expected columns that differ in letters or digits in {where}; got {', '.join(columns)}")
    kinds = {name: "string" if array.dtype.kind == "O" else array.dtype.name for name, array in inputs.items()}
    return tuple(TensorSpec(name, kind, (None,)) for name, kind in kinds.items()), inputs


def input_name(column: str) -> str:
    """A column's name as one that models, signatures and files can have.

    >>> input_name("od280/od315 of wines")
    'od280_od315_of_wines'
    """
    name = re.sub(r"[^A-Za-z0-9]+", "_", column).strip("_")
    return name if name[:1].isalpha() and name not in ("labels",) else f"column_{name}"


def _read_table(path: Path, faults: list[Fault]) -> _Table:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            names = [name.strip() for name in next(reader, [])]
            rows = [(reader.line_num, row) for row in reader if row]
    except FileNotFoundError:
        raise DataError(f"expected data at {path}; there is no such file") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"expected a table of comma-separated values in UTF-8; {path}: {error}") from error
    _check_names(names, str(path))
    for line, row in rows:
        if len(row) != len(names):
            faults.append(Fault(f"{path}, line {line}", f"has {len(row)} cells; the header has {len(names)}"))
    whole = [(line, [cell.strip() for cell in row]) for line, row in rows if len(row) == len(names)]
    return _Table(names, [row for _, row in whole], [f"{path}, line {line}" for line, _ in whole], str(path))


def _check_names(names: list[str], where: str) -> None:
    """Raises DataError for a header that is none."""
    got = ", ".join(map(repr, names[:8])) or "nothing"
    if len(names) < 2:
        raise DataError(f"expected a header of two or more column names, separated by commas, in {where}; got {got}")
    if all(map(_NUMBER.fullmatch, names)):
        raise DataError(f"expected a header of column names in the first line of {where}; got numbers: {got}")
    if "" in names or len(set(names)) < len(names):
        raise DataError(f"expected a header that names each column, each once, in {where}; got {got}")


def _cell(value: Any) -> str:
    """A frame's cell as a file would hold it; None, NaN and pandas' NA are empty."""
    is_missing = value is None or str(value) in ("nan", "<NA>", "NaT")
    return "" if is_missing else str(value).strip()


def _found(table: _Table, label_column: str | None, faults: list[Fault]) -> Found:
    if not table.rows:
        raise DataError(f"expected rows below the header of {table.where}; there is none that can be used")
    label = _label_column(table, label_column)
    columns = {name: [row[i] for row in table.rows] for i, name in enumerate(table.names)}
    bad = {
        row: f"has no {label}" for row, cell in enumerate(columns[label]) if cell in ("", "nan")
    }  # "none" is a class
    is_text = {name.lower() for name in table.names} == {TEXT, LABEL} and label.lower() == LABEL
    made = {} if is_text else {n: _typed(n, cells, bad) for n, cells in columns.items() if n != label}
    if is_text:
        made[TEXT] = text.strings(next(cells for name, cells in columns.items() if name != label))
        bad |= {row: "has no text" for row, cell in enumerate(made[TEXT]) if not cell}
    faults += [Fault(table.places[row], what) for row, what in sorted(bad.items())]
    return _as_found(table, made, columns[label], set(bad), faults)


def _as_found(
    table: _Table, columns: dict[str, Array], labelled: list[str], bad: set[int], faults: list[Fault]
) -> Found:
    good = np.array([row for row in range(len(table.rows)) if row not in bad], np.int64)
    classes, ids = labels.of_texts([labelled[row] for row in good], table.where)
    if set(columns) == {TEXT}:
        made, inputs = task.of_text(classes), columns
    else:
        specs, inputs = column_specs(columns, table.where)
        made = Task(CLASSIFICATION, specs, classes)
    rows = ArrayRows({name: array[good] for name, array in inputs.items()}, ids)
    return Found(made, {"train": rows}, tuple(faults))


def _label_column(table: _Table, asked: str | None) -> str:
    if asked is not None and asked not in table.names:
        raise DataError(f"expected a column called {asked!r} in {table.where}; got {', '.join(table.names)}")
    named = [name for name in table.names if name.lower() == LABEL]
    return asked or (named[0] if len(named) == 1 else table.names[-1])


def _typed(name: str, cells: Sequence[str], bad: dict[int, str]) -> Array:
    """A column as numbers or as strings; the rows that do not fit go to `bad`, and hold 0 here."""
    filled = [cell for cell in cells if cell.lower() not in _MISSING]
    numbers = sum(1 for cell in filled if _NUMBER.fullmatch(cell))
    if not filled or numbers < _MOST * len(filled) or any(map(_CODE.fullmatch, filled)):
        return text.strings(cells)
    for row, cell in enumerate(cells):
        what = _number_fault(cell)
        if what:
            bad.setdefault(row, f"column {name!r} {what}")
    good = [cell if row not in bad else "0" for row, cell in enumerate(cells)]
    if all(_WHOLE.fullmatch(cell) and int(cell) in _INT64 for cell in good):
        return np.array([int(cell) for cell in good], np.int64)
    return np.array([float(cell) for cell in good], np.float32)


def _number_fault(cell: str) -> str:
    if cell.lower() in _MISSING:
        return "is empty, and its other cells are numbers"
    if not _NUMBER.fullmatch(cell):
        return f"has {cell!r}, and its other cells are numbers"
    return "" if abs(float(cell)) <= float(np.finfo(np.float32).max) else f"has {cell}, more than float32 can hold"
