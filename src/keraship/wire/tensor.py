"""numpy arrays to TensorProto and back.

A TensorProto holds its elements either in `tensor_content` (the memory, little-endian, row-major) or one by one in the
`*_val` field of its type. Reading follows TensorFlow's Tensor::FromProto (tensorflow/core/framework/tensor.cc):
tensor_content first; too few single values repeat the last one, none at all are zeros, surplus ones are ignored.
"""

from __future__ import annotations

import math
import sys
from typing import Any, Literal

import numpy as np

from keraship import dtypes
from keraship.dtypes import STRING, DType
from keraship.errors import InvalidArgument
from keraship.wire.messages import TensorProto

Array = np.ndarray[Any, Any]
Encoding = Literal["tensor_content", "values", "compact"]

MAX_BYTES = 2**31 - 1
"""No message can be larger, so no tensor is: a few bytes that claim to be terabytes are refused before memory is."""

_COMPLEX_PARTS: dict[str, np.dtype[Any]] = {"complex64": np.dtype("float32"), "complex128": np.dtype("float64")}


def to_tensor(array: Any, *, dtype: str | None = None, encoding: Encoding = "tensor_content", into: Any = None) -> Any:
    """A TensorProto that holds `array`.

    dtype: a name out of `keraship.dtypes`, for quantized types, which numpy holds as plain integers (int8 as qint8).
    encoding: "tensor_content" (fast), "values" (*_val, as TensorFlow Serving answers) or "compact" (*_val without the
    repeated values at the end). Strings have no useful tensor_content: they always go to string_val.
    into: the message to fill, for instance `request.inputs["images"]`; a new one without it.
    Raises InvalidArgument for arrays that no tensor can hold.
    """
    kind, array = as_elements(array, dtype)
    tensor = TensorProto() if into is None else into
    tensor.dtype = kind.number
    tensor.tensor_shape.SetInParent()  # a scalar's shape is present and empty
    for size in array.shape:
        tensor.tensor_shape.dim.add().size = size
    if kind is STRING:
        tensor.string_val.extend(_compact(array.reshape(-1), encoding))
        return tensor
    plain = np.ascontiguousarray(array).reshape(-1)
    if encoding == "tensor_content":
        tensor.tensor_content = _swap_on_big_endian(plain).tobytes()
    else:
        _write_values(tensor, kind, _compact(plain, encoding))
    return tensor


def as_elements(value: Any, dtype: str | None = None) -> tuple[DType, Array]:
    """The type that `value` goes over the wire as, and its elements in that type's numpy dtype; strings as bytes.

    dtype: as for to_tensor. Raises InvalidArgument for what no tensor can hold.
    """
    array = _as_array(value)
    kind = dtypes.of_array(array) if dtype is None else dtypes.by_name(dtype)
    return kind, _bytes_of(array) if kind is STRING else _cast(array, kind)


def to_array(tensor: Any, *, copy: bool = False) -> Array:
    """The numpy array that a TensorProto holds; strings come as an object array of bytes.

    The array is read-only where it shares the message's memory; copy=True makes one that can be written to.
    Raises InvalidArgument for a message that is no tensor: unknown dtype, impossible shape, wrong length of content.
    """
    kind = dtypes.by_number(tensor.dtype)
    shape, count = _shape_of(tensor, kind)
    if tensor.tensor_content:
        flat = _read_content(tensor.tensor_content, kind, count)
    else:
        flat = _fill(_read_values(tensor, kind), kind, count)
    try:
        array = flat.reshape(shape)
    except ValueError as error:  # more axes than numpy has, or empty with sizes beyond all memory
        raise InvalidArgument(f"expected a tensor of a shape that numpy has; got {list(shape)}: {error}") from error
    return array.copy() if copy else array


def _shape_of(tensor: Any, kind: DType) -> tuple[tuple[int, ...], int]:
    if tensor.tensor_shape.unknown_rank:
        raise InvalidArgument("expected a tensor of known shape; got one of unknown rank")
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    if any(size < 0 for size in shape):
        raise InvalidArgument(f"expected a tensor whose sizes are 0 or more; got shape {list(shape)}")
    count = math.prod(shape)
    if count * kind.numpy.itemsize > MAX_BYTES:
        raise InvalidArgument(f"expected a tensor of at most {MAX_BYTES} bytes; got {kind} {list(shape)}")
    return shape, count


