"""The JSON of predictions: texts in, arrays out, and back; every error in tensorflow_model_server's words."""

# ruff: noqa: E501 - a case of a table is a line
from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keraship.errors import StatusError
from keraship.serving import rest_json
from keraship.serving.json_read import ParseError, parse
from keraship.serving.json_text import debug
from keraship.serving.rest_answer import write_response
from keraship.serving.rest_json import read_inputs, read_request
from keraship.signature import Signature, TensorSpec


def signature(**inputs: str) -> dict[str, Signature]:
    return {"serving_default": Signature(tuple(TensorSpec(name, dtype, None) for name, dtype in inputs.items()), ())}


def read(body: str | bytes, **inputs: str) -> dict[str, Any]:
    raw = body.encode() if isinstance(body, str) else body
    return read_inputs(read_request(raw), signature(**(inputs or {"x": "float32"})))


PARSE_ERRORS = [
    (b"  ", "The document is empty.", 2),
    (b'{"a": }', "Invalid value.", 6),
    (b'{"a": [1,]}', "Invalid value.", 9),
    (b'{"a": 1,}', "Missing a name for object member.", 8),
    (b"{1: 2}", "Missing a name for object member.", 1),
    (b'{"a" 1}', "Missing a colon after a name of object member.", 5),
    (b'{"a": 1 "b": 2}', "Missing a comma or '}' after an object member.", 8),
    (b'{"a": [1 2]}', "Missing a comma or ']' after an array element.", 9),
    (b'{"a": [1', "Missing a comma or ']' after an array element.", 8),
    (b'{"a": "\\u12G4"}', "Incorrect hex digit after \\u escape in string.", 7),
    (b'{"a": "\\ud800x"}', "The surrogate pair in string is invalid.", 7),
    (b'{"a": "\\q"}', "Invalid escape character in string.", 7),
    (b'{"a": "x\ny"}', "Invalid escape character in string.", 8),
    (b'{"a": "xy', "Missing a closing quotation mark in string.", 9),
    (b"]", "The document is empty.", 0),
    (b'{"a": nul}', "Invalid value.", 9),
    (b'{"a": trux', "Invalid value.", 9),
    (b'{"a": -Infinite}', "Invalid value.", 14),
    (b'{"a": 0e309}', "Number too big to be stored in double.", 6),
    (b'{"a": 1e400}', "Number too big to be stored in double.", 6),
    (b'{"a": 1.}', "Miss fraction part in number.", 8),
    (b'{"a": 1e}', "Miss exponent in number.", 8),
    (b'{"a": 1\x00}', "Missing a comma or '}' after an object member.", 7),
]


@pytest.mark.parametrize(("body", "what", "offset"), PARSE_ERRORS)
def test_parse_errors_have_rapidjsons_text_and_offset(body: bytes, what: str, offset: int) -> None:
    with pytest.raises(ParseError) as caught:
        parse(body)
    assert caught.value.details == f"JSON Parse error: {what} at offset: {offset}"


PARSED = [
    (b'\xef\xbb\xbf{"a": 1} trailing', {"a": 1}),
    (b'{"a": 1, "a": 2}', {"a": 1}),
    (b'{"a": [Infinity, -Inf, Inf]}', {"a": [math.inf, -math.inf, math.inf]}),
    (b'{"a": "\\ud83d\\ude00\\n\\/"}', {"a": "\N{GRINNING FACE}\n/"}),
    (b'{"a": [1, -2, 3.5, 1e3, true, false, null, [], {}]}', {"a": [1, -2, 3.5, 1000.0, True, False, None, [], {}]}),
    (b'{"a": 18446744073709551616}', {"a": 18446744073709551616.0}),
    (b"[1, [2, {}]] x", [1, [2, {}]]),
    (b'{"a": 1e007}', {"a": 1e7}),
]


@pytest.mark.parametrize(("body", "value"), PARSED)
def test_what_rapidjson_accepts_is_accepted(body: bytes, value: Any) -> None:
    assert parse(body) == value


def test_half_a_million_levels_are_no_crash() -> None:
    """Deep nesting is read, and refused as a tensor in one sentence."""
    with pytest.raises(StatusError) as caught:
        read(b'{"instances": ' + b"[" * 500_000 + b"1" + b"]" * 500_000 + b"}")
    assert caught.value.code == "INVALID_ARGUMENT"
    assert "nested lists" in caught.value.details


def test_strings_that_are_not_utf8_keep_their_bytes() -> None:
    arrays = read(b'{"instances": ["\xff\xfe", "\xc3\xa9"]}', x="string")
    assert arrays["x"].tolist() == [b"\xff\xfe", b"\xc3\xa9"]
    assert b'"\xff\xfe"' in write_response({"y": arrays["x"]}, by_row=True)


