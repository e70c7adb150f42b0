"""The fast way for JSON beside the careful one: what it reads, the careful reader reads as the same."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keraship.errors import StatusError
from keraship.serving.json_numbers import read_numbers
from keraship.serving.json_read import parse
from keraship.serving.rest_json import JsonRequest, read_inputs, read_request
from keraship.signature import Signature, TensorSpec

DTYPES = ("float32", "float64", "int32", "int64", "int8", "bool", "string")
NUMBERS = st.integers(-(2**70), 2**70) | st.integers(-5, 5) | st.floats(allow_nan=False, allow_infinity=False)
TENSORS = st.recursive(NUMBERS, lambda inner: st.lists(inner, max_size=3), max_leaves=20)
REGULAR = st.lists(st.lists(NUMBERS, min_size=2, max_size=2), min_size=1, max_size=3)
BODIES = st.fixed_dictionaries(
    {"instances": TENSORS | REGULAR}, optional={"signature_name": st.sampled_from(["", "s"])}
)
EDITS = st.tuples(
    st.integers(0, 60), st.sampled_from([b"", b",", b"[", b"]", b" ", b"1", b"-", b".", b"e", b'"', b"{", b"}", b"\0"])
)


def outcome(request: JsonRequest | None, body: bytes, dtype: str) -> Any:
    signature = Signature((TensorSpec("x", dtype, None),), ())
    try:
        request = request or read_request(body)
        array = read_inputs(request, {"serving_default": signature, "s": signature})["x"]
    except StatusError as error:
        return type(error), error.details
    return array.dtype, array.shape, array.tolist()


@given(value=BODIES, edits=st.lists(EDITS, max_size=2), dtype=st.sampled_from(DTYPES))
@example(value={"instances": [[1, 2]]}, edits=[(14, b",")], dtype="float32")
@example(value={"instances": [1e308]}, edits=[], dtype="float32")
@example(value={"instances": [2**31]}, edits=[], dtype="int32")
@example(value={"instances": [2**64]}, edits=[], dtype="float32")
def test_the_careful_reader_agrees(value: Any, edits: list[tuple[int, bytes]], dtype: str) -> None:
    body = json.dumps(value).encode()
    for at, what in edits:
        body = body[:at] + what + body[at + 1 :]
    numbers = read_numbers(body)
    if numbers is None:
        return
    root = parse(body)
    assert isinstance(root, dict)
    careful = JsonRequest(root.get("signature_name", ""), "instances" in root, lambda: root)
    assert outcome(careful, body, dtype) == outcome(None, body, dtype)


TAKEN = [
    (b'{"instances": [1]}', (1,)),
    (b' {"instances":[[1, 2.5],\n[-3e2, 4]]} \n', (2, 2)),
    (b'{"signature_name": "s", "inputs": [[[0]]]}', (1, 1, 1)),
    (b'{"inputs": [[[0]]], "signature_name": "s"}', (1, 1, 1)),
]


@pytest.mark.parametrize(("body", "shape"), TAKEN)
def test_what_is_read_fast(body: bytes, shape: tuple[int, ...]) -> None:
    numbers = read_numbers(body)
    assert numbers is not None
    assert numbers.doubles.shape == shape


LEFT = [b'{"instances": []}', b'{"instances": [[]]}', b'{"instances": [[1], [1, 2]]}', b'{"instances": [1, [2]]}',
        b'{"instances": [1,, 2]}', b'{"instances": [1 2]}', b'{"instances": [true]}',
        b'{"instances": [1], "inputs": [1]}',
        b'{"instances": [1]} x', b'{"instances": [NaN]}', b'{"instances": [1e999]}', b'{"instances": [01]}',
        b'{"instances": [18446744073709551616]}', b'{"instances": [-123456789012345678901234567890]}',
        b'\xef\xbb\xbf{"instances": [1]}', b"", b"]", b"{}"]  # fmt: skip


@pytest.mark.parametrize("body", LEFT)
def test_what_is_left_to_the_careful_reader(body: bytes) -> None:
    assert read_numbers(body) is None


def test_a_large_request_leaves_no_memory_behind() -> None:
    """The numbers are right, too, after the parser was let go."""
    values = np.arange(3_000_000) % 1000
    numbers = read_numbers(b'{"instances": %s}' % json.dumps(values.tolist()).encode())
    assert numbers is not None
    assert np.array_equal(numbers.doubles, values)
