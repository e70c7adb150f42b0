"""What a command shows of a model's answers: a table for people, JSON for programs, a file to keep."""

from __future__ import annotations

import base64
import csv
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from keraship.cli import print_table
from keraship.client.results import ModelSpec
from keraship.errors import DataError

Array = np.ndarray[Any, Any]

_ROWS_SHOWN = 20
_VALUES_SHOWN = 4
_BY_A_LIBRARY = 2  # numpy's mark for dtypes that are not its own


@dataclass(frozen=True)
class Answer:
    """What came for `rows` rows of data, of which the first was number `start`: outputs by name, and the labels."""

    spec: ModelSpec
    outputs: dict[str, Array]
    start: int
    rows: int
    labels: Array | None


def document(answer: Answer) -> dict[str, Any]:
    """What --json prints and FILE.json holds."""
    found = {
        "model": answer.spec.name,
        "version": answer.spec.version,
        "signature": answer.spec.signature_name,
        "rows": [answer.start, answer.start + answer.rows],
        "outputs": {name: _plain(array) for name, array in answer.outputs.items()},
    }
    if answer.labels is not None:
        found["labels"] = _plain(answer.labels)
    return found


def show(answer: Answer) -> None:
    """Print a table of the first rows, outputs that have no rows below it, and how many labels are met."""
    by_row = {name: array for name, array in answer.outputs.items() if array.shape[:1] == (answer.rows,)}
    if by_row:
        _show_rows(answer, by_row)
    for name, array in answer.outputs.items():
        if name not in by_row:
            click.echo(f"{name} ({array.dtype} {list(array.shape)}): {_short(array)}")
    _show_agreement(answer)


def _plain(array: Array) -> Any:
    """Lists of what JSON has: bytes as text (or {"b64": ...} where they are none), a complex number as two.

    NaN and the infinities have no JSON of their own and become the texts "NaN", "Infinity" and "-Infinity".
    """
    return _plain_item(_native(np.asarray(array)).tolist())


def _plain_item(item: Any) -> Any:
    if isinstance(item, list):
        return [_plain_item(part) for part in item]
    if isinstance(item, complex):
        return [_plain_item(item.real), _plain_item(item.imag)]
    if isinstance(item, float) and not math.isfinite(item):
        return "NaN" if math.isnan(item) else "Infinity" if item > 0 else "-Infinity"
    if isinstance(item, bytes):
        return _text_or_b64(item)
    return item


def _text_or_b64(item: bytes) -> Any:
    try:
        return item.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(item).decode()}


def _native(array: Array) -> Array:
    """ml_dtypes' types as numpy's own, which hold all their values."""
    if array.dtype.isbuiltin != _BY_A_LIBRARY:
        return array
    return array.astype(np.int8 if "int" in array.dtype.name else np.float32)


def _write_json(path: Path, answer: Answer) -> None:
    with _writing(path):
        path.write_text(json.dumps(document(answer), ensure_ascii=False) + "\n", encoding="utf-8")


def _write_npz(path: Path, answer: Answer) -> None:
    arrays = {name: _storable(name, array) for name, array in answer.outputs.items()}
    if answer.labels is not None and "labels" not in arrays:
        arrays["labels"] = answer.labels
    with _writing(path), path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's stubs take the names for its own parameter's


def _write_npy(path: Path, answer: Answer) -> None:
    if len(answer.outputs) != 1:
        names = ", ".join(answer.outputs)
        raise DataError(f"expected one output for an .npy file; the model gave {names}: write an .npz file")
    ((name, array),) = answer.outputs.items()
    with _writing(path), path.open("wb") as file:
        np.save(file, _storable(name, array))


def _write_csv(path: Path, answer: Answer) -> None:
    """A line for each row: its number, the outputs' values, each in a column, and the label."""
    by_row = _by_row(answer)
    columns = ["row", *(column for name, array in by_row.items() for column in _names(name, array.shape[1:]))]
    labels = answer.labels if answer.labels is not None and "label" not in columns else None
    with _writing(path), path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns if labels is None else [*columns, "label"])
        for row in range(answer.rows):
            values = [value for array in by_row.values() for value in _flat_values(array[row])]
            label = [] if labels is None else [" ".join(map(str, _flat_values(labels[row])))]
            writer.writerow([answer.start + row, *values, *label])


