"""TFRecord files, read and written without TensorFlow.

A record is: its length (8 bytes), a masked CRC-32C of those, the data, a masked CRC-32C of the data; little-endian
(tensorflow/core/lib/io/record_writer.h).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from keraship.errors import DataLoss
from keraship.serving.backend import Array

_POLYNOMIAL = 0x82F63B78  # Castagnoli, bits reversed
_MASK = 0xA282EAD8
_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")

_LANE = 1024  # bytes whose CRCs are computed side by side in a large record


def read_records(path: Path) -> Iterator[bytes]:
    """The records of a file, in order; raises DataLoss, in TensorFlow's words, where one is cut short or corrupted.

    A header that is cut short counts as the end of the file, as it does for TensorFlow.
    """
    with path.open("rb") as file:
        offset = 0
        while len(header := file.read(_HEADER.size)) == _HEADER.size:
            length, checksum = _HEADER.unpack(header)
            if masked_crc32c(header[:8]) != checksum:
                what = " (Is this even a TFRecord file?)" if offset == 0 else ""
                raise DataLoss(f"corrupted record at {offset}{what}")
            body = file.read(length + _FOOTER.size)
            if len(body) < length + _FOOTER.size:
                raise DataLoss(f"truncated record at {offset}' failed with Read less bytes than requested")
            if masked_crc32c(body[:length]) != _FOOTER.unpack(body[length:])[0]:
                raise DataLoss(f"corrupted record at {offset + _HEADER.size}")
            yield body[:length]
            offset += _HEADER.size + length + _FOOTER.size


def record(data: bytes) -> bytes:
    """The bytes of one record."""
    length = struct.pack("<Q", len(data))
    return b"".join([length, _FOOTER.pack(masked_crc32c(length)), data, _FOOTER.pack(masked_crc32c(data))])


def masked_crc32c(data: bytes) -> int:
    """The checksum that stands beside the data: the CRC, rotated, so that a CRC of data with CRCs stays good."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + _MASK) & 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli) of `data`; 0xE3069283 for b"123456789"."""
    crc, start = 0xFFFFFFFF, 0
    if len(data) >= _LANE * 8:
        crc, start = _lanes(data, crc)
    table = _TABLE
    for byte in data[start:]:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _lanes(data: bytes, crc: int) -> tuple[int, int]:
    """The CRC's state after the pieces of _LANE bytes that `data` starts with, and where they end.

    A CRC is linear: each piece's own, all computed side by side, goes on top of what the zeros of its length make of
    the state before it.
    """
    count = len(data) // _LANE
    pieces = np.frombuffer(data, np.uint8, count * _LANE).reshape(count, _LANE)
    shift = _shift()
    for own in _step(np.zeros(count, np.uint32), pieces).tolist():
        crc = shift[0][crc & 0xFF] ^ shift[1][crc >> 8 & 0xFF] ^ shift[2][crc >> 16 & 0xFF] ^ shift[3][crc >> 24] ^ own
    return crc, count * _LANE


@lru_cache(maxsize=1)
def _shift() -> list[list[int]]:
    """What _LANE zeros make of a state, by each of its four bytes."""
    states = (np.arange(256, dtype=np.uint32) << np.arange(0, 32, 8, dtype=np.uint32)[:, None]).reshape(-1)
    shifted = _step(states, np.zeros((1024, _LANE), np.uint8)).reshape(4, 256)
    tables: list[list[int]] = shifted.tolist()
    return tables


def _step(states: Array, pieces: Array) -> Array:
    """The states after all bytes; pieces: [states, bytes]."""
    table = np.array(_TABLE, np.uint32)
    for column in np.ascontiguousarray(pieces.T):
        states = table[(states ^ column) & 0xFF] ^ (states >> 8)
    return states


def _table_entry(value: int) -> int:
    for _ in range(8):
        value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
    return value


_TABLE = [_table_entry(value) for value in range(256)]
