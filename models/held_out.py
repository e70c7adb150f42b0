"""The data that a model is judged by, in rows, out of a file or a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from keraship.bundle import FileEntry, file_entry
from keraship.errors import DataError
from keraship.image_files import MODES
from keraship.models.data import load_held_out
from keraship.models.images import ImageRows
from keraship.models.rows import ArrayRows, Rows
from keraship.samples import LABEL_KEYS, read_samples
from keraship.signature import TensorSpec

_IMAGE_AXES = 3  # height, width, channels


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Rows with labels. classes: their names, where the data knows them."""

    rows: Rows
    classes: tuple[str, ...] = ()

    def rows_for(self, inputs: Sequence[TensorSpec]) -> Rows:
        """The rows as a model of these inputs takes them: image files in its size and colours, all else as it is."""
        shape = (inputs[0].shape or ())[1:] if len(inputs) == 1 else ()
        if not isinstance(self.rows, ImageRows) or len(shape) != _IMAGE_AXES or shape[2] not in MODES:
            return self.rows
        height, width = (asked or own for asked, own in zip(shape[:2], self.rows.shape[:2], strict=True))
        return replace(self.rows, shape=(height, width, shape[2]))


def read_held_out(path: Path, *, label_column: str | None = None) -> HeldOut:
    """The rows in an .npz file such as a run's test.npz, in a .csv file, or in a folder of images or texts.

    label_column: of a table; by default the one called `label`, else the last.
    Raises DataError for what cannot be read, or has no labels.
    """
    if path.is_dir() or path.suffix.lower() == ".csv":
        task, rows = load_held_out(path, label_column=label_column)
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
