"""The named contract of a model: what goes in, what comes out; and whether given arrays keep it."""

from __future__ import annotations

import cmath
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from keraship import dtypes
from keraship.dtypes import DType
from keraship.errors import InvalidArgument, InvalidInput

PREDICT_METHOD = "tensorflow/serving/predict"
DEFAULT_SIGNATURE = "serving_default"

Array = np.ndarray[Any, Any]
Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class TensorSpec:
    """One input or output.

    name: what callers call it.
    dtype: a name out of `keraship.dtypes`, such as "float32".
    shape: None stands for a size (or, instead of the tuple, for a rank) that may vary from call to call.
    tensor: what the tensor is called inside the artifact ("images:0"); empty where it is called `name`.
    """

    name: str
    dtype: str
    shape: Shape | None
    tensor: str = ""

    def __str__(self) -> str:
        return f"{self.dtype} {format_shape(self.shape)}"


@dataclass(frozen=True)
class Signature:
    """One way to call a model: the tensors it takes and gives, in the model's order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    method_name: str = PREDICT_METHOD

    def __str__(self) -> str:
        sides = (", ".join(f"{spec.name}: {spec}" for spec in side) for side in (self.inputs, self.outputs))
        return "({}) -> ({})".format(*sides)


def check(signature: Signature, arrays: Mapping[str, Any]) -> dict[str, Array]:
    """The arrays that `signature` asks for, made of what the caller gave.

    arrays: input name -> array, or anything that numpy makes one of. An array is cast only where no value can change
    (uint8 to float32; not float64 to float32); Python numbers have no dtype yet and take the signature's.
    Raises InvalidInput, naming every mismatch at once: names, dtypes, shapes.

    >>> spec = TensorSpec("x", "float32", (None, 2))
    >>> check(Signature((spec,), ()), {"x": [[1, 2]]})["x"].dtype
    dtype('float32')
    """
    faults = _name_faults(signature, arrays)
    checked = {}
    for spec in signature.inputs:
        if spec.name in arrays:
            try:
                checked[spec.name] = check_array(spec, arrays[spec.name])
            except InvalidArgument as error:
                faults.append(error.details)
    if faults:
        raise InvalidInput("; ".join(faults))
    return checked


def check_array(spec: TensorSpec, value: Any) -> Array:
    """One array that fits `spec`, made of `value` by a cast that changes no value; raises InvalidInput."""
    want = dtypes.by_name(spec.dtype)
    if isinstance(value, np.ndarray) and value.dtype == want.numpy and want is not dtypes.STRING:
        if shape_fits(spec.shape, value.shape):
            return value
        raise InvalidInput(_expected(spec, value))
    array = _as_array(spec, value, want)
    if not shape_fits(spec.shape, array.shape):
        raise InvalidInput(_expected(spec, array))
    if want is dtypes.STRING:
        return _as_bytes(spec, array)
    if array.dtype.kind in "OSUT":
        raise InvalidInput(_expected(spec, array))
    if _is_literal(value):
        return _cast_literal(spec, array, value)
    if dtypes.is_lossless(_dtype_of(spec, array), want):
        return _cast_lossless(array, want)
    hint = f"a cast to {want} could change values: if that is meant, send array.astype('{want.numpy}')"
    raise InvalidInput(f"{_expected(spec, array)}; {hint}")


def shape_fits(expected: Shape | None, actual: tuple[int, ...]) -> bool:
    """Whether an array of shape `actual` may go where `expected` is declared."""
    if expected is None:
        return True
    return len(expected) == len(actual) and all(e is None or e == a for e, a in zip(expected, actual, strict=True))


def format_shape(shape: Shape | None) -> str:
    """A shape as TensorFlow writes it: `[-1,28,28]`, or `<unknown rank>`."""
    if shape is None:
        return "<unknown rank>"
    return "[" + ",".join("-1" if size is None else str(size) for size in shape) + "]"


def _name_faults(signature: Signature, arrays: Mapping[str, Any]) -> list[str]:
    if len(arrays) == len(signature.inputs) and all(spec.name in arrays for spec in signature.inputs):
        return []
    names = [spec.name for spec in signature.inputs]
    missing = [name for name in names if name not in arrays]
    faults = []
    for extra in (name for name in arrays if name not in names):
        near = difflib.get_close_matches(str(extra), missing or names, n=1)
        meant = f", did you mean '{near[0]}'?" if near else ""
        faults.append(f"the model has no input '{extra}'{meant} (inputs: {', '.join(names) or 'none'})")
    faults += [f"input '{spec.name}' ({spec}) is missing" for spec in signature.inputs if spec.name in missing]
    return faults


def _as_array(spec: TensorSpec, value: Any, want: DType) -> Array:
    try:
        if want is dtypes.STRING and not isinstance(value, np.ndarray):
            return np.asarray(value, object)  # numpy's own text types lose NULs at the end, and take numbers for text
        return np.asarray(value)
    except (ValueError, TypeError) as error:  # ragged lists; objects that refuse
        raise InvalidInput(f"'{spec.name}' expects {spec}, got a value that is no array: {error}") from error


def _dtype_of(spec: TensorSpec, array: Array) -> DType:
    try:
        return dtypes.of_array(array)
    except InvalidArgument as error:  # dates, records, wider floats than tensors have
        raise InvalidInput(_expected(spec, array)) from error


def _as_bytes(spec: TensorSpec, array: Array) -> Array:
    if array.dtype.kind in "SUT":
        array = array.astype(object)
    if array.dtype.kind != "O" or not all(isinstance(item, str | bytes) for item in array.flat):
        raise InvalidInput(_expected(spec, array))
    encoded = np.empty(array.shape, object)
    try:
        encoded.reshape(-1)[:] = [item.encode() if isinstance(item, str) else bytes(item) for item in array.flat]
    except UnicodeEncodeError as error:
        raise InvalidInput(f"'{spec.name}' expects {spec}, got text that UTF-8 cannot hold: {error}") from error
    return encoded


def _cast_literal(spec: TensorSpec, array: Array, value: Any) -> Array:
    """Python's numbers as the signature's type: integers stay exact, fractions are rounded where it has fractions."""
    want = dtypes.by_name(spec.dtype)
    if _is_within(array, want):
        return array.astype(want.numpy)
    numbers = np.asarray(value, object)  # Python compares integers and floats exactly, where numpy rounds both first
    try:
        with np.errstate(all="ignore"):
            cast: Array = numbers.astype(want.numpy)
    except (OverflowError, ValueError, TypeError) as error:
        raise InvalidInput(f"{_expected(spec, array)}; {spec.dtype} cannot hold it: {error}") from error
    pairs = zip(numbers.flat, _widened(cast).flat, strict=True)
    changed = next((number for number, now in pairs if not _is_kept(number, now)), None)
    if changed is not None:
        raise InvalidInput(f"{_expected(spec, array)}; {spec.dtype} cannot hold {changed!r}")
    return cast


def _is_within(array: Array, want: DType) -> bool:
    """Whether the size of the numbers is enough to know that each is kept; ten times as fast as to compare them."""
    if array.dtype.kind not in "iuf" or (array.dtype.kind == "f" and not dtypes.has_fractions(want)):
        return False
    exact = dtypes.exact_integers(want)
    return array.size == 0 or bool(exact.start <= array.min() and array.max() < exact.stop)


def _widened(array: Array) -> Array:
    """The same values as Python numbers; ml_dtypes' scalars would round what they are compared with."""
    if array.dtype.isbuiltin == 1:
        return array.astype(object)
    return array.astype(np.int64 if "int" in array.dtype.name else np.float64).astype(object)


def _is_kept(number: Any, now: Any) -> bool:
    if isinstance(number, float | complex) and isinstance(now, float | complex):
        return cmath.isfinite(number) <= cmath.isfinite(now)  # rounded, unless it became infinite
    return bool(number == now)


def _cast_lossless(array: Array, want: DType) -> Array:
    """In the machine's byte order, whatever the array's was."""
    with np.errstate(invalid="ignore"):  # signaling NaNs stay NaNs
        if array.dtype.kind == want.numpy.kind == "V" and array.dtype != want.numpy:
            array = array.astype(np.float64)  # ml_dtypes has casts between its own types for some pairs only
        return array.astype(want.numpy, copy=False)


def _is_literal(value: Any) -> bool:
    """Numbers, and lists of them, have no dtype of their own; arrays (and lists of arrays) do."""
    while isinstance(value, list | tuple):
        if not value:
            return True
        value = value[0]
    return isinstance(value, bool | int | float | complex) and not isinstance(value, np.generic)


def _expected(spec: TensorSpec, array: Array) -> str:
    kind = "string" if array.dtype.kind in "SUT" else str(array.dtype)
    return f"'{spec.name}' expects {spec}, got {kind} {format_shape(array.shape)}"
