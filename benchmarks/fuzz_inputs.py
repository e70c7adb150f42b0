"""Inputs of the fuzzer: their form, the first ones out of the conformance cases, and random changes to them.

An input is bytes: a transport's name, a line that says whom it asks, for REST a line of headers, and the body.
"""

from __future__ import annotations

import gzip
import random
import re
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from keraship.wire.messages import METHODS, ReloadConfigRequest
from tests.conformance.ask import _body, full_path, read_text
from tests.conformance.case import METHODS as HTTP_METHODS
from tests.conformance.case import Case, read_cases

REST, GRPC, TEXT = b"rest", b"grpc", b"text"
LARGEST = 1 << 16

_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_PIECES = [
    b"[", b"]", b"{", b"}", b",", b":", b'"', b"\\", b"\\u", b"\\ud800", b"\\udc00", b"null", b"true", b"false", b"NaN",
    b"-Infinity", b"-", b"1e400", b"-0", b"0.1e-400", b"\0", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xef\xbb\xbf",
    b'{"b64": "', b'{"b64": "AA=="}', b'"instances": ', b'"inputs": ', b'"signature_name": ', b'"examples": ',
    b'"context": ', b"serving_default", b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", b"\xff\xff\xff\xff\x0f", b"\x0a",
    b"\x12", b"\x1a", b"\x08", b"\x22", b"%00", b"%ff", b"/versions/", b"/labels/", b"/metadata", b":predict", b"//",
    b"?",
]  # fmt: skip
_NUMBERS = [
    b"0", b"-1", b"1", b"127", b"128", b"255", b"256", b"32768", b"65536", b"2147483647", b"2147483648", b"-2147483649",
    b"4294967296", b"9223372036854775807", b"9223372036854775808", b"18446744073709551615", b"18446744073709551616",
    b"1e308", b"1e309", b"-1e309", b"1e-320", b"1.7976931348623157e308", b"0.1", b"1.0",
    b"123456789012345678901234567890",
    b"3.4028236e38", b"16777217", b"01", b"1.", b".5", b"1e", b"+1",
]  # fmt: skip


def seeds() -> list[bytes]:
    """What the conformance cases ask, and what configures a server."""
    cases = [each for each in (_seed_of(case) for case in read_cases()) if each is not None and len(each) <= LARGEST]
    reload = ReloadConfigRequest(metric_names=["/tensorflow/serving/request_count"])
    entry = reload.config.model_config_list.config.add(
        name="no", base_path="/no/such/folder", model_platform="tensorflow"
    )
    entry.model_version_policy.specific.versions.append(1)
    text = (
        b'model_config_list { config { name: "a" base_path: "/a" model_version_policy { latest { num_versions: 2 }}}}'
    )
    path = b"/tensorflow.serving.ModelService/HandleReloadConfigRequest"
    return [*dict.fromkeys(cases), b"\n".join((GRPC, path, reload.SerializeToString())), b"\n".join((TEXT, b"", text))]


def _seed_of(case: Case) -> bytes | None:
    values = case.values
    if case.is_rest:
        (method,) = (each for each in HTTP_METHODS if each in values)
        body = _body(values) or b""
        headers = "gzip" if values.get("gzip") else ""
        body = gzip.compress(body) if headers else body
        return b"\n".join((REST, f"{method.upper()} {values[method]}".encode(), headers.encode(), body))
    path = full_path(values["call"])
    request = bytes.fromhex(values.get("request_hex", ""))
    if "request" in values:
        request = read_text(METHODS[path][0], values["request"]).SerializeToString()
    return b"\n".join((GRPC, path.encode(), request))


def mutate(data: bytes, other: bytes, numbers: random.Random) -> bytes:
    """`data` with some random changes, mostly to its body; other: another input, pieces of which may get into it."""
    kind, _, rest = data.partition(b"\n")
    line, _, body = rest.partition(b"\n")
    headers, separator = b"", b""
    if kind == REST:
        headers, separator, body = body.partition(b"\n")
    place = numbers.random()
    if place < 0.1:
        line = _change(line, other, numbers)
    elif place < 0.13:
        headers = numbers.choice([b"", b"gzip", b"https://x", b"deflate, gzip", headers])
        body = gzip.compress(body, 1) if numbers.random() < 0.5 else body
    else:
        for _ in range(numbers.choice((1, 1, 2, 4))):
            body = _change(body, other, numbers)
    return b"\n".join((kind, line, headers + separator + body))[:LARGEST]


def _change(data: bytes, other: bytes, numbers: random.Random) -> bytes:
    return numbers.choice(_CHANGES)(data, other, numbers)


def _place(data: bytes, numbers: random.Random) -> int:
    return numbers.randrange(len(data) + 1)


def _span(data: bytes, numbers: random.Random) -> tuple[int, int]:
    start = _place(data, numbers)
    return start, min(len(data), start + numbers.choice((1, 1, 2, 4, 8, 32)))


def _insert(data: bytes, _: bytes, numbers: random.Random) -> bytes:
    at = _place(data, numbers)
    return data[:at] + numbers.choice(_PIECES) + data[at:]


def _remove(data: bytes, _: bytes, numbers: random.Random) -> bytes:
    start, end = _span(data, numbers)
    return data[:start] + data[end:]


def _repeat(data: bytes, _: bytes, numbers: random.Random) -> bytes:
    start, end = _span(data, numbers)
    return data[:start] + data[start:end] * numbers.choice((2, 3, 10, 300)) + data[end:]


def _flip(data: bytes, _: bytes, numbers: random.Random) -> bytes:
    if not data:
        return data
    at = numbers.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << numbers.randrange(8)]) + data[at + 1 :]


def _overwrite(data: bytes, _: bytes, numbers: random.Random) -> bytes:
    if not data:
        return data
    at = numbers.randrange(len(data))
    return data[:at] + numbers.randbytes(numbers.choice((1, 1, 2, 8))) + data[at + 1 :]


def _cut(data: bytes, _: bytes, numbers: random.Random) -> bytes:
    return data[: _place(data, numbers)]


def _splice(data: bytes, other: bytes, numbers: random.Random) -> bytes:
    at, start = _place(data, numbers), _place(other, numbers)
    return data[:at] + other[start : start + numbers.choice((4, 16, 64))] + data[at:]


def _renumber(data: bytes, _: bytes, numbers: random.Random) -> bytes:
    found = list(_NUMBER.finditer(data))
    if not found:
        return data
    match = numbers.choice(found)
    return data[: match.start()] + numbers.choice(_NUMBERS) + data[match.end() :]


_CHANGES: list[Callable[[bytes, bytes, random.Random], bytes]] = [
    _insert, _remove, _repeat, _flip, _overwrite, _cut, _splice, _renumber
]  # fmt: skip
