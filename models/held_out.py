"""The data that a model is judged by, in rows, out of a file or a folder."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from keraship.bundle import FileEntry, file_entry
from keraship.errors import DataError
from keraship.models.data import load_held_out
from keraship.models.rows import ArrayRows, Rows
from keraship.samples import LABEL_KEYS, read_samples


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Rows with labels. classes: their names, where the data knows them."""

    rows: Rows
    classes: tuple[str, ...] = ()


def read_held_out(path: Path) -> HeldOut:
    """The rows in an .npz file such as a run's test.npz, in a .csv file, or in a folder of images or texts.

    Raises DataError for what cannot be read, or has no labels.
    """
    if path.is_dir() or path.suffix.lower() == ".csv":
        task, rows = load_held_out(path)
        return HeldOut(rows, task.classes)
    samples = read_samples(path)
    if samples.labels is None:
        raise DataError(
            f"expected an array called {' or '.join(LABEL_KEYS)} in {path}, to judge answers by; "
            f"it has {', '.join(filter(None, samples.inputs)) or 'one array without a name'}"
        )
    return HeldOut(ArrayRows(samples.inputs, samples.labels))


def held_out_entry(path: Path) -> FileEntry:
    """The size and the digest of a file; of a folder, the size of all its files, and the digest of their list."""
    if not path.is_dir():
        return file_entry(path)
    entries = {str(file.relative_to(path)): file_entry(file) for file in sorted(path.rglob("*")) if file.is_file()}
    listed = "".join(f"{entry.sha256}  {name}\n" for name, entry in entries.items())
    return FileEntry(sum(entry.bytes for entry in entries.values()), hashlib.sha256(listed.encode()).hexdigest())
