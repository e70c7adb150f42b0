"""Arrays to the answer of a prediction in TensorFlow Serving's JSON, to the byte.

Source of the layout and of the numbers' form: tensorflow_serving/util/json_tensor.cc.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping

import numpy as np

from keraship import dtypes
from keraship.errors import InvalidArgument
from keraship.serving.backend import Array
from keraship.serving.json_text import indent, quote, to_bytes, to_text
from keraship.serving.rest_json import WRITABLE


def write_response(outputs: Mapping[str, Array], *, by_row: bool) -> bytes:
    """The answer's body; raises InvalidArgument for outputs that this format cannot hold."""
    if not outputs:
        raise InvalidArgument("Cannot convert empty tensor map to JSON")
    return to_bytes(_write_rows(outputs) if by_row else _write_columns(outputs))


def _write_rows(outputs: Mapping[str, Array]) -> str:
    _check_rows(outputs)
    first = next(iter(outputs.values()))
    if len(outputs) == 1:
        (name,) = outputs
        rows = _on_one_line(_texts(name, first, level=1 + first.ndim), first.shape)
        body = ", ".join(rows)
    else:
        columns = {
            name: _on_one_line(_texts(name, array, level=2 + array.ndim), array.shape)
            for name, array in outputs.items()
        }
        body = ",".join(
            _write_object(dict(zip(columns, row, strict=True)), 2) for row in zip(*columns.values(), strict=True)
        )
    return '{\n    "predictions": [' + (body + indent(1) if len(first) else "") + "]\n}"


def _write_object(members: Mapping[str, str], level: int) -> str:
    lines = ",".join(f"{indent(level + 1)}{quote(name)}: {value}" for name, value in members.items())
    return f"{indent(level)}{{{lines}{indent(level)}}}"


def _check_rows(outputs: Mapping[str, Array]) -> None:
    size = None
    for name, array in outputs.items():
        if not array.ndim:
            raise InvalidArgument(f"Tensor name: {name} has no shape information ")
        if size not in (None, len(array)):
            raise InvalidArgument(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {size}")
        size = len(array)


def _write_columns(outputs: Mapping[str, Array]) -> str:
    if len(outputs) == 1:
        ((name, array),) = outputs.items()
        value = _on_lines(_texts(name, array, level=1 + array.ndim), array.shape, level=1)
    else:
        members = ",".join(
            f"{indent(2)}{quote(name)}: " + _on_lines(_texts(name, array, level=2 + array.ndim), array.shape, level=2)
            for name, array in outputs.items()
        )
        value = f"{{{members}{indent(1)}}}"
    return f'{{\n    "outputs": {value}\n}}'


def _on_one_line(texts: list[str], shape: tuple[int, ...]) -> list[str]:
    """The rows of an array, each on one line."""
    return _grouped(texts, shape, 1, lambda group, _axis: f"[{', '.join(group)}]")


def _on_lines(texts: list[str], shape: tuple[int, ...], level: int) -> str:
    """An array with every element on a line of its own."""

    def write(group: list[str], axis: int) -> str:
        inner = indent(level + axis + 1)
        return f"[{inner}{f',{inner}'.join(group)}{indent(level + axis)}]" if group else "[]"

    (whole,) = _grouped(texts, shape, 0, write)
    return whole


def _grouped(
    texts: list[str], shape: tuple[int, ...], down_to: int, write: Callable[[list[str], int], str]
) -> list[str]:
    """Elements put together to lists from the innermost axis outwards, until `down_to` axes are left."""
    for axis in range(len(shape) - 1, down_to - 1, -1):
        size, count = shape[axis], int(np.prod(shape[:axis]))
        texts = [write(texts[index * size : (index + 1) * size], axis) for index in range(count)]
    return texts


def _texts(name: str, array: Array, *, level: int) -> list[str]:
    """Every element as JSON, in order; level: the depth at which they stand."""
    kind = dtypes.of_array(array)
    flat = array.reshape(-1)
    if kind is dtypes.STRING:
        return (
            [_base64(item, level) for item in flat]
            if name.endswith("_bytes")
            else [quote(to_text(item)) for item in flat]
        )
    if kind.name in ("float32", "float64"):
        return decimals(flat)
    if kind.tf_name not in WRITABLE:
        raise InvalidArgument(f"Failed to write JSON value for tensor type: {kind.tf_name}")
    return [str(item).lower() for item in flat.tolist()]


def _base64(item: bytes, level: int) -> str:
    return f'{{{indent(level + 1)}"b64": "{base64.b64encode(item).decode()}"{indent(level)}}}'


def decimals(flat: Array) -> list[str]:
    """The texts of floats: six digits where they read back as the same number, and all digits where not."""
    values = flat.tolist()
    texts = [f"{value:g}" for value in values]
    all_digits = "%.9g" if flat.dtype == np.float32 else "%.17g"
    with np.errstate(over="ignore"):
        back = np.array([float(each) for each in texts], np.float64).astype(flat.dtype)
    for index in np.nonzero(back != flat)[0].tolist():
        texts[index] = all_digits % values[index]
    return [each if "." in each or "e" in each else _WHOLE.get(each) or f"{each}.0" for each in texts]


_WHOLE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
