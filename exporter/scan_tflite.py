"""What is dangerous in a TFLite model: operators outside of the standard, buffers that claim more than the file has.

A reader of the few flatbuffer tables that matter. Source: tensorflow/compiler/mlir/lite/schema/schema.fbs.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path

from keraship.danger import Finding, danger, notice
from keraship.errors import ModelError
from keraship.exporter import protobuf_walk
from keraship.exporter.tensorflow_ops import DANGEROUS, OF_CHECKPOINTS, OF_TABLES
from keraship.reasons import reason

MAGIC = b"TFL3"

_CUSTOM = 32  # of BuiltinOperator
_FLEX = "Flex"
_DENSEST = 8  # elements in a byte at the most
_MOST = 1 << 24  # elements of a vector
_REMEDY = "do not run it; convert the model again from its source"

# The fields' places in their tables.
_OPERATOR_CODES, _SUBGRAPHS, _BUFFERS = 1, 2, 4  # of Model
_DEPRECATED_CODE, _CUSTOM_CODE, _CODE = 0, 1, 3  # of OperatorCode
_TENSORS = 0  # of SubGraph
_SHAPE, _BUFFER, _NAME = 0, 2, 3  # of Tensor
_DATA, _OFFSET, _SIZE = 0, 1, 2  # of Buffer


def scan_tflite(path: Path) -> Iterator[Finding]:
    """Raises ModelError where the file is not whole."""
    try:
        data = protobuf_walk.mapped(path)
        root = _Table(data, _unsigned(data, 0))
        if not root.vector(_SUBGRAPHS):
            raise ValueError("it holds no graph")
        findings = [*_judge_operators(root), *_judge_tensors(root, len(data))]
    except (ValueError, struct.error) as error:
        raise ModelError(f"{path} is not a whole TFLite model ({reason(error)}); get the file anew") from error
    yield from findings


def _judge_operators(root: _Table) -> Iterator[Finding]:
    for code in root.tables(_OPERATOR_CODES):
        custom = code.text(_CUSTOM_CODE)
        name = custom.removeprefix(_FLEX)
        if custom.startswith(_FLEX) and name in {*DANGEROUS, *OF_CHECKPOINTS, *OF_TABLES}:
            yield danger("op", custom, f"TensorFlow's operation {name} reaches files, the network or code", _REMEDY)
        elif _CUSTOM in (code.number(_CODE, "<i"), code.number(_DEPRECATED_CODE, "<b")):
            remedy = "run it only with a library of operators that you know"
            yield notice("custom-op", custom, "it is an operator of a program library that must be loaded", remedy)


def _judge_tensors(root: _Table, size: int) -> Iterator[Finding]:
    buffers = root.tables(_BUFFERS)
    for index, buffer in enumerate(buffers):
        start, held = buffer.number(_OFFSET, "<Q"), buffer.number(_SIZE, "<Q")
        if start > 1 and start + held > size:
            claimed = f"it claims {held} bytes at {start}; the file has {size}"
            yield danger("oversize", f"buffer {index}", claimed, "get the whole file")
    for graph in root.tables(_SUBGRAPHS):
        for tensor in graph.tables(_TENSORS):
            index = tensor.number(_BUFFER, "<I")
            if not 0 <= index < max(1, len(buffers)):
                raise ValueError("a tensor names a buffer that is not there")
            held = buffers[index].held() if index else 0
            shape = tensor.integers(_SHAPE)
            if held and (min(shape, default=0) < 0 or math.prod(shape) > _DENSEST * held):
                claimed = f"it claims the shape {shape}; {held} bytes are there"
                yield danger("oversize", tensor.text(_NAME), claimed, "get the whole file")


class _Table:
    """A table of a flatbuffer. Every read is checked against the file's end: ValueError or struct.error."""

    def __init__(self, data: memoryview, start: int) -> None:
        self._data, self._start = data, start
        self._fields = start - _signed(data, start)
        if self._fields < 0:
            raise ValueError("a table lies ahead of the file")
        (self._size,) = struct.unpack_from("<H", data, self._fields)

    def number(self, field: int, format_: str) -> int:
        """A number; 0 where it is left out."""
        position = self._position(field)
        if not position:
            return 0
        (value,) = struct.unpack_from(format_, self._data, position)
        return int(value)

    def vector(self, field: int) -> int:
        """The length of a vector."""
        return self._vector(field, 1)[0]

    def tables(self, field: int) -> list[_Table]:
        """The tables of a vector."""
        length, start = self._vector(field, 4)
        places = [start + 4 * index for index in range(length)]
        return [_Table(self._data, place + _unsigned(self._data, place)) for place in places]

    def integers(self, field: int) -> list[int]:
        """A vector of 32-bit integers."""
        length, start = self._vector(field, 4)
        return list(struct.unpack_from(f"<{length}i", self._data, start))

    def text(self, field: int) -> str:
        """A string."""
        length, start = self._vector(field, 1)
        return bytes(self._data[start : start + min(length, 1 << 16)]).decode(errors="replace")

    def held(self) -> int:
        """The bytes of a buffer, in the table or behind it."""
        return self.vector(_DATA) or self.number(_SIZE, "<Q")

    def _vector(self, field: int, item: int) -> tuple[int, int]:
        position = self._position(field)
        if not position:
            return 0, 0
        start = position + _unsigned(self._data, position)
        length = _unsigned(self._data, start)
        if start + 4 + length * item > len(self._data) or (item > 1 and length > _MOST):
            raise ValueError("a list ends beyond the file")
        return length, start + 4

    def _position(self, field: int) -> int:
        entry = 4 + 2 * field
        if entry + 2 > self._size:
            return 0
        (offset,) = struct.unpack_from("<H", self._data, self._fields + entry)
        return self._start + int(offset) if offset else 0


def _unsigned(data: memoryview, position: int) -> int:
    return int(struct.unpack_from("<I", data, position)[0])


def _signed(data: memoryview, position: int) -> int:
    return int(struct.unpack_from("<i", data, position)[0])