DEBUG = [
    ([1, 2.5, "a"], '[1, 2.5, "a"]'),
    ({"a": {"b": [1]}}, '{\n    "a": {\n        "b": [1]\n    }\n}'),
    ([{"a": 1}], '[{\n        "a": 1\n    }]'),
    ([1e21, 1e20, 1.5e-7, 0.000015, -0.0], "[1e21, 100000000000000000000.0, 1.5e-7, 0.000015, -0.0]"),
    (1e21, "1e+21"), (1e300, "1e+300"), (3.14159265, "3.14159274"), (-0.0, "-0.0"),
    (None, "null"), (True, "true"), ([], "[]"), ({}, "{}"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "shown"), DEBUG)
def test_values_in_messages_look_like_rapidjsons(value: Any, shown: str) -> None:
    assert debug(value) == shown


def test_values_in_messages_are_cut() -> None:
    """Once 256 bytes are written nothing more is; one token may reach beyond."""
    shown = debug(["x" * 100] * 50)
    assert 256 <= len(shown) < 256 + 110


ROWS = [
    ('{"instances": [1, 2.5]}', [1, 2.5]),
    ('{"instances": [[1, 2], [3, 4]]}', [[1, 2], [3, 4]]),
    ('{"instances": [{"x": [1, 2]}, {"x": [3, 4]}]}', [[1, 2], [3, 4]]),
    ('{"instances": [[], []]}', np.zeros((2, 0))),
    ('{"inputs": 7}', 7),
    ('{"inputs": [1, NaN]}', [1, math.nan]),
    ('{"inputs": {"x": [[1e300]], "ignored": 3}}', [[math.inf]]),
    ('{"inputs": []}', np.zeros(0)),
    ('{"instances": [18446744073709551616]}', [2.0**64]),
]


@pytest.mark.parametrize(("body", "expected"), ROWS)
def test_rows_and_columns_become_arrays(body: str, expected: Any) -> None:
    array = read(body)["x"]
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, np.array(expected, np.float32))
    assert array.shape == np.shape(expected)


BY_DTYPE = [
    ("float64", "[1, 0.1]", [1, 0.1]),
    ("int8", "[-1, 300]", [-1, 44]),
    ("uint8", "[-1, 255]", [255, 255]),
    ("int16", "[70000]", [4464]),
    ("int32", "[-2147483648]", [-(2**31)]),
    ("int64", "[9223372036854775807]", [2**63 - 1]),
    ("uint32", "[4294967295]", [2**32 - 1]),
    ("uint64", "[18446744073709551615]", [2**64 - 1]),
    ("bool", "[true, false]", [True, False]),
    ("string", '["a", {"b64": "aGk="}, {"b64": "aGk"}, {"b64": " a G k = "}]', [b"a", b"hi", b"hi", b"hi"]),
]


@pytest.mark.parametrize(("dtype", "values", "expected"), BY_DTYPE)
@pytest.mark.parametrize("key", ["instances", "inputs"])
def test_every_dtype_that_json_can_write(key: str, dtype: str, values: str, expected: list[Any]) -> None:
    array = read(f'{{"{key}": {values}}}', x=dtype)["x"]
    assert array.dtype == (object if dtype == "string" else np.dtype(dtype))
    assert array.tolist() == expected