def _write_jsonl(path: Path, answer: Answer) -> None:
    """An object for each row: its number, the outputs by name, and the label."""
    by_row = _by_row(answer)
    with _writing(path), path.open("w", encoding="utf-8") as file:
        for row in range(answer.rows):
            line = {"row": answer.start + row} | {name: _plain(array[row]) for name, array in by_row.items()}
            if answer.labels is not None:
                line.setdefault("label", _plain(answer.labels[row]))
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _by_row(answer: Answer) -> dict[str, Array]:
    for name, array in answer.outputs.items():
        if array.shape[:1] != (answer.rows,):
            raise DataError(
                f"expected output '{name}' to have a row for each of {answer.rows} rows of data, to write them line by "
                f"line; got shape {list(array.shape)}: write a .json file"
            )
    return answer.outputs


def _names(name: str, shape: tuple[int, ...]) -> list[str]:
    """A column's name for each value of a row: scores, or scores_0, scores_1 ..."""
    return ["_".join([name, *map(str, index)]) for index in np.ndindex(*shape)]


def _flat_values(row: Any) -> list[Any]:
    return [_csv_value(item) for item in _native(np.asarray(row)).reshape(-1).tolist()]


def _csv_value(item: Any) -> Any:
    if isinstance(item, bytes):
        text = _text_or_b64(item)
        return text if isinstance(text, str) else f"base64:{text['b64']}"
    return item


def _storable(name: str, array: Array) -> Array:
    if array.dtype != object:
        return _native(array)
    if any(item.endswith(b"\0") for item in array.flat):
        raise DataError(f"expected text in output '{name}'; it has bytes that an .npz cannot keep: write a .json file")
    return array.astype(np.bytes_)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"expected to write the answers to {path}: {error.strerror or error}") from error


WRITERS: dict[str, Callable[[Path, Answer], None]] = {
    ".npz": _write_npz, ".json": _write_json, ".npy": _write_npy, ".csv": _write_csv,
    ".jsonl": _write_jsonl,
}  # fmt: skip


def _show_rows(answer: Answer, by_row: dict[str, Array]) -> None:
    columns: dict[str, Callable[[int], str]] = {"row": lambda row: str(answer.start + row)}
    for name, array in by_row.items():
        columns |= _columns(name if len(by_row) > 1 else "", name, array)
    if answer.labels is not None:
        labels = answer.labels
        columns["label"] = lambda row: _short(labels[row])
    shown = min(answer.rows, _ROWS_SHOWN)
    spec = answer.spec
    title = f"{spec.name}, version {spec.version}" if spec.version is not None else spec.name
    print_table(list(columns), ([cell(row) for cell in columns.values()] for row in range(shown)), title=title)
    if shown < answer.rows:
        click.echo(f"... and {answer.rows - shown} more rows: --output FILE or --json gives them all")


def _columns(prefix: str, name: str, array: Array) -> dict[str, Callable[[int], str]]:
    """What the table shows of an output: the best class and its score, or the values."""
    if not _has_classes(array):
        return {name: lambda row: _short(array[row])}
    best = _native(array).argmax(axis=1)
    return {
        f"{prefix} class".lstrip(): lambda row: str(best[row]),
        f"{prefix} score".lstrip(): lambda row: _short(array[row, best[row]]),
    }


def _has_classes(array: Array) -> bool:
    return array.ndim == 2 and array.shape[1] > 1 and _native(array).dtype.kind == "f"


def _short(values: Any) -> str:
    flat = np.asarray(values).reshape(-1)
    items = [_item_text(item) for item in _native(flat[:_VALUES_SHOWN])]
    if np.ndim(values) == 0:
        return items[0]
    more = f", ... {flat.size} in all" if flat.size > _VALUES_SHOWN else ""
    return f"{', '.join(items)}{more}"


def _item_text(item: Any) -> str:
    if isinstance(item, bytes):
        return item.decode(errors="backslashreplace")
    if isinstance(item, float | np.floating):
        return f"{float(item):.4g}"
    return str(item)


def _show_agreement(answer: Answer) -> None:
    """How many of the labels the best class meets, where the labels are classes and one output has classes."""
    classes = [array for array in answer.outputs.values() if _has_classes(array) and len(array) == answer.rows]
    if answer.labels is None or len(classes) != 1:
        return
    labels = answer.labels.argmax(axis=1) if answer.labels.shape == classes[0].shape else answer.labels.squeeze()
    if labels.shape != (answer.rows,) or labels.dtype.kind not in "biu":
        return
    agree = int((_native(classes[0]).argmax(axis=1) == labels).sum())
    click.echo(f"{agree} of {answer.rows} agree with their label ({agree / answer.rows:.1%})")
