"""A predict request in TensorFlow Serving's JSON, to arrays; rest_answer has the way back.

Source of the rules and of the words: tensorflow_serving/util/json_tensor.cc.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from keraship import dtypes
from keraship.errors import InvalidArgument, StatusError, Unimplemented
from keraship.serving.backend import Array
from keraship.serving.json_numbers import Numbers, read_numbers
from keraship.serving.json_read import parse
from keraship.serving.json_text import debug, to_bytes, type_name
from keraship.serving.status import text
from keraship.signature import DEFAULT_SIGNATURE, Signature, TensorSpec


@dataclass(frozen=True)
class JsonRequest:
    """A predict request whose JSON is good; what its tensors are, only the model's signature can say.

    root: gives the whole request. numbers: what was read the fast way; the whole is read then only where that does not
    do for the signature.
    """

    signature_name: str
    by_row: bool
    root: Callable[[], Mapping[str, Any]]
    numbers: Numbers | None = None


def read_request(body: bytes) -> JsonRequest:
    """A request's body; raises InvalidArgument for text that is no JSON object."""
    numbers = read_numbers(body)
    if numbers is not None:
        return JsonRequest(numbers.signature_name, numbers.key == "instances", lambda: parse(body), numbers)
    root = parse(body)
    if not isinstance(root, dict):
        raise InvalidArgument(f"JSON Value: {debug(root)} Is not object")
    name = root.get("signature_name", "")
    if not isinstance(name, str):
        raise InvalidArgument(
            f"JSON Value: {debug(root)} not formatted correctly. 'signature_name' key must be a string value."
        )
    return JsonRequest(name, "instances" in root, lambda: root)


def read_inputs(request: JsonRequest, signatures: Mapping[str, Signature]) -> dict[str, Array]:
    """The arrays of a request, by name, in the dtypes of its signature; raises StatusError for what does not fit."""
    name = request.signature_name or DEFAULT_SIGNATURE
    if name not in signatures:
        raise InvalidArgument(f'Serving signature name: "{name}" not found in signature def')
    specs = {spec.name: spec for spec in signatures[name].inputs}
    if not specs:
        raise InvalidArgument(f"Failed to get input map for signature: {request.signature_name or 'DEFAULT'}")
    array = _from_numbers(request.numbers, specs) if request.numbers else None
    if array is not None:
        return dict.fromkeys(specs, array)
    root = request.root()
    if "instances" in root and "inputs" in root:
        raise InvalidArgument(
            f"JSON Value: {debug(root)} Not formatted correctly expecting only one of 'inputs' or 'instances' keys "
            "to exist "
        )
    if "instances" in root:
        return _read_rows(root, specs)
    if "inputs" in root:
        return _read_columns(root["inputs"], specs)
    raise InvalidArgument("Missing 'inputs' or 'instances' key")


def _from_numbers(numbers: Numbers, specs: Mapping[str, TensorSpec]) -> Array | None:
    """The only input's array; None where only the careful way can tell."""
    if len(specs) != 1:
        return None
    (spec,) = specs.values()
    if spec.dtype in ("float32", "float64"):
        with np.errstate(over="ignore"):  # a double that is too large for a float is infinite
            return numbers.doubles.astype(spec.dtype, copy=False)
    if spec.dtype not in ("int32", "int64"):
        return None
    integers = numbers.as_integers()
    if integers is None or (spec.dtype == "int32" and (integers.min() < -(2**31) or integers.max() >= 2**31)):
        return None
    return integers.astype(spec.dtype, copy=False)