ELEMENT = "Failed to process element: {} of 'instances' list. Error: {}: {}"
ONE, TWO = {"x": "float32"}, {"a": "float32", "b": "float32"}
ERRORS: list[tuple[str, dict[str, str], str, str]] = [
    ("", ONE, "INVALID_ARGUMENT", "JSON Parse error: The document is empty"),
    ("[1, 2]", ONE, "INVALID_ARGUMENT", "JSON Value: [1, 2] Is not object"),
    ('{"signature_name": null}', ONE, "INVALID_ARGUMENT", 'JSON Value: {\n    "signature_name": null\n} not formatted correctly. \'signature_name\' key must be a string value.'),
    ('{"signature_name": "no", "inputs": 1}', ONE, "INVALID_ARGUMENT", 'Serving signature name: "no" not found in signature def'),
    ("{}", ONE, "INVALID_ARGUMENT", "Missing 'inputs' or 'instances' key"),
    ('{"inputs": 1, "instances": 1}', ONE, "INVALID_ARGUMENT", 'JSON Value: {\n    "inputs": 1,\n    "instances": 1\n} Not formatted correctly expecting only one of \'inputs\' or \'instances\' keys to exist '),
    ('{"instances": 1}', ONE, "INVALID_ARGUMENT", 'JSON Value: {\n    "instances": 1\n} Expecting \'instances\' to be an list/array'),
    ('{"instances": []}', ONE, "INVALID_ARGUMENT", 'JSON Value: {\n    "instances": []\n} No values in \'instances\' array'),
    ('{"instances": [1]}', TWO, "INVALID_ARGUMENT", "instances is a plain list, but expecting list of objects as multiple input tensors required as per tensorinfo_map"),
    ('{"inputs": [1]}', TWO, "INVALID_ARGUMENT", "inputs is a plain value/list, but expecting an object as multiple input tensors required as per tensorinfo_map"),
    ('{"inputs": {"a": 1}}', TWO, "INVALID_ARGUMENT", "Missing named input: b in 'inputs' object."),
    ('{"instances": [{"x": 1}, 2]}', ONE, "INVALID_ARGUMENT", "Expecting object but got list at item 1 of input list"),
    ('{"instances": [1, {"x": 1}]}', ONE, "INVALID_ARGUMENT", "Expecting value/list but got object at item 1 of input list"),
    ('{"instances": [{"y": 1}]}', ONE, "INVALID_ARGUMENT", "Failed to process element: 0 key: y of 'instances' list. Error: INVALID_ARGUMENT: JSON object: does not have named input: y"),
    ('{"instances": [{"b": 1}]}', TWO, "INVALID_ARGUMENT", 'Failed to process element: 0 of \'instances\' list. JSON object: {\n    "b": 1\n} keys must be equal to: a,b'),
    ('{"instances": [[1, 2], [3]]}', ONE, "INVALID_ARGUMENT", ELEMENT.format(1, "INVALID_ARGUMENT", "Expecting tensor size: 2 but got: 1")),
    ('{"instances": [[1, 2], [[3], [4]]]}', ONE, "INVALID_ARGUMENT", ELEMENT.format(1, "INVALID_ARGUMENT", "Expecting shape [2] but got: [2,1]")),
    ('{"instances": [[[1, 2], [3]]]}', ONE, "INVALID_ARGUMENT", ELEMENT.format(0, "INVALID_ARGUMENT", "Encountered list at unexpected size: 1 at level: 1 expected size: 2")),
    ('{"inputs": [1, [2]]}', ONE, "INVALID_ARGUMENT", "Encountered list at unexpected level: 1 expected < 1"),
    ('{"inputs": [[1], 2]}', ONE, "INVALID_ARGUMENT", "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2"),
    ('{"inputs": ["a"]}', ONE, "INVALID_ARGUMENT", 'JSON Value: "a" Type: String is not of expected type: float'),
    ('{"inputs": [true]}', ONE, "INVALID_ARGUMENT", "JSON Value: true Type: True is not of expected type: float"),
    ('{"inputs": [1.0]}', {"x": "int32"}, "INVALID_ARGUMENT", "JSON Value: 1.0 Type: Number is not of expected type: int32"),
    ('{"inputs": [2147483648]}', {"x": "int32"}, "INVALID_ARGUMENT", "JSON Value: 2147483648 Type: Number is not of expected type: int32"),
    ('{"inputs": [-1]}', {"x": "uint32"}, "INVALID_ARGUMENT", "JSON Value: -1 Type: Number is not of expected type: uint32"),
    ('{"inputs": [1]}', {"x": "bool"}, "INVALID_ARGUMENT", "JSON Value: 1 Type: Number is not of expected type: bool"),
    ('{"inputs": [1]}', {"x": "float16"}, "UNIMPLEMENTED", "Conversion of JSON Value: 1 to type: half"),
    ('{"instances": [1]}', {"x": "float16"}, "INVALID_ARGUMENT", ELEMENT.format(0, "UNIMPLEMENTED", "Conversion of JSON Value: 1 to type: half")),
    ('{"inputs": [{"b64": "-_-_"}]}', {"x": "string"}, "INVALID_ARGUMENT", "Unable to base64 decode"),
    ('{"inputs": [{"c": "x"}]}', {"x": "string"}, "INVALID_ARGUMENT", 'JSON Value: {\n    "c": "x"\n} not formatted correctly for base64 data'),
]  # fmt: skip


@pytest.mark.parametrize(("body", "inputs", "code", "details"), ERRORS)
def test_errors_have_the_servers_words(body: str, inputs: dict[str, str], code: str, details: str) -> None:
    with pytest.raises(StatusError) as caught:
        read(body, **inputs)
    assert (caught.value.code, caught.value.details) == (code, details)


