"""The names of a signature: the user's where given, the model's otherwise; always valid, never twice."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from keraship.errors import ExportError
from keraship.signature import DEFAULT_SIGNATURE

SIGNATURES = (DEFAULT_SIGNATURE, "predict")
"""The names under which an exported model's own function can be called."""


def offered(format_: str, names: Iterable[str]) -> tuple[str, ...]:
    """Those of a version's signatures that an artifact of this format has: only SavedModels have more than its own."""
    return tuple(name for name in names if format_ == "saved_model" or name in SIGNATURES)


# What TensorFlow takes as a node's name, less the '/' and '>' that mean something to it.
_VALID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*")


def choose(side: str, derived: Sequence[str], given: Sequence[str] | None, taken: Iterable[str] = ()) -> list[str]:
    """The names of a signature's inputs or outputs, in the model's order.

    side: "inputs" or "outputs", for the message. derived: what the model calls them; made valid and unique.
    given: what the user calls them; must be so. taken: names that are used up.
    Raises ExportError.
    """
    if given is None:
        return _unique([_cleaned(name) for name in derived], taken)
    if len(given) != len(derived):
        raise ExportError(
            f"expected {len(derived)} names for the model's {side} ({', '.join(derived)}); got {', '.join(given)}"
        )
    bad = [name for name in given if not _VALID.fullmatch(name)]
    if bad:
        raise ExportError(f"expected names of letters, digits, '_', '.' and '-' for {side}; got {bad[0]!r}")
    used = [*taken, *given]
    twice = sorted({name for name in given if used.count(name) > 1})
    if twice:
        raise ExportError(f"expected a different name for each input and output; {twice[0]!r} is given twice")
    return list(given)


def _cleaned(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.\-]", "_", name).lstrip("_.-") or "tensor"


def _unique(names: list[str], taken: Iterable[str]) -> list[str]:
    seen = set(taken)
    chosen = []
    for name in names:
        free, count = name, 0
        while free in seen or (count and free in names):
            count += 1
            free = f"{name}_{count}"
        seen.add(free)
        chosen.append(free)
    return chosen
