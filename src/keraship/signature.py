"""The named contract of a model: what goes in, what comes out; and whether given arrays keep it."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from keraship import dtypes
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
    array = _as_array(spec, value)
    if not shape_fits(spec.shape, array.shape):
        raise InvalidInput(_expected(spec, array))
    want = dtypes.by_name(spec.dtype)
    if want is dtypes.STRING:
        return _as_bytes(spec, array)
    have = dtypes.of_array(array)
    if have.numpy == want.numpy:
        return array.astype(want.numpy, copy=False)  # a foreign byte order becomes the machine's
    if have is not dtypes.STRING and (_is_literal(value) or np.can_cast(array.dtype, want.numpy, casting="safe")):
        return _cast_literal(spec, array, want.numpy)
    hint = ""
    if have is not dtypes.STRING:
        hint = f"; a cast to {want} could change values: if that is meant, send array.astype('{want}')"
    raise InvalidInput(_expected(spec, array) + hint)


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
    names = [spec.name for spec in signature.inputs]
    missing = [name for name in names if name not in arrays]
    faults = []
    for extra in (name for name in arrays if name not in names):
        near = difflib.get_close_matches(extra, missing or names, n=1)
        meant = f", did you mean '{near[0]}'?" if near else ""
        faults.append(f"the model has no input '{extra}'{meant} (inputs: {', '.join(names) or 'none'})")
    faults += [f"input '{spec.name}' ({spec}) is missing" for spec in signature.inputs if spec.name in missing]
    return faults


def _as_array(spec: TensorSpec, value: Any) -> Array:
    try:
        return np.asarray(value)
    except (ValueError, TypeError) as error:  # ragged lists; objects that refuse
        raise InvalidInput(f"'{spec.name}' expects {spec}, got a value that is no array: {error}") from error


def _as_bytes(spec: TensorSpec, array: Array) -> Array:
    if array.dtype.kind in "SUT":
        array = array.astype(object)
    if array.dtype.kind != "O" or not all(isinstance(item, str | bytes) for item in array.flat):
        raise InvalidInput(_expected(spec, array))
    encoded = np.empty(array.shape, object)
    encoded.reshape(-1)[:] = [item.encode() if isinstance(item, str) else item for item in array.flat]
    return encoded


def _cast_literal(spec: TensorSpec, array: Array, want: np.dtype[Any]) -> Array:
    """A cast that keeps the values: always so for arrays that came this far, looked at for Python numbers."""
    with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore", category=np.exceptions.ComplexWarning):
        cast = array.astype(want)
    rounding_is_fine = array.dtype.kind == "f" and want.kind not in "biu"
    if not rounding_is_fine and not np.array_equal(cast, array):
        raise InvalidInput(f"{_expected(spec, array)}; {array.reshape(-1)[:3].tolist()} ... does not fit {spec.dtype}")
    return cast


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
