"""One entry of a table by its name, or an error that lists the names and guesses which was meant."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TypeVar

from keraship.errors import TrainingError

T = TypeVar("T")


def choose(kind: str, name: str, table: Mapping[str, T]) -> T:
    """The entry called `name`; raises TrainingError where there is none.

    kind: what the table holds, with its article, such as "a network".
    """
    if isinstance(name, str) and name in table:  # a file of options may hold anything
        return table[name]
    near = difflib.get_close_matches(str(name), table, n=1)
    meant = f", did you mean {near[0]!r}?" if near else ""
    raise TrainingError(f"expected {kind} out of {', '.join(table)}; got {name!r}{meant}")
