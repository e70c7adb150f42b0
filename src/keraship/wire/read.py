"""The arrays of a PredictResponse or PredictRequest without message objects: views of the bytes that came.

TensorFlow Serving answers in `*_val` fields, which protobuf turns into one Python number after the other: 10 ms for
600 KB, where a look at the same bytes costs 20 us. This walks the message by hand as long as it is of the plain form
that servers write. Whatever is not (unknown fields, packed values in pieces, fewer values than elements, bytes that are
cut) is no error here: the answer is None, and protobuf reads it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from keraship.dtypes import BY_NUMBER, STRING, DType
from keraship.wire.tensor import MAX_BYTES

Array = np.ndarray[Any, Any]

_Span = tuple[int, int]  # where a field's bytes start and end

_OUTPUTS, _MODEL_SPEC = 0x0A, 0x12  # PredictResponse's fields, as tags
_REQUEST_SPEC, _INPUTS, _OUTPUT_FILTER = 0x0A, 0x12, 0x1A  # PredictRequest's
_KEY, _VALUE = 0x0A, 0x12  # a map entry's
_DTYPE, _SHAPE, _CONTENT, _STRING = 0x08, 0x12, 0x22, 0x42  # TensorProto's
_DIM, _SIZE = 0x12, 0x08  # TensorShapeProto's, and its Dim's

# TensorProto's packed fields by tag; those above 15 have a tag of two bytes, here as varints are.
_VALUES = {
    0x2A: "float_val", 0x32: "double_val", 0x3A: "int_val", 0x4A: "scomplex_val", 0x52: "int64_val", 0x5A: "bool_val",
    0x62: "dcomplex_val", 0x6A: "half_val", 0x82: "uint32_val", 0x8A: "uint64_val", 0x92: "float8_val",
}  # fmt: skip
_TAG_GOES_ON = 0x80
_MAX_VARINT, _MAX_LENGTH = 10, 5


class _Unusual(Exception):  # noqa: N818  # never leaves this file
    """Something that protobuf has to judge."""


def read_predict_response(data: bytes) -> tuple[dict[str, Array], bytes] | None:
    """The outputs by name, and the ModelSpec's bytes; None for a message that this does not read.

    The arrays are read-only views of `data`, where the encoding allows it (all but integers in `*_val`, and strings).
    """
    if sys.byteorder == "big":
        return None
    layout = _LAYOUTS.get(len(data))
    if layout is not None and all(data[start:end] == known for start, end, known in layout.constant):
        return {view.name: view.of(data) for view in layout.views}, layout.spec
    read = _walk(data)
    if read is not None:
        _remember(data, *read)
    return read


def read_predict_request(data: bytes) -> tuple[dict[str, Array], bytes, list[str]] | None:
    """The inputs by name, the ModelSpec's bytes and the output_filter; None for a message that this does not read.

    The arrays are as those of `read_predict_response`. A request without a ModelSpec is one that this does not read.
    """
    if sys.byteorder == "big":
        return None
    inputs: dict[str, Array] = {}
    spec: bytes | None = None
    names: list[str] = []
    try:
        for tag, start, end in _fields(data, 0, len(data)):
            if tag == _INPUTS:
                name, array = _read_entry(data, start, end)
                if name in inputs:
                    return None
                inputs[name] = array
            elif tag == _OUTPUT_FILTER:
                names.append(data[start:end].decode())
            elif tag == _REQUEST_SPEC and spec is None:
                spec = data[start:end]
            else:
                return None
    except (_Unusual, IndexError, UnicodeDecodeError, ValueError):
        return None
    return None if spec is None else (inputs, spec, names)


@dataclass(frozen=True)
class _View:
    """An output that is a piece of the message."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    count: int
    start: int

    def of(self, data: bytes) -> Array:
        return np.frombuffer(data, self.dtype, self.count, self.start).reshape(self.shape)


@dataclass(frozen=True)
class _Layout:
    """Where the outputs lie in a message, and all bytes around them: a message with the same bytes there is alike."""

    constant: tuple[tuple[int, int, bytes], ...]
    views: tuple[_View, ...]
    spec: bytes


