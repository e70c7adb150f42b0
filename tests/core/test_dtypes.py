"""The table of data types."""

from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest

from keraship import dtypes
from keraship.errors import InvalidArgument

NUMERIC = [dtype for dtype in dtypes.DTYPES if dtype is not dtypes.STRING]


def every_value(dtype: dtypes.DType) -> np.ndarray | None:
    """All values of a type of at most 16 bits."""
    kind = dtype.numpy
    if kind.name.endswith(("int2", "int4")):
        info = ml_dtypes.iinfo(kind)
        return np.arange(int(info.min), int(info.max) + 1).astype(kind)
    if kind.kind == "b":
        return np.array([False, True])
    if kind.itemsize > 2:
        return None
    return np.arange(256**kind.itemsize, dtype=f"uint{8 * kind.itemsize}").view(kind)


@pytest.mark.parametrize("have", [d for d in NUMERIC if every_value(d) is not None], ids=str)
def test_a_lossless_cast_is_one_that_changes_no_value(have: dtypes.DType) -> None:
    """Tried with every value that there is, signs of zeros and NaNs included, against every type."""
    values = every_value(have)
    assert values is not None
    with np.errstate(invalid="ignore"):  # signaling NaNs
        before = values.astype(np.float64)
    for want in NUMERIC:
        try:
            with np.errstate(all="ignore"):
                after = values.astype(want.numpy).astype(np.complex128).real
        except TypeError:  # ml_dtypes has no cast for some pairs of its types
            continue
        same = (before == after) & (np.signbit(before) == np.signbit(after)) | np.isnan(before) & np.isnan(after)
        assert dtypes.is_lossless(have, want) == bool(same.all()), want


def test_wide_types_lose_nothing_only_where_none_of_their_values_is_lost() -> None:
    """By the types, not as numpy has it: int64 has numbers that float64 has not."""
    wide = [d for d in NUMERIC if d.storage == "" and d.numpy.itemsize > 2]
    lossless = {(a.name, b.name) for a, b in itertools.permutations(wide, 2) if dtypes.is_lossless(a, b)}
    assert lossless == {
        ("int32", "int64"), ("uint32", "int64"), ("uint32", "uint64"),
        ("int32", "float64"), ("uint32", "float64"), ("int32", "complex128"), ("uint32", "complex128"),
        ("float32", "float64"), ("float32", "complex64"), ("float32", "complex128"),
        ("float64", "complex128"), ("complex64", "complex128"),
    }  # fmt: skip


@pytest.mark.parametrize("dtype", NUMERIC, ids=str)
def test_exact_integers_are_all_there(dtype: dtypes.DType) -> None:
    """The first and the last of the range survive the cast."""
    span = dtypes.exact_integers(dtype)
    numbers = [*span[:300], *span[-300:]]
    cast = np.array(numbers, object).astype(dtype.numpy)
    assert [int(item.real if dtype.numpy.kind == "c" else item) for item in cast] == numbers
    assert dtypes.has_fractions(dtype) == (not dtype.numpy.name.lstrip("u").startswith(("int", "bool")))


def test_arrays_have_the_type_of_their_numpy_dtype() -> None:
    """Texts of every kind are strings; what no tensor can hold is refused."""
    for dtype in NUMERIC:
        assert dtypes.of_array(np.empty(0, dtype.numpy)).numpy == dtype.numpy
    for text in ("S3", "U3", object):
        assert dtypes.of_array(np.empty(0, text)) is dtypes.STRING
    for other in ("M8[s]", "m8[s]", [("a", "i4")], "V3", np.longdouble):
        with pytest.raises(InvalidArgument, match="which no tensor can hold"):
            dtypes.of_array(np.empty(0, other))


def test_unknown_names_and_numbers_are_refused() -> None:
    """With TensorFlow's name where it has one."""
    with pytest.raises(InvalidArgument, match=r"expected a data type out of float32, .*; got 'float'"):
        dtypes.by_name("float")
    for number, name in ((0, "DT_INVALID"), (20, "DT_RESOURCE"), (21, "DT_VARIANT"), (101, "101"), (-1, "-1")):
        with pytest.raises(InvalidArgument, match=f"got {name}$"):
            dtypes.by_number(number)
