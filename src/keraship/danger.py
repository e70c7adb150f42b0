"""What a check found in a model file: how bad it is, where, what, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

DANGER = "danger"
NOTICE = "notice"

CODE = "code"
"""The kind of finding that --trust is about: Python code that was stored on purpose."""


@dataclass(frozen=True)
class Finding:
    """One thing that a reader of the file should know.

    severity: "danger" or "notice". kind: a word for programs, such as "code" or "link". where: the layer, member, node
    or dataset; empty for the file as a whole. what: a clause that goes on from the file's name. remedy: what to do.
    """

    severity: str
    kind: str
    where: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{f'{self.where}: ' if self.where else ''}{self.what}; {self.remedy}"


def danger(kind: str, where: str, what: str, remedy: str) -> Finding:
    """Something that runs code, reads or writes beyond the file, or exhausts the machine."""
    return Finding(DANGER, kind, where, what, remedy)


def notice(kind: str, where: str, what: str, remedy: str) -> Finding:
    """Something to know that harms nobody by itself."""
    return Finding(NOTICE, kind, where, what, remedy)


def first_danger(findings: Iterable[Finding], *, waived: Iterable[str] = ()) -> Finding | None:
    """The first danger whose kind is not waived."""
    kinds = set(waived)
    return next((found for found in findings if found.severity == DANGER and found.kind not in kinds), None)
