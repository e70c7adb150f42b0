"""TFRecord files, read without TensorFlow.

A record is: its length (8 bytes), a masked CRC-32C of those, the data, a masked CRC-32C of the data; little-endian
(tensorflow/core/lib/io/record_writer.h).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from keraship.errors import DataLoss

_POLYNOMIAL = 0x82F63B78  # Castagnoli, bits reversed
_MASK = 0xA282EAD8
_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")


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


def masked_crc32c(data: bytes) -> int:
    """The checksum that stands beside the data: the CRC, rotated, so that a CRC of data with CRCs stays good."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + _MASK) & 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli) of `data`; 0xE3069283 for b"123456789"."""
    crc = 0xFFFFFFFF
    table = _TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _table_entry(value: int) -> int:
    for _ in range(8):
        value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
    return value


_TABLE = [_table_entry(value) for value in range(256)]
