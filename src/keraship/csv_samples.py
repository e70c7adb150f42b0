"""A .csv file with a header to arrays, a column each, or all columns as the features of a model's only input."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keraship import dtypes
from keraship.errors import DataError
from keraship.signature import TensorSpec

Array = np.ndarray[Any, Any]

LABELS = ("labels", "label", "y")
"""What a column of labels may be called."""


def read(path: Path, inputs: Sequence[TensorSpec]) -> dict[str, Array]:
    """The columns as arrays (rows,); in an input's dtype where it has a column, else numbers if all cells are.

    inputs: where there is one, and no column of its name, the other columns become its features, (rows, columns).
    Raises DataError for rows of different lengths, and for cells that are no numbers where some are needed.
    """
    columns = _columns(path)
    known = {spec.name: spec for spec in inputs}
    arrays = {name: _array(cells, known.get(name), f"{path}, column {name}") for name, cells in columns.items()}
    if len(inputs) == 1 and inputs[0].name not in arrays:
        return _features(arrays, inputs[0], path)
    return {name: _shaped(array, known.get(name)) for name, array in arrays.items()}


def _columns(path: Path) -> dict[str, list[str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file, strict=True) if row]
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"expected comma-separated values in UTF-8 in {path}: {error}") from error
    if not rows:
        raise DataError(f"expected a header and rows in {path}; it is empty")
    header, *body = rows
    for number, row in enumerate(body, start=2):
        if len(row) != len(header):
            raise DataError(
                f"expected {len(header)} cells, as in the header, in row {number} of {path}; got {len(row)}"
            )
    if len(set(header)) != len(header):
        raise DataError(f"expected a different name for each column of {path}; got {', '.join(header)}")
    return {name: [row[index] for row in body] for index, name in enumerate(header)}


def _array(cells: list[str], spec: TensorSpec | None, where: str) -> Array:
    if spec is None:
        return _guessed(cells)
    kind = dtypes.by_name(spec.dtype).numpy
    if kind.kind == "O":
        return np.array([cell.encode() for cell in cells], object)
    try:
        return np.array(cells).astype(np.float64 if kind.kind in "fV" else kind)
    except ValueError as error:
        raise DataError(f"expected {spec.dtype} in {where}: {error}") from error


def _guessed(cells: list[str]) -> Array:
    for kind in (np.int64, np.float64):
        try:
            return np.array(cells).astype(kind)
        except (ValueError, OverflowError):
            continue
    return np.array([cell.encode() for cell in cells], object)


def _features(arrays: dict[str, Array], spec: TensorSpec, path: Path) -> dict[str, Array]:
    features = {name: array for name, array in arrays.items() if name not in LABELS}
    texts = [name for name, array in features.items() if array.dtype.kind == "O"]
    if texts and len(features) > 1:
        raise DataError(f"expected numbers for {spec} in {path}; the column {texts[0]} holds text")
    if not features:
        raise DataError(f"expected a column named {spec.name} in {path}; got {', '.join(arrays)}")
    if len(features) == 1 and spec.shape is not None and len(spec.shape) < 2:
        stacked = next(iter(features.values()))
    else:
        stacked = np.stack(list(features.values()), axis=1)
    return {spec.name: stacked} | {name: array for name, array in arrays.items() if name in LABELS}


def _shaped(array: Array, spec: TensorSpec | None) -> Array:
    """A column for an input of shape (rows, 1)."""
    return array[:, None] if spec is not None and spec.shape is not None and len(spec.shape) == 2 else array
