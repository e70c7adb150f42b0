"""What is dangerous in a zip archive (a .keras model, numpy's .npz, a PyTorch pickle), and in an .npy file."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keraship.check_archive import check_archive
from keraship.danger import Finding, danger, first_danger
from keraship.errors import ModelError
from keraship.exporter.scan_keras import scan_keras
from keraship.keras_read import CONFIG, members_findings
from keraship.reasons import reason

_HEADER = 1 << 16  # bytes: a version, a length and a short dict
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError, ValueError)


def scan_zip(path: Path) -> Iterator[Finding]:
    """A .keras model where the archive has its configuration; else each member by what it holds."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            findings = None if CONFIG in names or path.suffix == ".keras" else list(_scan_members(archive))
    except _BROKEN as error:
        raise ModelError(f"{path} is not a whole archive ({reason(error)}); get the file anew") from error
    yield from scan_keras(path) if findings is None else findings


def scan_npy(path: Path) -> Iterator[Finding]:
    """One array."""
    with path.open("rb") as file:
        head = file.read(_HEADER)
    try:
        yield from _check_array(head, path.stat().st_size, "")
    except ValueError as error:
        raise ModelError(f"{path} is not a whole .npy file ({reason(error)}); get the file anew") from error


def _scan_members(archive: zipfile.ZipFile) -> Iterator[Finding]:
    findings = list(check_archive(archive))
    yield from findings
    if first_danger(findings):
        return
    for member in archive.infolist():
        if member.filename.endswith(".npy"):
            with archive.open(member) as file:
                yield from _check_array(file.read(_HEADER), member.file_size, member.filename)
    arrays = tuple(name for name in archive.namelist() if name.endswith(".npy"))
    yield from members_findings(archive, arrays)


def _check_array(head: bytes, size: int, where: str) -> Iterator[Finding]:
    """head: the first bytes of an .npy file. size: of the whole. Raises ValueError for a broken header."""
    shape, dtype, start = _header(head)
    if dtype.hasobject:
        yield danger(
            "pickle", where, "it holds pickled objects, which can run any code", "save it with allow_pickle=False"
        )
    elif math.prod(shape) * dtype.itemsize > size - start:
        claimed = f"it claims shape {list(shape)} of {dtype}; {size - start} bytes are there"
        yield danger("oversize", where, claimed, "get the whole file")


def _header(head: bytes) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    file = io.BytesIO(head)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype, file.tell()
