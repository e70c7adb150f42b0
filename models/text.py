"""Labelled texts as rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keraship.models.rows import Array, ArrayRows, Fault
from keraship.models.task import TEXT

SUFFIX = ".txt"


def read(path: Path) -> str | Fault:
    """A file's text, or what is wrong with it."""
    try:
        content = path.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError as error:
        return Fault(str(path), f"is no text in UTF-8: {error.reason} at byte {error.start}")
    except OSError as error:
        return Fault(str(path), f"cannot be read: {error.strerror}")
    return content or Fault(str(path), "is empty")


def rows(texts: Sequence[str], labels: Array) -> ArrayRows:
    """Texts with their class ids, int64 [n]."""
    return ArrayRows({TEXT: strings(texts)}, labels)


def strings(texts: Sequence[str]) -> Array:
    """Texts as numpy's objects [n]; its own text types take as much for each as for the longest."""
    array = np.empty(len(texts), object)
    array[:] = texts
    return array
