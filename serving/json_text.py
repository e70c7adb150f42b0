"""JSON as rapidjson writes it: strings, indents, and values as error messages show them."""

from __future__ import annotations

import math
import re
import struct
from typing import Any

_ENCODING = ("utf-8", "surrogateescape")


def to_text(raw: bytes) -> str:
    """Bytes as text from which `to_bytes` makes the same bytes, UTF-8 or not."""
    return raw.decode(*_ENCODING)


def to_bytes(text: str) -> bytes:
    """The bytes that `to_text` made text of."""
    return text.encode(*_ENCODING)


# What a value is called, by Python's type; bool comes by value.
_TYPE_NAMES = {type(None): "Null", dict: "Object", list: "Array", str: "String", int: "Number", float: "Number"}


def type_name(value: Any) -> str:
    """rapidjson's name for the type of a value."""
    if isinstance(value, bool):
        return "True" if value else "False"
    return _TYPE_NAMES[type(value)]


_ESCAPED = re.compile(r'["\\\x00-\x1f]')
_SHORT_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def quote(text: str) -> str:
    """A string with its quotation marks; `/` and what is not ASCII stay as they are."""
    return '"' + _ESCAPED.sub(_escape, text) + '"'


def _escape(match: re.Match[str]) -> str:
    return _SHORT_ESCAPES.get(match[0]) or f"\\u{ord(match[0]):04X}"


def indent(level: int) -> str:
    """A new line at this depth."""
    return "\n" + "    " * level


_DEBUG_LIMIT = 256
_END_OBJECT, _END_LIST = object(), object()


def debug(value: Any) -> str:
    """A value as error messages show it: objects a key a line, lists on one line, cut once 256 bytes are reached.

    A number that stands alone is written as answers write numbers, and as a float where it is none too large for one.
    """
    if isinstance(value, float):
        return _lone_decimal(value)
    written: list[str] = []
    size = 0
    stack: list[tuple[str, Any]] = [("", value)]  # what is still to be written, last first: text before it, value
    depth = 0
    while stack and size < _DEBUG_LIMIT:
        before, item = stack.pop()
        if item is _END_OBJECT or item is _END_LIST:
            depth -= 1
            text = before + (indent(depth) + "}" if item is _END_OBJECT else "]")
        elif isinstance(item, dict) and item:
            depth += 1
            stack.append(("", _END_OBJECT))
            members = [(("," if index else "") + indent(depth) + quote(key) + ": ", each)
                       for index, (key, each) in enumerate(item.items())]  # fmt: skip
            stack.extend(reversed(members))
            text = before + "{"
        elif isinstance(item, list) and item:
            depth += 1
            stack.append(("", _END_LIST))
            stack.extend(
                (", " if index else "", item[index]) for index in range(min(len(item), _DEBUG_LIMIT) - 1, -1, -1)
            )
            text = before + "["
        else:
            text = before + _scalar(item)
        written.append(text)
        size += len(to_bytes(text))
    return "".join(written)


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float):
        return _double(value)
    if isinstance(value, dict | list):
        return "{}" if isinstance(value, dict) else "[]"
    return str(value)


def _double(value: float) -> str:
    """The shortest digits that read back as the same, laid out by rapidjson's rules (internal/dtoa.h)."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value == 0:
        return "-0.0" if math.copysign(1, value) < 0 else "0.0"
    mantissa, _, exponent = f"{abs(value)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))  # where the point stands in digits
    digits = digits.rstrip("0")
    sign = "-" if value < 0 else ""
    if len(digits) <= point <= 21:
        return f"{sign}{digits}{'0' * (point - len(digits))}.0"
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    rest = "." + digits[1:] if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{rest}e{point - 1}"


def _lone_decimal(value: float) -> str:
    """json_tensor.cc's WriteDecimal."""
    if not math.isfinite(value):
        return _double(value)
    single = abs(value) <= _MAX_FLOAT
    value = struct.unpack("f", struct.pack("f", value))[0] if single else value
    short = f"{value:g}"
    back = (
        struct.unpack("f", struct.pack("f", float(short)))[0]
        if single and abs(float(short)) <= _MAX_FLOAT
        else float(short)
    )
    text = short if back == value else (f"{value:.9g}" if single else f"{value:.17g}")
    return text if "." in text or "e" in text else f"{text}.0"


_MAX_FLOAT = 3.4028234e38  # rapidjson's limit in Value::IsFloat
