"""The data types that keraship knows: their names in TensorFlow, in numpy and on the wire, in one table.

Source of the numbers and of the wire fields: tensorflow/core/framework/types.proto and tensor.proto.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import Any

import numpy as np

from keraship.errors import InvalidArgument


@dataclass(frozen=True)
class DType:
    """One data type.

    name: as numpy and the manifest write it, `float32`.
    tf_name: as TensorFlow's messages write it, `float`; upper-cased after `DT_` it is the enum's name.
    number: TensorFlow's DataType.
    field: the TensorProto field that holds single values.
    storage: the numpy dtype's name, where it is not `name` (quantized types are plain integers in numpy).
    """

    name: str
    tf_name: str
    number: int
    field: str
    storage: str = ""

    @cached_property
    def numpy(self) -> np.dtype[Any]:
        """The numpy dtype that holds it; strings are objects (Python bytes)."""
        storage = self.storage or self.name
        if storage in _EXTENDED:
            import ml_dtypes  # 20 ms that only those types should cost

            storage = getattr(ml_dtypes, storage)
        dtype: np.dtype[Any] = np.dtype(storage)
        return dtype

    def __str__(self) -> str:
        return self.name


_EXTENDED = {
    "bfloat16", "float8_e5m2", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e4m3b11fnuz", "float8_e5m2fnuz",
    "int4", "uint4", "int2", "uint2",
}  # fmt: skip

DTYPES = (
    DType("float32", "float", 1, "float_val"),
    DType("float64", "double", 2, "double_val"),
    DType("int32", "int32", 3, "int_val"),
    DType("uint8", "uint8", 4, "int_val"),
    DType("int16", "int16", 5, "int_val"),
    DType("int8", "int8", 6, "int_val"),
    DType("string", "string", 7, "string_val", "object"),
    DType("complex64", "complex64", 8, "scomplex_val"),
    DType("int64", "int64", 9, "int64_val"),
    DType("bool", "bool", 10, "bool_val"),
    DType("qint8", "qint8", 11, "int_val", "int8"),
    DType("quint8", "quint8", 12, "int_val", "uint8"),
    DType("qint32", "qint32", 13, "int_val", "int32"),
    DType("bfloat16", "bfloat16", 14, "half_val"),
    DType("qint16", "qint16", 15, "int_val", "int16"),
    DType("quint16", "quint16", 16, "int_val", "uint16"),
    DType("uint16", "uint16", 17, "int_val"),
    DType("complex128", "complex128", 18, "dcomplex_val"),
    DType("float16", "half", 19, "half_val"),
    DType("uint32", "uint32", 22, "uint32_val"),
    DType("uint64", "uint64", 23, "uint64_val"),
    DType("float8_e5m2", "float8_e5m2", 24, "float8_val"),
    DType("float8_e4m3fn", "float8_e4m3fn", 25, "float8_val"),
    DType("float8_e4m3fnuz", "float8_e4m3fnuz", 26, "float8_val"),
    DType("float8_e4m3b11fnuz", "float8_e4m3b11fnuz", 27, "float8_val"),
    DType("float8_e5m2fnuz", "float8_e5m2fnuz", 28, "float8_val"),
    DType("int4", "int4", 29, "int_val"),
    DType("uint4", "uint4", 30, "int_val"),
    DType("int2", "int2", 31, "int_val"),
    DType("uint2", "uint2", 32, "int_val"),
)

BY_NAME = {dtype.name: dtype for dtype in DTYPES}
BY_NUMBER = {dtype.number: dtype for dtype in DTYPES}
STRING = BY_NAME["string"]

_TF_NAMES = {number: f"DT_{dtype.tf_name.upper()}" for number, dtype in BY_NUMBER.items()}
_TF_NAMES |= {0: "DT_INVALID", 20: "DT_RESOURCE", 21: "DT_VARIANT"}


def by_name(name: str) -> DType:
    """The data type called `name` in numpy's way, `float32`.

    Raises InvalidArgument for a name that is not in the table.
    """
    if name not in BY_NAME:
        raise InvalidArgument(f"expected a data type out of {', '.join(BY_NAME)}; got {name!r}")
    return BY_NAME[name]


def by_number(number: int) -> DType:
    """The data type with TensorFlow's number.

    Raises InvalidArgument for resources, variants and numbers that TensorFlow does not have.
    """
    if number not in BY_NUMBER:
        raise InvalidArgument(f"expected a tensor of numbers or strings; got {_TF_NAMES.get(number, number)}")
    return BY_NUMBER[number]


def is_lossless(have: DType, want: DType) -> bool:
    """Whether every value of `have` is a value of `want` too, so that a cast changes none.

    By the types alone, never by the values at hand: what goes today goes tomorrow. int64 to float64 is therefore no
    lossless cast, which numpy calls a safe one.
    """
    if STRING in (have, want) or have.numpy == want.numpy:
        return have.numpy == want.numpy
    return all(a <= b for a, b in zip(_values(have), _values(want), strict=True))


def exact_integers(dtype: DType) -> range:
    """A range of integers that the type has all of; the widest there is, give or take its ends."""
    _, negative, _, bits, _, _ = _values(dtype)
    return range(1 - 2**bits if negative else 0, 2**bits)


def has_fractions(dtype: DType) -> bool:
    """Whether it is a type of floating-point numbers, real or complex."""
    return _values(dtype)[4] > 0


def of_array(array: np.ndarray[Any, Any]) -> DType:
    """The data type of a numpy array: objects, bytes and text are strings.

    Raises InvalidArgument for dates, records and other dtypes that no tensor can hold.
    """
    return _of_dtype(array.dtype)


@lru_cache(maxsize=256)
def _of_dtype(dtype: np.dtype[Any]) -> DType:
    """numpy makes a dtype's name anew each time it is asked."""
    if dtype.kind in "OSUT":  # T: numpy's variable-width StringDType
        return STRING
    if dtype.name not in BY_NAME:
        raise InvalidArgument(
            f"expected an array of numbers, bools or strings; got numpy dtype {dtype}, which no tensor can hold"
        )
    return BY_NAME[dtype.name]


@cache
def _values(dtype: DType) -> tuple[int, ...]:
    """Which numbers a type has; where each item is at most another type's, that type has them all.

    (imaginary?, negative?, infinite?, significant bits, bits below the point, bits above it)
    """
    if dtype.numpy.kind == "b":
        return 0, 0, 0, 1, 0, 1
    name = dtype.storage or dtype.name
    if name.lstrip("u").startswith("int"):
        signed = int(not name.startswith("u"))
        bits = int(name.lstrip("uint")) - signed
        return 0, signed, 0, bits, 0, bits
    info = _finfo(dtype)
    is_complex, has_infinity = int(dtype.numpy.kind == "c"), int(not name.endswith(("fn", "fnuz")))
    return is_complex, 1, has_infinity, info.nmant + 1, info.nmant - info.minexp, info.maxexp


def _finfo(dtype: DType) -> Any:
    if dtype.name not in _EXTENDED:
        return np.finfo(dtype.numpy)
    import ml_dtypes  # as above

    return ml_dtypes.finfo(dtype.numpy)  # type: ignore[no-untyped-call]  # ml_dtypes' stubs leave its arguments out
