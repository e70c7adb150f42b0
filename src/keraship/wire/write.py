"""A PredictRequest's bytes without message objects: a head that is made once, and the arrays' own memory, joined once.

A message with tensor_content copies every array twice (into the message, into the bytes); this copies it once. The
fields and their numbers are those of tensorflow.proto and tensorflow_serving.proto beside this file.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from keraship.dtypes import STRING, DType, of_array
from keraship.errors import InvalidArgument

Array = np.ndarray[Any, Any]

MAX_BYTES = 2**31 - 1

_MODEL_SPEC, _INPUTS, _OUTPUT_FILTER = b"\x0a", b"\x12", b"\x1a"  # PredictRequest's fields, as tags
_KEY, _VALUE = b"\x0a", b"\x12"  # a map entry's
_DTYPE, _SHAPE, _CONTENT, _STRING = b"\x08", b"\x12", b"\x22", b"\x42"  # TensorProto's
_DIM, _SIZE = b"\x12", b"\x08"  # TensorShapeProto's, and its Dim's


def predict_head(model_spec: bytes, output_filter: Iterable[str] = ()) -> bytes:
    """The part of a PredictRequest that does not change from call to call; model_spec: a ModelSpec's bytes."""
    return _field(_MODEL_SPEC, model_spec) + b"".join(_field(_OUTPUT_FILTER, name.encode()) for name in output_filter)


def join_predict_request(head: bytes, tensors: Iterable[tuple[str, DType, Array]]) -> bytes:
    """The request: its head, and each tensor by name.

    The arrays have their DType's numpy dtype, in the machine's byte order; strings are bytes in an object array. Any
    memory layout and shape will do. Raises InvalidArgument for a request of 2 GiB or more, which no message can be.
    """
    parts: list[Any] = [head]
    size = len(head)
    for name, kind, array in tensors:
        if kind is STRING:
            start, memory = _strings(name, array)
            size += len(start) + len(memory)
        else:
            start, memory = _numbers_header(name, kind.number, array.shape, array.nbytes), _memory(array)
            size += len(start) + array.nbytes
        parts += (start, memory)
    if size > MAX_BYTES:
        raise InvalidArgument(f"expected a request of less than 2 GiB; it has {size} bytes: send fewer rows at a time")
    return b"".join(parts)


@dataclass(frozen=True)
class Template:
    """A request that was made, to be made again of arrays of the same names, dtypes and shapes.

    pieces: name, dtype and shape of each array, and the bytes before its memory.
    """

    pieces: tuple[tuple[str, np.dtype[Any], tuple[int, ...], bytes], ...]

    @classmethod
    def of(cls, body: bytes, arrays: Mapping[str, Any]) -> Template | None:
        """The template of `body`, made of `arrays` in their order; None where one is more than plain memory."""
        pieces, end = [], len(body)
        for name, array in reversed(list(arrays.items())):
            if not _is_plain(array):
                return None
            start = _header_of(name, array)
            at = end - array.nbytes - len(start)
            if at < 0 or body[at : at + len(start)] != start:
                return None
            pieces.append((name, array.dtype, array.shape, start))
            end = at
        if not pieces:
            return None
        name, dtype, shape, start = pieces[-1]
        pieces[-1] = (name, dtype, shape, body[:end] + start)
        return cls(tuple(reversed(pieces)))

    def fill(self, arrays: Mapping[str, Any]) -> bytes | None:
        """The request with these arrays; None where one is not as the template's was."""
        if len(arrays) != len(self.pieces):
            return None
        parts: list[Any] = []
        for name, dtype, shape, start in self.pieces:
            array = arrays.get(name)
            if type(array) is not np.ndarray or array.dtype != dtype or array.shape != shape:
                return None
            if not array.flags.c_contiguous:
                return None
            parts += (start, array)
        return b"".join(parts)


def _is_plain(array: Any) -> bool:
    """Whether its memory is what goes over the wire."""
    return (
        type(array) is np.ndarray
        and array.dtype.isbuiltin == 1
        and array.dtype.kind in "biufc"
        and array.nbytes > 0
        and sys.byteorder == "little"
    )


def _header_of(name: str, array: Array) -> bytes:
    return _numbers_header(name, of_array(array).number, array.shape, array.nbytes)


def _memory(array: Array) -> Any:
    """The elements as they go over the wire: row by row, little-endian."""
    if not array.nbytes:
        return b""
    plain = array if array.flags.c_contiguous else np.ascontiguousarray(array)
    if sys.byteorder == "big":
        plain = plain.byteswap()
    # numpy's own types can be joined as they are; ml_dtypes' have no buffer of their own.
    return plain if plain.dtype.isbuiltin == 1 else plain.reshape(-1).view(np.uint8)


def _strings(name: str, array: Array) -> tuple[bytes, bytes]:
    values = b"".join(_field(_STRING, item) for item in array.reshape(-1).tolist())
    start = _DTYPE + varint(STRING.number) + _shape(array.shape)
    return _entry_header(name.encode(), len(start) + len(values)) + start, values


@lru_cache(maxsize=4096)
def _numbers_header(name: str, number: int, shape: tuple[int, ...], nbytes: int) -> bytes:
    """All of a map entry that stands before the array's memory."""
    start = _DTYPE + varint(number) + _shape(shape)
    if nbytes:
        start += _CONTENT + varint(nbytes)
    return _entry_header(name.encode(), len(start) + nbytes) + start


def _entry_header(key: bytes, tensor_size: int) -> bytes:
    start = _field(_KEY, key) + _VALUE + varint(tensor_size)
    return _INPUTS + varint(len(start) + tensor_size) + start


def _shape(shape: tuple[int, ...]) -> bytes:
    return _field(_SHAPE, b"".join(_field(_DIM, _SIZE + varint(size) if size else b"") for size in shape))


def _field(tag: bytes, data: bytes) -> bytes:
    return tag + varint(len(data)) + data


def varint(value: int) -> bytes:
    """A number of 0 or more, seven bits a byte, the lowest first; the high bit says that more follow."""
    if value < 0x80:
        return bytes((value,))
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
