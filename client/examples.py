"""Examples, as Classify and Regress take them: features by name, each a few numbers or strings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from keraship.client.inputs import is_frame
from keraship.errors import InvalidInput

Example = Mapping[str, Any]
Features = dict[str, tuple[str, list[Any]]]
"""A feature's kind ("bytes_list", "float_list", "int64_list", or "" for an empty one) and its values, by its name."""

_KINDS = {"b": "int64_list", "i": "int64_list", "u": "int64_list", "f": "float_list", "V": "float_list",
          "O": "bytes_list", "S": "bytes_list", "U": "bytes_list", "T": "bytes_list"}  # fmt: skip


def read_examples(given: Any) -> list[Features]:
    """The features of each example, of what a caller gave: mappings, columns by name, or a pandas DataFrame.

    Whole numbers and bools become int64, others float, text and bytes bytes. Raises InvalidInput for what is none.
    """
    return [read_example(each, f"example {index}") for index, each in enumerate(_rows(given))]


def read_example(example: Any, what: str = "the example") -> Features:
    """One example's features; raises InvalidInput where one has values of no kind."""
    if not isinstance(example, Mapping):
        raise InvalidInput(f"expected {what} to be features by name; got {type(example).__name__}")
    return {str(name): _feature(value, f"feature '{name}' of {what}") for name, value in example.items()}


def _rows(given: Any) -> Iterable[Any]:
    if is_frame(given):
        return [dict(zip(given.columns, row, strict=True)) for row in given.itertuples(index=False, name=None)]
    if isinstance(given, Mapping):
        columns = {name: np.asarray(value) for name, value in given.items()}
        counts = {name: len(column) if column.ndim else None for name, column in columns.items()}
        if len(set(counts.values())) != 1 or None in counts.values():
            raise InvalidInput(f"expected columns with one number of rows; got {counts}")
        (count,) = set(counts.values())
        return [{name: given[name][row] for name in columns} for row in range(count or 0)]
    if isinstance(given, str | bytes) or not isinstance(given, Sequence):
        raise InvalidInput(f"expected a list of examples, features by name; got {type(given).__name__}")
    return given


def _feature(value: Any, what: str) -> tuple[str, list[Any]]:
    values = [value] if isinstance(value, str | bytes) or np.ndim(value) == 0 else value
    flat = _flat(values, what)
    if flat.size == 0:
        return "", []
    if flat.dtype.kind not in _KINDS:
        raise InvalidInput(f"expected numbers or text in {what}; got {flat.dtype}")
    kind = _KINDS[flat.dtype.kind]
    items = flat.astype(np.float32).tolist() if flat.dtype.kind == "V" else flat.tolist()
    if kind == "bytes_list":
        return kind, [_as_bytes(item, what) for item in items]
    if kind == "int64_list":
        items = [int(item) for item in items]
        if any(not -(2**63) <= item < 2**63 for item in items):
            raise InvalidInput(f"expected whole numbers of 64 bits in {what}; got {max(items, key=abs)}")
    return kind, items


def _flat(values: Any, what: str) -> np.ndarray[Any, Any]:
    try:
        array = np.asarray(values)
        if array.dtype.kind in "SU" and not isinstance(values, np.ndarray):
            array = np.asarray(values, object)  # numpy's own text types lose NULs at the end
    except ValueError as error:
        raise InvalidInput(f"expected a flat list of values in {what}: {error}") from error
    if array.ndim != 1:
        raise InvalidInput(f"expected one value or a flat list of them in {what}; got shape {list(array.shape)}")
    return array


def _as_bytes(item: Any, what: str) -> bytes:
    if isinstance(item, str):
        return item.encode()
    if isinstance(item, bytes):
        return item
    raise InvalidInput(f"expected values of one kind in {what}; got {type(item).__name__} among text")
