"""The fast way for JSON that is one regular tensor of numbers, as nearly all predict requests are.

    {"instances": [[1.5, 2], [3, 4]]}        {"signature_name": "scores", "inputs": [1, 2]}

simdjson reads the numbers, and what is left of the text without them is compared with what the brackets of a regular
tensor look like. Nothing here is an error: what is not of this form, good or bad, is None, and the careful reader's.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import simdjson

from keraship.serving.backend import Array

_HEAD = re.compile(rb'[ \t\r\n]*\{[ \t\r\n]*(?:"signature_name"[ \t\r\n]*:[ \t\r\n]*"(\w*)"[ \t\r\n]*,[ \t\r\n]*)?'
                   rb'"(instances|inputs)"[ \t\r\n]*:[ \t\r\n]*(?=\[)', re.ASCII)  # fmt: skip
_TAIL = re.compile(rb'[ \t\r\n]*(?:,[ \t\r\n]*"signature_name"[ \t\r\n]*:[ \t\r\n]*"(\w*)"[ \t\r\n]*)?\}[ \t\r\n]*',
                   re.ASCII)  # fmt: skip
_NUMBERS_AND_SPACE = b"0123456789.eE+- \t\r\n"
_MAX_RANK = 32
_NOT_SUCH = (TypeError, ValueError, RuntimeError)  # the last: whole numbers beyond 64 bits, too deep a nesting


@dataclass(frozen=True)
class Numbers:
    """A request's only tensor. key: "instances" or "inputs". doubles: its elements, in a shape of no size 0.

    text: its JSON, for elements that have to be whole numbers.
    """

    key: str
    signature_name: str
    doubles: Array
    text: bytes

    def as_integers(self) -> Array | None:
        """The elements as int64; None where one is none, written 1.0 for instance."""
        try:
            return _elements(self.text, "i", np.int64).reshape(self.doubles.shape)
        except _NOT_SUCH:
            return None


def read_numbers(body: bytes) -> Numbers | None:
    """The tensor in `body`; None for what only the careful reader can judge."""
    head = _HEAD.match(body)
    end = body.rfind(b"]") + 1
    if head is None or end <= head.end():
        return None
    tail = _TAIL.fullmatch(body, end)
    if tail is None or (head[1] is not None and tail[1] is not None):
        return None
    text = body[head.end() : end]
    shape = _regular_shape(text.translate(None, _NUMBERS_AND_SPACE))
    doubles = None if shape is None else _doubles(text, shape)
    if doubles is None:
        return None
    return Numbers(head[2].decode(), (head[1] or tail[1] or b"").decode(), doubles, text)


def _doubles(text: bytes, shape: tuple[int, ...]) -> Array | None:
    """The elements, where the text is JSON and has a number wherever the brackets have place for one."""
    try:
        return _elements(text, "d", np.float64).reshape(shape)
    except _NOT_SUCH:
        return None


def _regular_shape(brackets: bytes) -> tuple[int, ...] | None:
    """The shape of the tensor whose brackets and commas these are; None where it is not a regular one."""
    rank = len(brackets) - len(brackets.lstrip(b"["))
    if not 0 < rank <= _MAX_RANK:
        return None
    sizes: list[int] = []
    block = b""
    for level in range(1, rank + 1):
        length = brackets.find(b"]" * level) + 2 * level - rank  # of the first list at this level
        size, rest = divmod(length - 1, len(block) + 1)  # "[" and "]", and a comma less than blocks
        if rest or size < 1:
            return None
        block = b"[" + b",".join([block] * size) + b"]"
        if len(block) > len(brackets):
            return None
        sizes.insert(0, size)
    return tuple(sizes) if block == brackets else None


class _Parser(threading.local):
    """A parser holds the memory of what it read last, and may be used by one thread at a time."""

    def __init__(self) -> None:
        self.parser = simdjson.Parser()


_PARSER = _Parser()
_KEPT = 2**24  # a parser that read more than these bytes is let go, with its memory


def _elements(text: bytes, kind: str, dtype: type) -> Array:
    array: Any = _PARSER.parser.parse(text)
    try:
        return np.frombuffer(array.as_buffer(of_type=kind), dtype)
    finally:
        del array
        if len(text) > _KEPT:
            _PARSER.parser = simdjson.Parser()
