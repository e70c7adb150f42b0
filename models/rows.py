"""Labelled rows, wherever they are kept: how many, and any of them by their numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from keraship.models.task import Task

Array = np.ndarray[Any, Any]
Inputs = dict[str, Array]
R = TypeVar("R", bound="StoredRows")

PARTS = ("train", "validation", "test")


class Rows(Protocol):
    """Any source of labelled rows."""

    def __len__(self) -> int: ...

    def fetch(self, indices: Array) -> tuple[Inputs, Array]:
        """Inputs by name and targets, int64, of the rows with these numbers, in their order; text is `str` objects."""
        ...


class StoredRows(Rows, Protocol):
    """Rows that can be split."""

    @property
    def labels(self) -> Array | None:
        """The class id of every row, int64 [n]; None where every pixel has one."""
        ...

    def take(self: R, indices: Array) -> R:
        """The rows with these numbers alone."""
        ...


@dataclass(frozen=True, eq=False)
class ArrayRows:
    """Rows in memory: arrays by input name, and class ids [n] or masks of them [n, height, width], int64."""

    inputs: Inputs
    targets: Array

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def labels(self) -> Array | None:
        return self.targets if self.targets.ndim == 1 else None

    def fetch(self, indices: Array) -> tuple[Inputs, Array]:
        return {name: array[indices] for name, array in self.inputs.items()}, self.targets[indices]

    def take(self, indices: Array) -> ArrayRows:
        return ArrayRows(*self.fetch(indices))


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with the data. path: the file, with the line or row where it has those."""

    path: str
    what: str

    def __post_init__(self) -> None:
        # What a file system takes for a name need not be UTF-8; what is printed and written as JSON does.
        object.__setattr__(self, "path", self.path.encode("utf-8", "backslashreplace").decode())

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


@dataclass(frozen=True, eq=False)
class Found:
    """What a reader found.

    parts: rows by the names in PARTS; `train` alone where the data is not split yet.
    faults: what could not be read, which none of the parts has.
    """

    task: Task
    parts: dict[str, StoredRows]
    faults: tuple[Fault, ...] = ()


def fetch_all(rows: Rows) -> tuple[Inputs, Array]:
    """Inputs by name, and targets, of all rows in their order."""
    return rows.fetch(np.arange(len(rows)))


def order(count: int, *, seed: int | None, epoch: int) -> Array:
    """The numbers of `count` rows as an epoch takes them, int64: another order for each epoch, or with no seed as is.

    A function of its arguments alone, so a training that goes on at an epoch sees what it would have seen.
    """
    if seed is None:
        return np.arange(count)
    return np.random.default_rng([seed, epoch]).permutation(count)