# A model answers alike over and over: the last layout of each length is kept, and compared byte by byte.
_LAYOUTS: dict[int, _Layout] = {}
_MAX_LAYOUTS, _MAX_CONSTANT = 256, 4096


def _remember(data: bytes, outputs: dict[str, Array], spec: bytes) -> None:
    """Keep the layout of a message whose outputs are all views of it."""
    if not data:
        return
    address = _address(np.frombuffer(data, np.uint8))
    views, constant, at = [], [], 0
    for name, array in sorted(outputs.items(), key=lambda item: _address(item[1])):
        start = _address(array) - address
        if array.dtype == object or not array.size or not at <= start <= len(data) - array.nbytes:
            return
        views.append(_View(name, array.dtype, array.shape, array.size, start))
        constant.append((at, start, data[at:start]))
        at = start + array.nbytes
    constant.append((at, len(data), data[at:]))
    if any(array.dtype == np.bool_ for array in outputs.values()):
        return  # of these the bytes are looked at
    if sum(len(known) for _, _, known in constant) > _MAX_CONSTANT:
        return
    if len(_LAYOUTS) >= _MAX_LAYOUTS:
        _LAYOUTS.clear()
    _LAYOUTS[len(data)] = _Layout(tuple(constant), tuple(views), spec)


def _address(array: Array) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def _walk(data: bytes) -> tuple[dict[str, Array], bytes] | None:
    outputs: dict[str, Array] = {}
    spec: bytes | None = None
    try:
        for tag, start, end in _fields(data, 0, len(data)):
            if tag == _OUTPUTS:
                name, array = _read_entry(data, start, end)
                if name in outputs:
                    return None
                outputs[name] = array
            elif tag == _MODEL_SPEC and spec is None:
                spec = data[start:end]
            else:
                return None
    except (_Unusual, IndexError, UnicodeDecodeError, ValueError):
        return None
    return outputs, spec or b""


