"""Our JSON against others': python-rapidjson reads and writes beside us, and the C library's printf writes numbers.

python-rapidjson stands on a later rapidjson than TensorFlow Serving and uses its recursive parser; where those are
known to differ from 1.1.0's iterative one, `expected` says how.
"""

from __future__ import annotations

import ctypes
import math
import re
import struct
from typing import Any

import numpy as np
import pytest
import rapidjson
from hypothesis import example, given, settings
from hypothesis import strategies as st

from keraship.errors import InvalidArgument
from keraship.serving.json_read import parse
from keraship.serving.json_text import debug
from keraship.serving.rest_answer import decimals

# Texts that are nearly JSON: pieces of it, put together well, then damaged.

ATOMS = (
    "1", "0", "-1", "1.5", "-0.0", "1e5", "1E+2", "2.5e-3", "01", "1.", ".5", "1e", "1e-", "-", "true", "false", "null",
    "nul", "tru", "NaN", "-Infinity", "Infinity", "Inf", '"a"', '""', '"é"', r'"\u00e9\n"', r'"\ud83d\ude00"',
    r'"\ud83d"', r'"\uZ"', r'"\x"', '"a\nb"', '"', "[]", "{}", "18446744073709551615",
    "-9223372036854775808", "2147483648",
)  # fmt: skip
KEYS = st.sampled_from(['"a"', '"b"', r'"\u0061"', '"instances"', "x"])


def _join(parts: list[str], ends: str, space: str) -> str:
    return ends[0] + f",{space}".join(parts) + ends[1]


VALUES = st.recursive(
    st.sampled_from(ATOMS),
    lambda inner: (
        st.builds(_join, st.lists(inner, max_size=3), st.just("[]"), st.sampled_from(["", " ", "\n\t"]))
        | st.builds(
            _join,
            st.lists(st.builds("{}:{}".format, KEYS, inner), max_size=3),
            st.just("{}"),
            st.sampled_from(["", " "]),
        )
    ),
    max_leaves=8,
)


@st.composite
def texts(draw: st.DrawFn) -> str:
    text = draw(VALUES)
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.sampled_from(["", *',:[]{} "1x'])) + text[at + 1 :]
    return text


# A low half of a pair by itself, which 1.1.0 takes for a character and later releases refuse.
_LONE_HALF = re.compile(r"(?<!\\ud83d)\\ude00")


class _Pairs(rapidjson.Decoder):
    """Keeps equal keys, of which the first counts."""

    def start_object(self) -> list[Any]:
        return []

    def end_object(self, pairs: list[Any]) -> dict[str, Any]:
        return dict(reversed(pairs))


def expected(text: str) -> Any:
    """What rapidjson 1.1.0 makes of it, by python-rapidjson: a value, or an error's words."""
    begin = text.lstrip(" \t\r\n")
    if begin[:1] and begin[0] in "]},:":
        return f"The document is empty. at offset: {len(text) - len(begin)}"
    try:
        return _Pairs(number_mode=rapidjson.NM_NAN)(text)
    except rapidjson.JSONDecodeError as error:
        where, _, what = str(error).partition(": ")
        offset = int(where.rpartition(" ")[2])
        if "root must not be followed" in what:
            return _Pairs(number_mode=rapidjson.NM_NAN)(text.encode()[:offset].decode())
        what = what.replace("Invalid encoding in string.", "Invalid escape character in string.")
        return f"{what} at offset: {offset}"


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=4e-16) or (math.isnan(a) and math.isnan(b)) or a == b
    return type(a) is type(b) and a == b


@settings(max_examples=1500, deadline=None)
@given(texts())
@example('{"a": 1, "a": 2}')
@example("[1]]")
@example('{"a": Infinit}')
def test_json_is_read_as_rapidjson_reads_it(text: str) -> None:
    if not text or _LONE_HALF.search(text):
        return
    wanted = expected(text)
    try:
        got = parse(text.encode())
    except InvalidArgument as error:
        got = error.details.removeprefix("JSON Parse error: ")
    assert _same(got, wanted), (text, got, wanted)


SHOWN = st.recursive(
    st.sampled_from([None, True, False, 0.5, 1.0, -2.25]) | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=500, deadline=None)
@given(SHOWN.filter(lambda value: isinstance(value, list | dict)))
def test_values_in_messages_are_laid_out_as_rapidjson_writes_them(value: Any) -> None:
    mode = rapidjson.WM_PRETTY | rapidjson.WM_SINGLE_LINE_ARRAY
    wanted = rapidjson.dumps(value, indent=4, write_mode=mode, ensure_ascii=False)
    if len(wanted.encode()) < 256:
        assert debug(value) == wanted


# Numbers.

_LIBC = ctypes.CDLL(None)


def _printf(form: str, value: float) -> str:
    buffer = ctypes.create_string_buffer(64)
    _LIBC.snprintf(buffer, 64, form.encode(), ctypes.c_double(value))
    return buffer.value.decode()


def _write_decimal(value: float, single: bool) -> str:
    """json_tensor.cc's WriteDecimal, with the C library's own printf."""
    short = _printf("%g", value)
    back = float(np.float32(short)) if single else float(short)
    text = short if back == value else _printf("%.9g" if single else "%.17g", value)
    return text if "." in text or "e" in text else f"{text}.0"


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
@example([3.4028234663852886e38, 1.401298464324817e-45, -0.0, 1e6, 999999.0])
def test_floats_are_written_as_printf_writes_them(values: list[float]) -> None:
    with np.errstate(over="ignore"):
        assert decimals(np.array(values, np.float32)) == [_write_decimal(value, single=True) for value in values]


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
@example([1.7976931348623157e308, 5e-324, 1 / 3, 1e22])
def test_doubles_are_written_as_printf_writes_them(values: list[float]) -> None:
    assert decimals(np.array(values)) == [_write_decimal(value, single=False) for value in values]


@pytest.mark.parametrize("bits", [0x7F7FFFFF, 0x00000001, 0x00800000, 0x3F800001, 0x4B800000])
def test_what_is_written_reads_back(bits: int) -> None:
    value = struct.unpack("<f", struct.pack("<I", bits))[0]
    (text,) = decimals(np.array([value], np.float32))
    assert np.float32(text) == np.float32(value)
