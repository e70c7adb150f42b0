"""Data files and folders to arrays by input name: what export calibrates and evaluates with, and what predict sends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from keraship import csv_samples, folder_samples
from keraship.errors import DataError
from keraship.signature import TensorSpec

Array = np.ndarray[Any, Any]

LABEL_KEYS = ("labels", "label", "y")


@dataclass(frozen=True)
class Samples:
    """Rows of data: arrays by input name, with the same first dimension, and their labels where the file has them."""

    inputs: dict[str, Array]
    labels: Array | None = None

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def head(self, count: int) -> Samples:
        """The first `count` rows."""
        labels = None if self.labels is None else self.labels[:count]
        return Samples({name: array[:count] for name, array in self.inputs.items()}, labels)


def read_samples(path: Path, inputs: Sequence[TensorSpec] = ()) -> Samples:
    """The samples in a file or folder.

    .npz: one array per input, and `labels` where there are any. .npy: one nameless array, for a model's only input.
    .csv: with a header; a column per input, or all columns as one input's features; the labels are in a column of that
    name. A folder: images, or class folders of images or of texts (.txt), whose labels are the places of their classes
    in alphabetical order. inputs: the model's; a folder's images are brought to the size of the only one.
    Raises DataError for what is missing, broken, empty, or whose arrays differ in their number of rows.
    """
    check_readable(path)
    arrays = folder_samples.read(path, inputs) if path.is_dir() else _read_file(path, inputs)
    labels = next((arrays.pop(key) for key in LABEL_KEYS if key in arrays), None)
    counts = {name: len(array) if array.ndim else None for name, array in arrays.items()}
    if labels is not None:
        counts["labels"] = len(labels) if labels.ndim else None
    if not arrays or len(set(counts.values())) != 1 or None in counts.values() or 0 in counts.values():
        raise DataError(f"expected arrays with one number of rows, 1 or more, in {path}; got {counts or 'no array'}")
    return Samples(arrays, labels)


def check_readable(path: Path) -> None:
    """Raise DataError where there is nothing at `path`, or no kind of data that is known."""
    if not path.exists():
        raise DataError(f"expected data at {path}; there is no such file")
    if not path.is_dir() and path.suffix not in _READERS:
        raise DataError(f"expected a folder, or data in a file that ends in {' or '.join(_READERS)}; got {path}")


def named(samples: Samples, inputs: tuple[str, ...]) -> Samples:
    """The samples under the names of a model's inputs: a single array goes to a single input whatever it is called.

    Raises DataError where an input is missing.
    """
    if len(inputs) == 1 and len(samples.inputs) == 1:
        return Samples({inputs[0]: next(iter(samples.inputs.values()))}, samples.labels)
    missing = [name for name in inputs if name not in samples.inputs]
    if missing:
        raise DataError(f"expected arrays named {', '.join(inputs)} in the data; got {', '.join(samples.inputs)}")
    return Samples({name: samples.inputs[name] for name in inputs}, samples.labels)


def _read_file(path: Path, inputs: Sequence[TensorSpec]) -> dict[str, Array]:
    try:
        return _READERS[path.suffix](path, inputs)
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise DataError(f"expected plain arrays, as numpy.savez writes them, in {path}: {error}") from error


def _read_npz(path: Path, _inputs: Sequence[TensorSpec]) -> dict[str, Array]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:  # np.load alone leaks a broken file
        return {name: archive[name] for name in archive.files}


def _read_npy(path: Path, _inputs: Sequence[TensorSpec]) -> dict[str, Array]:
    return {"": np.load(path, allow_pickle=False)}


_READERS = {".npz": _read_npz, ".npy": _read_npy, ".csv": csv_samples.read}