def _fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The tag of each field, and where its bytes start and end (a number: its value, and 0)."""
    while at < end:
        tag = data[at]
        at += 1
        if tag >= _TAG_GOES_ON:
            if data[at] != 1 or tag not in _VALUES:
                raise _Unusual
            at += 1
        if tag & 7 == 2:
            size = data[at]
            at += 1
            if size >= 0x80:
                size, at = _read_varint(data, at - 1, _MAX_LENGTH)
            stop = at + size
            if stop > end:
                raise _Unusual
            yield tag, at, stop
            at = stop
        elif tag & 7 == 0:
            value, at = _read_varint(data, at, _MAX_VARINT)
            yield tag, value, 0
        else:
            raise _Unusual
    if at != end:
        raise _Unusual


def _read_varint(data: bytes, at: int, longest: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 7 * longest, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= 2**64:
                raise _Unusual
            return value, at
    raise _Unusual


def _read_entry(data: bytes, at: int, end: int) -> tuple[str, Array]:
    spans: dict[int, _Span] = {}
    for tag, start, stop in _fields(data, at, end):
        if tag in spans or tag not in (_KEY, _VALUE):
            raise _Unusual
        spans[tag] = start, stop
    if len(spans) != 2:
        raise _Unusual
    start, stop = spans[_KEY]
    return data[start:stop].decode(), _read_tensor(data, *spans[_VALUE])


def _read_tensor(data: bytes, at: int, end: int) -> Array:
    spans: dict[int, _Span] = {}
    strings: list[bytes] = []
    for tag, start, stop in _fields(data, at, end):
        if tag == _STRING:
            strings.append(data[start:stop])
        elif tag in spans:
            raise _Unusual
        else:
            spans[tag] = start, stop
    kind = BY_NUMBER.get(spans.pop(_DTYPE, (0, 0))[0])
    if kind is None:
        raise _Unusual
    shape = _read_shape(data, *spans.pop(_SHAPE, (0, 0)))
    count = math.prod(shape)
    if count * kind.numpy.itemsize > MAX_BYTES:
        raise _Unusual
    return _read_elements(data, kind, count, spans, strings).reshape(shape)


def _read_shape(data: bytes, at: int, end: int) -> tuple[int, ...]:
    sizes = []
    for tag, start, stop in _fields(data, at, end):
        if tag != _DIM:
            raise _Unusual
        dim = [(each, size) for each, size, _ in _fields(data, start, stop)]
        if dim == []:
            sizes.append(0)
        elif len(dim) == 1 and dim[0][0] == _SIZE and dim[0][1] < 2**63:
            sizes.append(dim[0][1])
        else:
            raise _Unusual
    return tuple(sizes)


def _read_elements(data: bytes, kind: DType, count: int, spans: dict[int, _Span], strings: list[bytes]) -> Array:
    if kind is STRING:
        if spans or len(strings) != count:
            raise _Unusual
        array = np.empty(count, object)
        array[:] = strings
        return array
    if strings or len(spans) > 1 or (not spans and count):
        raise _Unusual
    for tag, (start, end) in spans.items():
        if tag == _CONTENT:
            return _view(data, start, end, count, kind)
        if _VALUES.get(tag) == kind.field:
            return _READERS[kind.field](data, start, end, count, kind)
        raise _Unusual
    return np.empty(0, kind.numpy)


def _view(data: bytes, start: int, end: int, count: int, kind: DType) -> Array:
    if end - start != count * kind.numpy.itemsize or not count:
        raise _Unusual
    return np.frombuffer(data, kind.numpy, count, start)


def _read_int32(data: bytes, start: int, end: int, count: int, kind: DType) -> Array:
    return _low_bits(data, start, end, count).astype(kind.numpy)


def _read_half(data: bytes, start: int, end: int, count: int, kind: DType) -> Array:
    return _low_bits(data, start, end, count).astype(np.uint16).view(kind.numpy)


def _read_int64(data: bytes, start: int, end: int, count: int, kind: DType) -> Array:
    return _varints(data, start, end, count).view(kind.numpy)


def _read_uint32(data: bytes, start: int, end: int, count: int, kind: DType) -> Array:
    return _varints(data, start, end, count).astype(kind.numpy)


def _read_bool(data: bytes, start: int, end: int, count: int, kind: DType) -> Array:
    raw = np.frombuffer(data, np.uint8, end - start, start)
    if len(raw) != count or (count and raw.max() > 1):
        raise _Unusual
    return raw.view(kind.numpy)


_READERS: dict[str, Callable[[bytes, int, int, int, DType], Array]] = {
    "float_val": _view,
    "double_val": _view,
    "scomplex_val": _view,
    "dcomplex_val": _view,
    "float8_val": _view,
    "int_val": _read_int32,
    "half_val": _read_half,
    "int64_val": _read_int64,
    "uint32_val": _read_uint32,
    "uint64_val": _read_int64,
    "bool_val": _read_bool,
}


def _low_bits(data: bytes, start: int, end: int, count: int) -> Array:
    return _varints(data, start, end, count).astype(np.uint32).view(np.int32)


def _varints(data: bytes, start: int, end: int, count: int) -> Array:
    """Packed varints, all at once: the bytes below 0x80 are the last of their number.

    Returns uint64 [count].
    """
    raw = np.frombuffer(data, np.uint8, end - start, start)
    is_last = raw < 0x80
    if len(raw) == count:  # nothing above 127
        if not is_last.all():
            raise _Unusual
        return raw.astype(np.uint64)
    last = np.flatnonzero(is_last)
    if len(last) != count or not count or last[-1] != len(raw) - 1:
        raise _Unusual
    first = np.empty_like(last)
    first[0], first[1:] = 0, last[:-1] + 1
    lengths = last - first + 1
    longest = int(lengths.max())
    if longest > _MAX_VARINT or (longest == _MAX_VARINT and raw[last[lengths == _MAX_VARINT]].max() > 1):
        raise _Unusual
    values = (raw[first] & 0x7F).astype(np.uint64)
    for index in range(1, longest):
        has = np.flatnonzero(lengths > index)
        values[has] |= (raw[first[has] + index] & 0x7F).astype(np.uint64) << np.uint64(7 * index)
    return values