def _read_rows(root: Mapping[str, Any], specs: Mapping[str, TensorSpec]) -> dict[str, Array]:
    rows = root["instances"]
    if not isinstance(rows, list):
        raise InvalidArgument(f"JSON Value: {debug(root)} Expecting 'instances' to be an list/array")
    if not rows:
        raise InvalidArgument(f"JSON Value: {debug(root)} No values in 'instances' array")
    if _is_object(rows[0]):
        return _read_object_rows(rows, specs)
    if len(specs) > 1:
        raise InvalidArgument(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    (spec,) = specs.values()
    array = _read_regular(rows, spec)
    return {spec.name: _read_plain_rows(rows, spec) if array is None else array}


def _read_plain_rows(rows: list[Any], spec: TensorSpec) -> Array:
    column = _Column(spec)
    for index, row in enumerate(rows):
        if _is_object(row):
            raise InvalidArgument(f"Expecting value/list but got object at item {index} of input list")
        with _Wrapped(f"Failed to process element: {index} of 'instances' list."):
            column.add(row)
    return column.array()


def _read_object_rows(rows: list[Any], specs: Mapping[str, TensorSpec]) -> dict[str, Array]:
    columns = {name: _Column(spec) for name, spec in specs.items()}
    for index, row in enumerate(rows):
        if not _is_object(row):
            raise InvalidArgument(f"Expecting object but got list at item {index} of input list")
        for name, value in row.items():
            with _Wrapped(f"Failed to process element: {index} key: {name} of 'instances' list."):
                if name not in columns:
                    raise InvalidArgument(f"JSON object: does not have named input: {name}")
                columns[name].add(value)
        if row.keys() != columns.keys():
            raise InvalidArgument(
                f"Failed to process element: {index} of 'instances' list. JSON object: {debug(row)} "
                f"keys must be equal to: {','.join(sorted(columns))}"
            )
    return {name: column.array() for name, column in columns.items()}


def _read_columns(value: Any, specs: Mapping[str, TensorSpec]) -> dict[str, Array]:
    if not _is_object(value):
        if len(specs) > 1:
            raise InvalidArgument(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        (spec,) = specs.values()
        return {spec.name: _read_tensor(value, spec)}
    for name in specs:
        if name not in value:
            raise InvalidArgument(f"Missing named input: {name} in 'inputs' object.")
    return {name: _read_tensor(value[name], spec) for name, spec in specs.items()}


class _Wrapped:
    """Errors inside say first which element they are of, and are the caller's whatever they were."""

    def __init__(self, where: str) -> None:
        self.where = where

    def __enter__(self) -> None:
        return None

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, StatusError):
            raise InvalidArgument(f"{self.where} Error: {text(error)}") from error


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


# A JSON value to the elements of a tensor.


class _Column:
    """One input's tensor, collected row by row: every row has the size and the shape of the first."""

    def __init__(self, spec: TensorSpec) -> None:
        self.spec = spec
        self.elements: list[Any] = []
        self.rows = 0
        self.size = 0
        self.shape: tuple[int, ...] = ()

    def add(self, value: Any) -> None:
        shape = _shape(value)
        elements = list(_elements(value, shape, _reader(self.spec)))
        if not self.rows:
            self.size, self.shape = len(elements), shape
        elif len(elements) != self.size:
            raise InvalidArgument(f"Expecting tensor size: {self.size} but got: {len(elements)}")
        elif shape != self.shape:
            raise InvalidArgument(f"Expecting shape {_show(self.shape)} but got: {_show(shape)}")
        self.rows += 1
        self.elements += elements

    def array(self) -> Array:
        return _array(self.elements, (self.rows, *self.shape), self.spec)


def _read_tensor(value: Any, spec: TensorSpec) -> Array:
    array = _read_regular(value, spec)
    if array is not None:
        return array
    shape = _shape(value)
    return _array(list(_elements(value, shape, _reader(spec))), shape, spec)


def _shape(value: Any) -> tuple[int, ...]:
    """The shape that the first element at each level promises."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return tuple(shape)


def _elements(value: Any, shape: tuple[int, ...], read: Callable[[Any], Any]) -> Iterator[Any]:
    """The elements of nested lists, in order; the first thing that does not fit `shape` or the dtype is the error."""
    rank = len(shape)
    open_: list[tuple[Any, int]] = [(value, 0)]
    while open_:
        item, level = open_.pop()
        if not isinstance(item, list):
            if level != rank:
                raise InvalidArgument(
                    f"JSON Value: {debug(item)} found at incorrect level: {level + 1} in the JSON DOM. "
                    f"Expected at level: {rank}"
                )
            yield read(item)
        elif level >= rank:
            raise InvalidArgument(f"Encountered list at unexpected level: {level} expected < {rank}")
        elif len(item) != shape[level]:
            raise InvalidArgument(
                f"Encountered list at unexpected size: {len(item)} at level: {level} expected size: {shape[level]}"
            )
        else:
            open_.extend((each, level + 1) for each in reversed(item))


def _array(elements: list[Any], shape: tuple[int, ...], spec: TensorSpec) -> Array:
    if len(shape) > _MAX_RANK:
        raise InvalidArgument(f"expected at most {_MAX_RANK} nested lists for '{spec.name}'; got {len(shape)}")
    want = dtypes.by_name(spec.dtype).numpy
    if want.kind == "O":
        flat = np.empty(len(elements), object)
        flat[:] = elements
    else:
        with np.errstate(over="ignore"):  # a double that is too large for a float is infinite
            flat = np.array(elements, _WIDE.get(spec.dtype, want)).astype(want)  # small integers wrap
    return flat.reshape(shape)


_MAX_RANK = 32  # numpy's limit before 2.0
_WIDE = {"int8": np.int64, "int16": np.int64, "uint8": np.int64}  # read as int32: -1 is 255 in uint8


# The fast way: regular lists of plain numbers, as nearly all requests are. It never decides that something is wrong.

_FAST: dict[str, set[type]] = {
    "float32": {int, float},
    "float64": {int, float},
    "int32": {int},
    "int64": {int},
    "bool": {bool},
}


def _read_regular(value: Any, spec: TensorSpec) -> Array | None:
    """The array, or None where only a careful look can tell."""
    if spec.dtype not in _FAST or not isinstance(value, list):
        return None
    level, shape = value, [len(value)]
    while level and type(level[0]) is list:
        if set(map(type, level)) != {list}:
            return None
        sizes = set(map(len, level))
        if len(sizes) != 1 or len(shape) == _MAX_RANK:
            return None
        shape.append(sizes.pop())
        level = list(chain.from_iterable(level))
    if not set(map(type, level)) <= _FAST[spec.dtype]:
        return None
    want = dtypes.by_name(spec.dtype).numpy
    if want.kind == "i" and level and not (np.iinfo(want).min <= min(level) and max(level) <= np.iinfo(want).max):
        return None
    with np.errstate(over="ignore"):
        return np.array(level, want).reshape(shape)


# One element.


def _reader(spec: TensorSpec) -> Callable[[Any], Any]:
    kind = dtypes.by_name(spec.dtype).tf_name
    accepts = _ACCEPTS.get(kind)

    def read(value: Any) -> Any:
        if accepts is None:
            raise Unimplemented(f"Conversion of JSON Value: {debug(value)} to type: {kind}")
        if kind == "string" and isinstance(value, dict):
            return read_base64(value)
        if not accepts(value):
            raise InvalidArgument(
                f"JSON Value: {debug(value)} Type: {type_name(value)} is not of expected type: {kind}"
            )
        return to_bytes(value) if isinstance(value, str) else value

    return read


def read_base64(value: Mapping[str, Any]) -> bytes:
    """The bytes of a {"b64": ...}; raises InvalidArgument."""
    if not _is_base64(value):
        raise InvalidArgument(f"JSON Value: {debug(value)} not formatted correctly for base64 data")
    compact = _BLANK.sub("", value["b64"])
    body = compact.rstrip("=")
    try:
        if len(compact) - len(body) > 2 or (compact != body and len(compact) % 4):
            raise binascii.Error("padding")
        return base64.b64decode(body + "=" * (-len(body) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidArgument("Unable to base64 decode") from error


_BLANK = re.compile(r"[ \t\r\n\f\v]")


def _is_integer(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and low <= value <= high


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


_is_int32 = _is_integer(-(2**31), 2**31 - 1)

# By TensorFlow's name of the dtype; what is not here cannot be written in JSON.
_ACCEPTS: dict[str, Callable[[Any], bool]] = {
    "float": _is_number,
    "double": _is_number,
    "int32": _is_int32,
    "int16": _is_int32,
    "int8": _is_int32,
    "uint8": _is_int32,
    "int64": _is_integer(-(2**63), 2**63 - 1),
    "uint32": _is_integer(0, 2**32 - 1),
    "uint64": _is_integer(0, 2**64 - 1),
    "bool": lambda value: isinstance(value, bool),
    "string": lambda value: isinstance(value, str),
}

WRITABLE = _ACCEPTS.keys()
"""The dtypes that JSON knows, by TensorFlow's names."""


def _show(shape: Sequence[int]) -> str:
    return "[" + ",".join(map(str, shape)) + "]"
