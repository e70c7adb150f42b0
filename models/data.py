"""A data set by its name or path, split into what the model learns from, is chosen by and is judged by."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keraship.errors import DataError
from keraship.extras import require
from keraship.models import arrays, folders, tables, task
from keraship.models.rows import ArrayRows, Fault, Found, Rows, StoredRows, fetch_all, order
from keraship.models.task import Task

__all__ = [
    "BUNDLED", "ON_BAD", "ArrayRows", "Dataset", "Fault", "Rows", "describe_faults", "exists", "fetch_all", "load",
    "load_held_out", "order", "split", "unknown_data",
]  # fmt: skip

_TEST_SHARE = 0.2
_VALIDATION_SHARE = 0.2  # with half of it, the best of 30 epochs on digits was too often a lucky one
_LISTED = 20

ON_BAD = ("refuse", "skip")
"""What may be done with files and rows that cannot be used."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """A task and three splits with no row in common.

    faults: what could not be used, and was skipped as asked.
    """

    task: Task
    train: Rows
    validation: Rows
    test: Rows
    faults: tuple[Fault, ...] = ()


def load(
    data: Any,
    *,
    seed: int,
    on_bad: str = "refuse",
    image_size: tuple[int, int] | None = None,
    label_column: str | None = None,
) -> Dataset:
    """The data set called `data`, or found at that path; the same seed gives the same splits.

    data: a name out of BUNDLED, else a path (write `./digits` for a folder that has the name of a bundled set), or a
    pandas DataFrame. A path leads to
    - a folder of class folders that hold images (JPEG, PNG) or texts (.txt),
    - a folder with `images` and `masks`: pairs of one name, the masks PNG of class ids; `classes.txt` may name them,
    - either of these in `train`, `validation` and `test` folders, which are taken as they are,
    - an .npz file of arrays with `labels`; a .csv file with a header and a label column; a folder with one of these.
    What is not split is split by the seed, class by class: 60 % to train on, 20 % for validation, 20 % for the test.
    on_bad: "refuse" raises where any file or row cannot be used; "skip" goes on without them, and lists them.
    image_size: the (height, width) of image files; by default their own, or their median where they differ.
    label_column: of a table; by default the one called `label`, else the last.
    Raises DataError for what is not there, cannot be told, or cannot be used; MissingExtra for a missing package.
    """
    if on_bad not in ON_BAD:
        raise DataError(f"expected on_bad to be one of {', '.join(ON_BAD)}; got {on_bad!r}")
    require("train", "sklearn", "PIL")
    found = _find(data, image_size=image_size, label_column=label_column)
    name = data if isinstance(data, str | Path) else "the data frame"
    _check(found, name, on_bad)
    return _in_three(found, seed)


def load_held_out(data: Any, *, label_column: str | None = None) -> tuple[Task, Rows]:
    """The task and the rows to judge a model by, of data as `load` takes it: its `test` part, or all that is not split.

    Raises DataError for data that cannot be read, in whole, and for one that is split without a test part.
    """
    require("train", "sklearn", "PIL")
    found = _find(data, image_size=None, label_column=label_column)
    _check(found, data, "refuse")
    if "test" not in found.parts and len(found.parts) > 1:
        raise DataError(f"expected a test part in {data}, which is split; got {', '.join(found.parts)}: name a part")
    return found.task, found.parts.get("test", found.parts["train"])


def exists(data: str) -> bool:
    """Whether a name or path leads anywhere."""
    return data in BUNDLED or Path(data).exists()


def unknown_data(data: str) -> str:
    """What to say of a name or path that leads nowhere."""
    near = difflib.get_close_matches(data, BUNDLED, n=1)
    meant = f", did you mean {near[0]!r}?" if near else ""
    return f"expected a data set out of {', '.join(BUNDLED)}, or the path of one; got {data!r}{meant}"


def split(rows: StoredRows, *, task: Task, seed: int) -> Dataset:
    """A fifth of the rows for the test, a fifth for validation, the rest to train on: drawn class by class.

    Raises DataError where a class has too few rows to be in all three.
    """
    return _in_three(Found(task, {"train": rows}), seed)


def describe_faults(faults: tuple[Fault, ...]) -> str:
    """The faults in one line: the first 20, and how many more there are."""
    more = f"; and {len(faults) - _LISTED} more" if len(faults) > _LISTED else ""
    return "; ".join(map(str, faults[:_LISTED])) + more


def _find(data: Any, *, image_size: tuple[int, int] | None, label_column: str | None) -> Found:
    if not isinstance(data, str | Path):
        return tables.from_frame(data, label_column=label_column)
    if data in BUNDLED:
        return BUNDLED[str(data)]()
    path = _data_file(Path(data))
    if path.is_dir():
        return folders.read(path, image_size=image_size)
    if path.suffix.lower() == ".csv":
        return tables.read(path, label_column=label_column)
    if path.suffix.lower() == ".npz":
        return arrays.read(path)
    if not path.exists():
        raise DataError(unknown_data(str(data)))
    raise DataError(f"expected a folder, an .npz or a .csv file of data; got {path}")


def _data_file(path: Path) -> Path:
    """The only data file of a folder that holds no folder, else the path itself."""
    if not path.is_dir():
        return path
    seen = folders.visible(path)
    files = [entry for entry in seen if entry.suffix.lower() in (".csv", ".npz")]
    return files[0] if len(files) == 1 and not any(entry.is_dir() for entry in seen) else path


def _check(found: Found, name: Any, on_bad: str) -> None:
    """Raises DataError for faults that are refused, and for data that has nothing to learn even without them."""
    faults = found.faults
    if on_bad == "refuse":
        faults += tuple(_nothing_to_learn(found, name))
        if faults:
            hint = "mend them, or skip what cannot be used (--on-bad skip)" if found.faults else "add more"
            count = f"{len(faults)} fault{'s' if len(faults) > 1 else ''}"
            raise DataError(f"expected data without faults in {name}; got {count}: {describe_faults(faults)}: {hint}")
    for fault in _nothing_to_learn(found, name):
        skipped = f" without {describe_faults(faults)}" if faults else ""
        raise DataError(f"expected data to learn from; {fault}{skipped}")


def _nothing_to_learn(found: Found, name: Any) -> list[Fault]:
    empty = [part for part, rows in found.parts.items() if not len(rows)]
    if empty:
        return [Fault(str(name), f"nothing is left to use ({', '.join(empty)})")]
    if len(found.task.classes) < 2:
        return [Fault(str(name), f"one class only, {found.task.classes[0]!r}; it takes two to tell apart")]
    return []


def _in_three(found: Found, seed: int) -> Dataset:
    """The parts as they are; those that are not there are drawn from the training part."""
    parts = dict(found.parts)
    if "test" not in parts:
        parts["train"], parts["test"] = _draw(parts["train"], _TEST_SHARE, seed, found.task)
    if "validation" not in parts:
        rest = 1.0 if "test" in found.parts else 1 - _TEST_SHARE
        parts["train"], parts["validation"] = _draw(parts["train"], _VALIDATION_SHARE / rest, seed, found.task)
    return Dataset(found.task, parts["train"], parts["validation"], parts["test"], found.faults)


def _draw(rows: StoredRows, share: float, seed: int, task: Task) -> tuple[StoredRows, StoredRows]:
    """What is left, and a share of the rows drawn at random, class by class where a row has a class."""
    from sklearn.model_selection import train_test_split

    try:
        left, drawn = train_test_split(np.arange(len(rows)), test_size=share, stratify=rows.labels, random_state=seed)
    except ValueError as error:
        raise DataError(
            f"expected enough rows of every class to split them in three; {_counts(rows, task)}: "
            "add more, leave the class out, or split them yourself into train, validation and test folders"
        ) from error
    return rows.take(left), rows.take(drawn)


def _counts(rows: StoredRows, task: Task) -> str:
    if rows.labels is None:
        return f"got {len(rows)} rows"
    counts = np.bincount(rows.labels, minlength=len(task.classes))
    fewest = [int(index) for index in counts.argsort(kind="stable")[:5]]
    each = ", ".join(f"{task.classes[index]!r} {counts[index]}" for index in fewest)
    return f"the fewest are {each} of {len(rows)} left to draw from"


def _digits() -> Found:
    """1797 handwritten digits, 8 x 8 pixels of 0 to 16, out of the UCI set that scikit-learn brings."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = bunch.images.astype(np.float32)[..., np.newaxis]  # [1797, 8, 8, 1]
    classes = tuple(str(name) for name in bunch.target_names)
    rows = ArrayRows({task.IMAGES: images}, bunch.target.astype(np.int64))
    return Found(task.of_images((8, 8, 1), classes, maximum=16.0), {"train": rows})


def _wine() -> Found:
    """178 wines of three growers, 13 measurements each."""
    from sklearn.datasets import load_wine

    return tables.from_bunch(load_wine())


def _breast_cancer() -> Found:
    """569 tumours, malignant or benign, 30 measurements each."""
    from sklearn.datasets import load_breast_cancer

    return tables.from_bunch(load_breast_cancer())


BUNDLED: dict[str, Callable[[], Found]] = {
    "digits": _digits,
    "wine": _wine,
    "breast_cancer": _breast_cancer,
}
"""The data sets that come with scikit-learn, by name."""
