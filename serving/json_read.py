"""JSON as rapidjson reads it: what it accepts, where it stops, the words of its errors.

Valid JSON goes through Python's own C reader. Whatever that refuses, or would read otherwise than rapidjson (1.1.0,
reader.h, its iterative parser), goes through the reader below, which is slower by far, keeps no recursion and knows the
exact error. Objects become dicts, of equal keys the first wins; strings that are not UTF-8 keep their bytes as lone
surrogates. Numbers are rounded correctly; rapidjson, as TensorFlow Serving uses it, may be off in a double's last bit.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from keraship.errors import InvalidArgument
from keraship.serving.json_text import to_text

# Python's reader would pass these otherwise than rapidjson does: halves of surrogate pairs, numbers beyond a double,
# whole numbers beyond 64 bits.
_TAKES_CARE = re.compile(rb"\\u[dD][89a-fA-F]|[eE]\+?\d{3}|\d{19}")


class ParseError(InvalidArgument):
    """Text that is no JSON: `JSON Parse error: <what> at offset: <byte>`."""

    def __init__(self, what: str, offset: int) -> None:
        super().__init__(f"JSON Parse error: {what} at offset: {offset}")


def parse(body: bytes) -> Any:
    """The value at the start of `body`; what follows it is ignored. Raises InvalidArgument for text that is no JSON."""
    if not body:
        raise InvalidArgument("JSON Parse error: The document is empty")
    start = _after_mark(body)
    if not _TAKES_CARE.search(body):
        try:
            value, _ = _DECODER.raw_decode(to_text(body[start:]).lstrip(" \t\r\n"))
        except (ValueError, RecursionError):  # the careful reader says what is wrong, or can do it after all
            pass
        else:
            if isinstance(value, dict):
                return value
    return _Reader(body, start).read()


def _after_mark(body: bytes) -> int:
    """Where the text begins: rapidjson takes UTF-8's byte order mark byte by byte, a part of it too."""
    at = 0
    for byte in _MARK:
        at += body[at : at + 1] == bytes([byte])
    return at


_MARK = b"\xef\xbb\xbf"


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
_DIGITS = re.compile(rb"0|[1-9][0-9]*")
_FRACTION = re.compile(rb"\.[0-9]+")
_EXPONENT = re.compile(rb"[eE]([+-]?)([0-9]+)")
_LITERALS = {0x6E: (b"null", None), 0x74: (b"true", True), 0x66: (b"false", False)}
_ESCAPES = {
    0x22: '"', 0x5C: "\\", 0x2F: "/", 0x62: "\b", 0x66: "\f", 0x6E: "\n", 0x72: "\r", 0x74: "\t",
}  # fmt: skip
_HEX = re.compile(rb"[0-9a-fA-F]{4}")

_QUOTE, _COMMA, _COLON, _BRACE, _BRACKET, _END_BRACE, _END_BRACKET, _BACKSLASH = b'",:{[}]\\'
_NOT_A_START = b"\0,:}]"
_INTEGERS = range(-(2**63), 2**64)


class _Reader:
    """Reads one value; `open` holds the lists and objects that are not closed yet, outermost first."""

    def __init__(self, body: bytes, start: int) -> None:
        self.body = body.partition(b"\0")[0] + b"\0"  # rapidjson takes a NUL for the end
        self.at = start
        self.open: list[Any] = []
        self.keys: list[str | None] = []

    def read(self) -> Any:
        self._skip()
        if self._char() in _NOT_A_START:
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
        if char in _LITERALS:
            word, value = _LITERALS[char]
            self._expect(word)
            return value
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
                raise ParseError("Missing a closing quotation mark in string.", self.at)
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
        sign = b"-" if self._takes(b"-") else b""
        special, digits = None, b"0"
        if self._char() in b"NI":
            special = self._nan_or_infinity(negative=bool(sign))
        else:
            digits = self._digits(start)
        fraction = self._fraction()
        exponent = self._exponent(start, digits, fraction)
        if fraction or exponent:  # after NaN and Infinity too, which rapidjson then forgets
            return float(sign + digits + fraction + exponent)
        if special is not None:
            return special
        number = int(sign + digits)
        return number if number in _INTEGERS else float(number)

    def _nan_or_infinity(self, *, negative: bool) -> float:
        if self._takes(b"NaN"):
            return math.nan
        self._expect(b"Inf")
        if self._char() == 0x69:  # "i"
            self._expect(b"inity")
        return -math.inf if negative else math.inf

    def _digits(self, start: int) -> bytes:
        digits = _DIGITS.match(self.body, self.at)
        if digits is None:
            raise ParseError("Invalid value.", self.at)
        self.at = digits.end()
        size = len(digits[0])
        if size > 309 or (size == 309 and int(digits[0][:308]) >= _TENTH_OF_MAX):
            raise ParseError(_TOO_BIG, start)
        return digits[0]

    def _fraction(self) -> bytes:
        if self._char() != 0x2E:  # "."
            return b""
        fraction = _FRACTION.match(self.body, self.at)
        if fraction is None:
            raise ParseError("Miss fraction part in number.", self.at + 1)
        self.at = fraction.end()
        return fraction[0]

    def _exponent(self, start: int, digits: bytes, fraction: bytes) -> bytes:
        """An exponent is too big by itself, whatever it multiplies; a product that is too big is infinite."""
        if not self._char() or self._char() not in b"eE":
            return b""
        exponent = _EXPONENT.match(self.body, self.at)
        if exponent is None:
            raise ParseError("Miss exponent in number.", self.at + 1 + (self.body[self.at + 1] in b"+-"))
        power = exponent[2].lstrip(b"0")
        if exponent[1] != b"-" and (len(power) > 4 or int(power or b"0") > 308 + _significant(digits, fraction)):
            raise ParseError(_TOO_BIG, start)
        self.at = exponent.end()
        return exponent[0]

    def _takes(self, word: bytes) -> bool:
        """Take as much of `word` as stands here; whether that is all of it."""
        for byte in word:
            if self._char() != byte:
                return False
            self.at += 1
        return True

    def _expect(self, word: bytes) -> None:
        if not self._takes(word):
            raise ParseError("Invalid value.", self.at)

    def _skip(self) -> None:
        space = _SPACE.match(self.body, self.at)
        self.at = space.end() if space else self.at

    def _char(self) -> int:
        return self.body[self.at]


_OPENED = object()

_TOO_BIG = "Number too big to be stored in double."
_TENTH_OF_MAX = int(1.7976931348623157e307)


def _significant(digits: bytes, fraction: bytes) -> int:
    """How many digits of a fraction rapidjson reads: those that 17 significant ones leave room for."""
    places = fraction[1:]
    leading = len(places) - len(places.lstrip(b"0")) if digits == b"0" else -len(digits)
    return max(0, min(len(places), 17 + leading))
