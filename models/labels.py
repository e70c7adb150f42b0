"""Labels as they are written, to class names and class ids."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from keraship.errors import DataError
from keraship.models.rows import Array

_WHOLE = re.compile(r"[+-]?\d+(\.0*)?")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def of_array(labels: Array, where: str) -> tuple[tuple[str, ...], Array]:
    """The classes by name, and the class id of each row, int64 [n].

    labels: [n] or [n, 1] of whole numbers or strings, or one-hot [n, classes].
    Raises DataError for anything else.
    """
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2 and labels.dtype.kind in "buif" and np.all(np.sort(labels, axis=1) == _one_hot_sorted(labels)):
        return tuple(str(number) for number in range(labels.shape[1])), labels.argmax(axis=1).astype(np.int64)
    if labels.ndim != 1:
        raise DataError(
            f"expected labels of one class a row, [n], one-hot [n, classes], or masks as large as images, in {where}; "
            f"got {list(labels.shape)}"
        )
    return of_texts([item.decode() if isinstance(item, bytes) else str(item) for item in labels.tolist()], where)


def of_texts(labels: Sequence[str], where: str) -> tuple[tuple[str, ...], Array]:
    """The classes by name, whole numbers by value and all else by the alphabet, and the id of each row, int64 [n].

    Raises DataError where the labels are numbers with fractions, which are no classes.
    """
    if labels and all(map(_NUMBER.fullmatch, labels)):
        fraction = next((label for label in labels if not _WHOLE.fullmatch(label)), None)
        if fraction is not None:
            raise DataError(
                f"expected labels that are classes in {where}; got numbers with fractions, such as {fraction}"
            )
        labels = [str(int(float(label))) if "." in label else str(int(label)) for label in labels]
        classes = sorted(set(labels), key=int)
    else:
        classes = sorted(set(labels))
    number = {name: index for index, name in enumerate(classes)}
    return tuple(classes), np.array([number[label] for label in labels], np.int64)


def _one_hot_sorted(labels: Array) -> Array:
    """What a row of a single one among zeros is when it is sorted."""
    expected = np.zeros(labels.shape[1])
    expected[-1:] = 1
    return expected