def _read_content(content: bytes, kind: DType, count: int) -> Array:
    if kind is STRING:
        return _read_string_content(content, count)
    if len(content) != count * kind.numpy.itemsize:
        raise InvalidArgument(
            f"expected tensor_content of {count * kind.numpy.itemsize} bytes, for {count} x {kind}; got {len(content)}"
        )
    return _swap_on_big_endian(np.frombuffer(content, kind.numpy))


def _read_string_content(content: bytes, count: int) -> Array:
    """All lengths as varints, then all bytes (tensorflow/core/platform/tensor_coding.cc)."""
    lengths, position = [], 0
    for _ in range(count):
        length, position = _varint(content, position)
        lengths.append(length)
    if position + sum(lengths) != len(content):
        raise InvalidArgument(f"expected tensor_content of {count} strings; got {len(content)} bytes that hold others")
    strings = np.empty(count, object)
    for index, length in enumerate(lengths):
        strings[index] = content[position : position + length]
        position += length
    return strings


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 35, 7):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise InvalidArgument("expected tensor_content that starts with the strings' lengths; got bytes that hold none")


def _read_values(tensor: Any, kind: DType) -> Array:
    values = getattr(tensor, kind.field)
    if kind is STRING:
        strings = np.empty(len(values), object)
        strings[:] = list(values)
        return strings
    if kind.field == "half_val":  # 16 bits of a float, as an integer
        return np.array(values, np.int32).astype(np.uint16).view(kind.numpy)
    if kind.field == "float8_val":
        return np.frombuffer(values, kind.numpy)
    if kind.name in _COMPLEX_PARTS:
        parts = np.array(values, _COMPLEX_PARTS[kind.name])
        return parts[: len(parts) // 2 * 2].view(kind.numpy)
    if kind.field == "int_val":  # narrower types wrap, as TensorFlow's cast does
        return np.array(values, np.int32).astype(kind.numpy)
    return np.array(values, kind.numpy)


def _fill(values: Array, kind: DType, count: int) -> Array:
    if len(values) >= count:
        return values[:count]
    filled = np.empty(count, kind.numpy)
    filled[: len(values)] = values
    filled[len(values) :] = values[-1] if len(values) else (b"" if kind is STRING else 0)
    return filled


def _write_values(tensor: Any, kind: DType, flat: Array) -> None:
    if kind.field == "half_val":
        tensor.half_val.extend(flat.view(np.uint16).tolist())
    elif kind.field == "float8_val":
        tensor.float8_val = flat.tobytes()
    elif kind.name in _COMPLEX_PARTS:
        getattr(tensor, kind.field).extend(flat.view(_COMPLEX_PARTS[kind.name]).tolist())
    elif kind.field == "int_val":
        tensor.int_val.extend(flat.astype(np.int32).tolist())
    else:
        getattr(tensor, kind.field).extend(flat.tolist())


def _compact(flat: Array, encoding: Encoding) -> Array:
    """Without the values at the end that only repeat the one before them, where that is asked for."""
    if encoding != "compact" or len(flat) < 2:
        return flat
    # Bits are compared, not numbers: NaN repeats itself, and -0.0 is not 0.0.
    comparable = flat if flat.dtype == object else flat.view(f"V{flat.dtype.itemsize}")
    differs = np.nonzero(np.asarray(comparable[1:] != comparable[:-1], bool))[0]
    return flat[: differs[-1] + 2 if len(differs) else 1]


def _as_array(value: Any) -> Array:
    array = np.asarray(value)
    if array.dtype.kind in "SU" and not isinstance(value, np.ndarray):
        return np.asarray(value, object)  # numpy's own text types lose NULs at the end, and take numbers for text
    return array


def _cast(array: Array, kind: DType) -> Array:
    if array.dtype == kind.numpy:
        return array
    if array.dtype.newbyteorder("=") == kind.numpy:
        return array.astype(kind.numpy, copy=False)
    raise InvalidArgument(f"expected an array of {kind.numpy} to write as {kind}; got {array.dtype}")


def _bytes_of(array: Array) -> Array:
    flat = np.empty(array.size, object)
    flat[:] = [_as_bytes(item) for item in array.flat]
    return flat.reshape(array.shape)


def _as_bytes(item: Any) -> bytes:
    if isinstance(item, str):
        try:
            return item.encode()
        except UnicodeEncodeError as error:
            raise InvalidArgument(f"expected text that UTF-8 can hold: {error}") from error
    if isinstance(item, bytes):
        return bytes(item)
    raise InvalidArgument(f"expected strings or bytes in an array of objects; got {type(item).__name__}")


def _swap_on_big_endian(array: Array) -> Array:
    """tensor_content is little-endian whatever the machine is."""
    return array if sys.byteorder == "little" else array.byteswap()
