"""HTML and SVG made of functions, so that what a stranger wrote can only ever be text.

    el("p", "3 < 4, ", el("b", name), class_="note")

Every child that is not itself made by `el` is escaped. What comes out is well-formed XML too.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from html import escape

_VOID = {"meta", "link", "br", "hr", "wbr", "col"}
_UNSEEN = {"Cc", "Cs", "Cn", "Co"}  # controls, halves of surrogate pairs, what is no character
_TURNING = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # text the other way round


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = object
"""Markup as it is; None, which is left out; an iterable of children; anything else as its text."""


def el(name: str, /, *children: Child, **attributes: object) -> Markup:
    """An element. attributes: `class_` is class, `data_label` data-label; None and False are left out."""
    given = "".join(_attribute(key, value) for key, value in attributes.items() if value is not None)
    if name in _VOID:
        return Markup(f"<{name}{given}/>")
    return Markup(f"<{name}{given}>{join(children)}</{name}>")


def join(children: Iterable[Child], between: str = "") -> Markup:
    """Children one after the other."""
    return Markup(text(between).join(_flat(children)))


def text(value: object) -> Markup:
    """Any value as text: escaped, and without characters that can't be seen or turn what is beside them."""
    return Markup(escape(readable(str(value))))


def readable(value: str) -> str:
    """What cannot be seen, or would turn what stands beside it, as U+FFFD."""
    return "".join("\ufffd" if _is_unseen(character) else character for character in value)


def _is_unseen(character: str) -> bool:
    return character in _TURNING or (unicodedata.category(character) in _UNSEEN and character not in "\n\t")


def _flat(children: Iterable[Child]) -> Iterable[str]:
    for child in children:
        if isinstance(child, Markup):
            yield child
        elif child is not None and not isinstance(child, str) and isinstance(child, Iterable):
            yield from _flat(child)
        elif child is not None:
            yield text(child)


def _attribute(key: str, value: object) -> str:
    if value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f' {name}="{"" if value is True else text(value)}"'