NUMBERS = [
    (np.float32, 9e6, "9e+06"), (np.float32, 999999, "999999.0"), (np.float32, 0.0003, "0.0003"),
    (np.float32, 3e-5, "3e-05"), (np.float32, math.pi, "3.14159274"), (np.float64, 1 / 3, "0.33333333333333331"),
    (np.float32, -0.0, "-0.0"), (np.float32, math.nan, "NaN"), (np.float64, -math.inf, "-Infinity"),
    (np.float32, 1e10, "1e+10"), (np.float32, 16777217, "16777216.0"), (np.int64, -5, "-5"), (np.bool_, True, "true"),
    (np.uint64, 2**64 - 1, "18446744073709551615"),
]  # fmt: skip


@pytest.mark.parametrize(("dtype", "value", "text"), NUMBERS)
def test_numbers_are_written_as_the_server_writes_them(dtype: Any, value: Any, text: str) -> None:
    body = write_response({"y": np.array([value], dtype)}, by_row=True)
    assert body.decode() == '{\n    "predictions": [' + text + "\n    ]\n}"


F = np.float32
ANSWERS = [
    (True, {"y": F([2.5, 3, 4.5])}, '{\n    "predictions": [2.5, 3.0, 4.5\n    ]\n}'),
    (True, {"y": F([[2.5, 3], [3.5, 4]])}, '{\n    "predictions": [[2.5, 3.0], [3.5, 4.0]\n    ]\n}'),
    (True, {"y": F(np.zeros((0, 2)))}, '{\n    "predictions": []\n}'),
    (True, {"y": F(np.zeros((2, 0)))}, '{\n    "predictions": [[], []\n    ]\n}'),
    (True, {"a": F([1]), "b": F([[1, 2]])}, '{\n    "predictions": [\n        {\n            "a": 1.0,\n            "b": [1.0, 2.0]\n        }\n    ]\n}'),
    (False, {"y": F(7)}, '{\n    "outputs": 7.0\n}'),
    (False, {"y": F([1, 2])}, '{\n    "outputs": [\n        1.0,\n        2.0\n    ]\n}'),
    (False, {"y": F([[1], [2]])}, '{\n    "outputs": [\n        [\n            1.0\n        ],\n        [\n            2.0\n        ]\n    ]\n}'),
    (False, {"y": F([])}, '{\n    "outputs": []\n}'),
    (False, {"a": F([1]), "b": F(2)}, '{\n    "outputs": {\n        "a": [\n            1.0\n        ],\n        "b": 2.0\n    }\n}'),
    (True, {"y": np.array([b'a"\x01/\n'], object)}, '{\n    "predictions": ["a\\"\\u0001/\\n"\n    ]\n}'),
]  # fmt: skip


@pytest.mark.parametrize(("by_row", "outputs", "text"), ANSWERS)
def test_answers_to_the_byte(by_row: bool, outputs: dict[str, Any], text: str) -> None:
    assert write_response(outputs, by_row=by_row).decode() == text


def test_string_outputs_called_bytes_are_base64() -> None:
    body = write_response({"image_bytes": np.array([b"\xffhi"], object)}, by_row=True)
    assert parse(body) == {"predictions": [{"b64": "/2hp"}]}


UNWRITABLE: list[tuple[dict[str, Any], str]] = [
    ({}, "Cannot convert empty tensor map to JSON"),
    ({"y": F(1)}, "Tensor name: y has no shape information "),
    ({"a": F([1]), "b": F([1, 2])}, "Tensor name: b has inconsistent batch size: 2 expecting: 1"),
    ({"y": np.float16([1])}, "Failed to write JSON value for tensor type: half"),
]


@pytest.mark.parametrize(("outputs", "details"), UNWRITABLE)
def test_outputs_that_json_cannot_hold(outputs: dict[str, Any], details: str) -> None:
    with pytest.raises(StatusError) as caught:
        write_response(outputs, by_row=True)
    assert (caught.value.code, caught.value.details) == ("INVALID_ARGUMENT", details)


NESTED = st.recursive(
    st.sampled_from([0, 1, -1, 1.5, 2**31, 2**63, 2**64, 1e39, math.nan, True, None, "a", {}]) | st.integers(-200, 300),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=500, deadline=None)
@given(
    value=NESTED,
    key=st.sampled_from(["instances", "inputs"]),
    dtype=st.sampled_from(["float32", "float64", "int8", "uint8", "int32", "int64", "uint64", "bool", "string"]),
)
def test_the_fast_way_says_what_the_careful_one_says(value: Any, key: str, dtype: str) -> None:
    """Equal arrays, to the bit and in shape and dtype, or equal errors."""

    def outcome(body: bytes) -> Any:
        try:
            array = read(body, x=dtype)["x"]
        except StatusError as error:
            return error.code, error.details
        return array.shape, array.dtype, array.tolist() if array.dtype == object else array.tobytes()

    body = json.dumps({key: value}).encode()
    fast = outcome(body)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rest_json, "_read_regular", lambda *_: None)
        assert outcome(body) == fast
