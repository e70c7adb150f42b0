"""What fits a signature, and what is said of what does not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keraship import dtypes
from keraship.errors import InvalidInput
from keraship.signature import Signature, TensorSpec, check, check_array, format_shape, shape_fits

NUMERIC = [dtype for dtype in dtypes.DTYPES if dtype is not dtypes.STRING]
PLAIN = [dtype for dtype in NUMERIC if dtype.numpy.isbuiltin == 1]


def spec(dtype: str, shape: tuple[int | None, ...] | None = None) -> TensorSpec:
    return TensorSpec("x", dtype, shape)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_cast_of_an_array_changes_no_value(data: st.DataObject) -> None:
    """Whatever is let through is equal to what was given; whatever could be changed is refused by its type."""
    have, want = data.draw(st.sampled_from(PLAIN)), data.draw(st.sampled_from(PLAIN))
    order = data.draw(st.sampled_from("<>"))
    array = data.draw(hnp.arrays(have.numpy.newbyteorder(order), hnp.array_shapes(min_dims=0, min_side=0)))
    if dtypes.is_lossless(have, want):
        checked = check_array(spec(want.name), array)
        assert checked.dtype == want.numpy
        assert checked.dtype.isnative
        np.testing.assert_array_equal(checked, array)
        pairs = zip(checked.ravel().tolist(), array.ravel().tolist(), strict=True)
        assert all(x == y or x != x for x, y in pairs)  # as Python compares them: exactly; NaN is not itself
    else:
        with pytest.raises(InvalidInput, match=f"'x' expects {want}.*got"):
            check_array(spec(want.name), array)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(NUMERIC), st.lists(st.integers(-(2**65), 2**65), min_size=1, max_size=3))
def test_literal_integers_stay_exact_or_are_refused(want: dtypes.DType, numbers: list[int]) -> None:
    """For every type: no rounding, no wrapping, no overflow."""
    try:
        checked = check_array(spec(want.name), numbers)
    except InvalidInput:
        return
    assert checked.dtype == want.numpy
    wide = np.int64 if "int" in checked.dtype.name else np.float64 if checked.dtype.kind != "c" else np.complex128
    exact = checked if checked.dtype == np.uint64 else checked.astype(wide)
    assert exact.tolist() == numbers


@given(st.sampled_from([d for d in PLAIN if d.numpy.kind in "iu"]), st.data())
def test_literals_within_range_are_taken(want: dtypes.DType, data: st.DataObject) -> None:
    """All integers that the type has, to the last; a mixture of small and huge ones too."""
    info = np.iinfo(want.numpy)
    low, high = int(info.min), int(info.max)
    numbers = [*data.draw(st.lists(st.integers(low, high), max_size=4)), low, high]
    assert check_array(spec(want.name), numbers).tolist() == numbers


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        ("float32", 0.1, np.float32(0.1)),
        ("float16", [0.1, 1], np.float16([0.1, 1])),
        ("int32", 2.0, np.int32(2)),
        ("bool", [True, 0], np.array([True, False])),
        ("complex64", 1 + 0.1j, np.complex64(1 + 0.1j)),
        ("float32", math.inf, np.float32(np.inf)),
        ("int64", [], np.empty(0, np.int64)),
        ("qint8", [[-128]], np.int8([[-128]])),
        ("string", "é", np.array("é".encode(), object)),
        ("string", [b"a\0", "b\0"], np.array([b"a\0", b"b\0"], object)),
        ("string", np.array([["a"]]), np.array([[b"a"]], object)),
    ],
)
def test_python_literals_take_the_signatures_type(dtype: str, value: object, expected: np.ndarray) -> None:
    """They have none of their own."""
    checked = check_array(spec(dtype), value)
    assert checked.dtype == np.asarray(expected).dtype
    assert checked.shape == np.shape(expected)
    assert checked.tolist() == np.asarray(expected).tolist()


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("int32", 1.5), ("int4", 1.5), ("int4", 8), ("uint8", -1), ("uint8", 256), ("bool", 2), ("int32", math.nan),
        ("int32", math.inf), ("float32", 1e39), ("float16", [1, 1e5]), ("float8_e4m3fn", 1e4), ("float32", 16777217),
        ("float32", 1j), ("int64", 2**63), ("float32", "1"), ("float32", None), ("int32", [1, "2"]), ("string", 1),
        ("string", [1, "a"]), ("string", [None]), ("string", "\ud800"), ("float32", [[1], [2, 3]]),
        ("string", [["a"], "b"]),
        ("float32", np.array(["2020"], "M8[D]")), ("float32", np.longdouble(1)), ("float32", np.float64(1)),
        ("float64", np.int64([1])), ("float32", [np.float64(1)]), ("float32", {"a": 1}), ("string", np.float32([1])),
    ],
)  # fmt: skip
def test_what_would_change_is_refused(dtype: str, value: object) -> None:
    """Values that the type does not have, arrays of other types, and what is no tensor at all."""
    with pytest.raises(InvalidInput, match=f"'x' expects {dtype}"):
        check_array(spec(dtype), value)


@given(hnp.array_shapes(min_dims=0, min_side=0, max_side=3), st.data())
def test_shapes_fit_where_every_known_size_does(actual: tuple[int, ...], data: st.DataObject) -> None:
    """None fits any size, or any rank."""
    expected = tuple(data.draw(st.sampled_from([None, size, size + 1])) for size in actual)
    fits = all(e is None or e == a for e, a in zip(expected, actual, strict=True))
    assert shape_fits(expected, actual) == fits
    assert shape_fits(None, actual)
    assert not shape_fits((*actual, None), actual)
    array = np.zeros(actual, np.float32)
    if fits:
        assert check_array(spec("float32", expected), array) is array
    else:
        with pytest.raises(InvalidInput, match="expects float32"):
            check_array(spec("float32", expected), array)


def test_every_mismatch_is_reported_at_once() -> None:
    """Names with the one that was meant, dtypes, shapes."""
    signature = Signature(
        (spec("float32", (None, 2)), TensorSpec("images", "uint8", (None,)), TensorSpec("mask", "bool", None)), ()
    )
    with pytest.raises(InvalidInput) as caught:
        check(signature, {"x": np.zeros(3, np.float32), "image": [1], "mask": np.int32([1]), 7: 1})
    message = str(caught.value)
    for part in (
        "no input 'image', did you mean 'images'? (inputs: x, images, mask)",
        "no input '7' (inputs",
        "input 'images' (uint8 [-1]) is missing",
        "'x' expects float32 [-1,2], got float32 [3]",
        "'mask' expects bool <unknown rank>, got int32 [1]; a cast to bool could change values",
    ):
        assert part in message


def test_arrays_that_fit_are_not_copied() -> None:
    """A check costs no memory."""
    array = np.zeros((2, 2), np.float32)
    assert check(Signature((spec("float32", (None, 2)),), ()), {"x": array})["x"] is array


def test_signatures_are_read_by_people() -> None:
    """Names, dtypes and shapes in one line."""
    assert str(Signature((spec("float32", (None, 2)),), (TensorSpec("y", "string", None),))) == (
        "(x: float32 [-1,2]) -> (y: string <unknown rank>)"
    )
    assert format_shape(()) == "[]"
