"""The fields of a serialized protobuf message, one after the other, without its schema's classes.

Any bytes may be given: what is no message raises ValueError, and nothing is copied before it is asked for.
Source: protobuf's encoding, https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

_VARINT, _FIXED64, _BYTES, _GROUP, _END_GROUP, _FIXED32 = range(6)
_LONGEST_VARINT = 10  # bytes
_SIZES = {_FIXED64: 8, _FIXED32: 4}

Value = int | memoryview


def mapped(path: Path) -> memoryview:
    """A file's bytes, which stay on the disk until they are read."""
    if not path.stat().st_size:
        raise ValueError("it is empty")
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def fields(message: memoryview) -> Iterator[tuple[int, Value]]:
    """Each field's number and value: an int where it is a varint, else its bytes; raises ValueError."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, wire_type = key >> 3, key & 7
        if not number:
            raise ValueError("a field has the number 0")
        if wire_type == _VARINT:
            value, position = _varint(message, position)
            yield number, value
            continue
        if wire_type == _BYTES:
            size, position = _varint(message, position)
        elif wire_type in _SIZES:
            size = _SIZES[wire_type]
        else:
            raise ValueError(f"the wire type {wire_type} is not in use")
        if position + size > len(message):
            raise ValueError(f"a field of {size} bytes ends beyond its message")
        yield number, message[position : position + size]
        position += size


def messages(message: memoryview, number: int) -> Iterator[memoryview]:
    """The messages, strings or packed numbers of a field."""
    return (value for found, value in fields(message) if found == number and isinstance(value, memoryview))


def path(message: memoryview, *numbers: int) -> Iterator[memoryview]:
    """The messages at the end of a path of fields."""
    first, *rest = numbers
    for inner in messages(message, first):
        if rest:
            yield from path(inner, *rest)
        else:
            yield inner


def text(message: memoryview, number: int) -> str:
    """The last string of a field, as protobuf has it; empty where there is none."""
    last = b""
    for value in messages(message, number):
        last = bytes(value[:_LONGEST_TEXT])
    return last.decode(errors="replace")


def texts(message: memoryview, number: int) -> list[str]:
    """All strings of a field."""
    return [bytes(value[:_LONGEST_TEXT]).decode(errors="replace") for value in messages(message, number)]


def integers(message: memoryview, number: int) -> list[int]:
    """The signed integers of a field, packed or not."""
    found: list[int] = []
    for field, value in fields(message):
        if field != number:
            continue
        if isinstance(value, int):
            found.append(_signed(value))
            continue
        position = 0
        while position < len(value):
            one, position = _varint(value, position)
            found.append(_signed(one))
            if len(found) > _MOST_INTEGERS:
                raise ValueError(f"a list of numbers is longer than {_MOST_INTEGERS}")
    return found


def integer(message: memoryview, number: int) -> int:
    """The last integer of a field; 0 where there is none."""
    return next(reversed(integers(message, number)), 0)


_LONGEST_TEXT = 1 << 16
_MOST_INTEGERS = 1 << 16


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(_LONGEST_VARINT):
        if position >= len(message):
            raise ValueError("a number ends beyond its message")
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return value & ((1 << 64) - 1), position
    raise ValueError("a number has more than 64 bits")
