"""JSON as rapidjson reads it: what it accepts, where it stops, the words of its errors.

Valid JSON goes through Python's own C reader. Whatever that refuses, or would read otherwise than rapidjson (1.1.0,
reader.h), goes through the reader below, which is slower by far, keeps no recursion and knows the exact error.
Objects become dicts, of equal keys the first wins; strings that are not UTF-8 keep their bytes as lone surrogates.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from keraship.errors import InvalidArgument
from keraship.serving.json_text import to_text

# Python's reader would pass these otherwise than rapidjson does: halves of surrogate pairs, numbers beyond a double.
_TAKES_CARE = re.compile(rb"\\u[dD][89a-fA-F]|[eE]\+?\d{3}|\d{300}")


class ParseError(InvalidArgument):
    """Text that is no JSON: `JSON Parse error: <what> at offset: <byte>`."""

    def __init__(self, what: str, offset: int) -> None:
        super().__init__(f"JSON Parse error: {what} at offset: {offset}")


def parse(body: bytes) -> Any:
    """The value at the start of `body`; what follows it is ignored. Raises InvalidArgument for text that is no JSON."""
    if not body:
        raise InvalidArgument("JSON Parse error: The document is empty")
    start = 3 if body.startswith(b"\xef\xbb\xbf") else 0
    if not _TAKES_CARE.search(body):
        try:
            value, _ = _DECODER.raw_decode(to_text(body[start:]).lstrip(" \t\r\n"))
        except (ValueError, RecursionError):  # the careful reader says what is wrong, or can do it after all
            pass
        else:
            if isinstance(value, dict):
                return value
    return _Reader(body, start).read()


def _first_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        found = {}
        for key, value in pairs:
            found.setdefault(key, value)
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_first_wins)

_SPACE = re.compile(rb"[ \t\r\n]*")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_INTEGER = re.compile(rb"-?(?:0|[1-9][0-9]*)")
_FRACTION = re.compile(rb"\.[0-9]+")
_EXPONENT = re.compile(rb"[eE][+-]?[0-9]+")
_WORDS = {
    b"null": None, b"true": True, b"false": False,
    b"NaN": math.nan, b"-NaN": math.nan,
    b"Infinity": math.inf, b"-Infinity": -math.inf, b"Inf": math.inf, b"-Inf": -math.inf,
}  # fmt: skip
_WORD = re.compile(rb"null|true|false|-?(?:NaN|Infinity|Inf)")
_ESCAPES = {
    0x22: '"', 0x5C: "\\", 0x2F: "/", 0x62: "\b", 0x66: "\f", 0x6E: "\n", 0x72: "\r", 0x74: "\t",
}  # fmt: skip
_HEX = re.compile(rb"[0-9a-fA-F]{4}")

_QUOTE, _COMMA, _COLON, _BRACE, _BRACKET, _END_BRACE, _END_BRACKET, _BACKSLASH = b'",:{[}]\\'
_UINT64 = range(-(2**63), 2**64)


class _Reader:
    """Reads one value; `open` holds the lists and objects that are not closed yet, outermost first."""

    def __init__(self, body: bytes, start: int) -> None:
        self.body = body.partition(b"\0")[0] + b"\0"  # rapidjson takes a NUL for the end
        self.at = start
        self.open: list[Any] = []
        self.keys: list[str | None] = []

    def read(self) -> Any:
        self._skip()
        if self._char() == 0:
            raise ParseError("The document is empty.", self.at)
        value = self._value()
        while True:
            if value is _OPENED:
                if not self._close_if_empty():
                    value = self._next_element()
                    continue
                value = self._closed()
            if not self.open:
                return value
            self._keep(value)
            value = self._after_element()

    def _value(self) -> Any:
        char = self._char()
        if char in (_BRACE, _BRACKET):
            self.at += 1
            self.open.append({} if char == _BRACE else [])
            self.keys.append(None)
            return _OPENED
        if char == _QUOTE:
            return self._string()
        word = _WORD.match(self.body, self.at)
        if word:
            self.at = word.end()
            return _WORDS[word[0]]
        return self._number()

    def _close_if_empty(self) -> bool:
        self._skip()
        return self._char() == (_END_BRACE if isinstance(self.open[-1], dict) else _END_BRACKET)

    def _closed(self) -> Any:
        self.at += 1
        self.keys.pop()
        return self.open.pop()

    def _next_element(self) -> Any:
        self._skip()
        if isinstance(self.open[-1], dict):
            self._key()
        return self._value()

    def _key(self) -> None:
        if self._char() != _QUOTE:
            raise ParseError("Missing a name for object member.", self.at)
        self.keys[-1] = self._string()
        self._skip()
        if self._char() != _COLON:
            raise ParseError("Missing a colon after a name of object member.", self.at)
        self.at += 1
        self._skip()

    def _keep(self, value: Any) -> None:
        parent = self.open[-1]
        if isinstance(parent, dict):
            parent.setdefault(self.keys[-1], value)
        else:
            parent.append(value)

    def _after_element(self) -> Any:
        self._skip()
        is_object = isinstance(self.open[-1], dict)
        char = self._char()
        if char == _COMMA:
            self.at += 1
            return self._next_element()
        if char == (_END_BRACE if is_object else _END_BRACKET):
            return self._closed()
        if is_object:
            raise ParseError("Missing a comma or '}' after an object member.", self.at)
        raise ParseError("Missing a comma or ']' after an array element.", self.at)

    def _string(self) -> str:
        start = self.at
        self.at += 1
        parts: list[str] = []
        raw: list[bytes] = []
        while True:
            plain = _PLAIN.match(self.body, self.at)
            assert plain is not None  # noqa: S101 - for the type checker: the pattern matches nothing too
            raw.append(plain[0])
            self.at = plain.end()
            char = self._char()
            if char == _QUOTE:
                self.at += 1
                parts.append(to_text(b"".join(raw)))
                return "".join(parts)
            if char == _BACKSLASH:
                parts.append(to_text(b"".join(raw)))
                raw.clear()
                parts.append(self._escape())
            elif char == 0:
                raise ParseError("Missing a closing quotation mark in string.", start)
            else:
                raise ParseError("Invalid escape character in string.", self.at)

    def _escape(self) -> str:
        start = self.at
        char = self.body[self.at + 1]
        if char in _ESCAPES:
            self.at += 2
            return _ESCAPES[char]
        if char != 0x75:
            raise ParseError("Invalid escape character in string.", start)
        self.at += 2
        code = self._hex(start)
        if 0xD800 <= code <= 0xDBFF:
            if self.body[self.at : self.at + 2] != b"\\u":
                raise ParseError("The surrogate pair in string is invalid.", start)
            self.at += 2
            low = self._hex(start)
            if not 0xDC00 <= low <= 0xDFFF:
                raise ParseError("The surrogate pair in string is invalid.", start)
            return chr(0x10000 + ((code - 0xD800) << 10 | (low - 0xDC00)))
        if 0xDC00 <= code <= 0xDFFF:  # a lone low half: rapidjson writes it out as the three bytes it would be
            return to_text(chr(code).encode("utf-8", "surrogatepass"))
        return chr(code)

    def _hex(self, start: int) -> int:
        digits = _HEX.match(self.body, self.at)
        if digits is None:
            raise ParseError("Incorrect hex digit after \\u escape in string.", start)
        self.at = digits.end()
        return int(digits[0], 16)

    def _number(self) -> int | float:
        start = self.at
        integer = _INTEGER.match(self.body, start)
        if integer is None:
            raise ParseError("Invalid value.", start + (self._char() == 0x2D))
        self.at = integer.end()
        is_float = self._part(b".", _FRACTION, "Miss fraction part in number.")
        is_float |= self._part(b"eE", _EXPONENT, "Miss exponent in number.")
        digits = self.body[start : self.at]
        if not is_float and len(digits) < 21 and int(digits) in _UINT64:
            return int(digits)
        value = float(digits)
        if math.isinf(value):
            raise ParseError("Number too big to be stored in double.", start)
        return value

    def _part(self, marks: bytes, pattern: re.Pattern[bytes], fault: str) -> bool:
        if self._char() not in marks or self._char() == 0:
            return False
        part = pattern.match(self.body, self.at)
        if part is None:
            sign = self.body[self.at + 1] in b"+-" and marks != b"."
            raise ParseError(fault, self.at + 1 + sign)
        self.at = part.end()
        return True

    def _skip(self) -> None:
        space = _SPACE.match(self.body, self.at)
        self.at = space.end() if space else self.at

    def _char(self) -> int:
        return self.body[self.at]


_OPENED = object()
