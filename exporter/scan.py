"""What is dangerous in a model file or folder, found without running it, nor TensorFlow, Keras or onnx.

A format is told by its first bytes, then by its name; each has a file of its own here, `scan_*.py`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from keraship.check_pickle import HEAD, check_pickle
from keraship.danger import DANGER, Finding, danger
from keraship.errors import ModelError
from keraship.exporter.scan_arrays import scan_npy, scan_zip
from keraship.exporter.scan_keras import scan_hdf5
from keraship.exporter.scan_onnx import scan_onnx
from keraship.exporter.scan_tensorflow import scan_pb
from keraship.exporter.scan_tflite import MAGIC, scan_tflite
from keraship.keras_read import file_head, is_folder

Scan = Callable[[Path], Iterator[Finding]]

EXPECTED = "a .keras, .h5, SavedModel, .pb, .onnx, .tflite, .npz or .npy file"

MOST_FILES = 10_000
"""Of a folder; a SavedModel has a dozen."""


@dataclass(frozen=True)
class Scanned:
    """What was found: dangers first. format: such as "keras" or "onnx"."""

    path: Path
    format: str
    findings: tuple[Finding, ...]

    @property
    def dangerous(self) -> bool:
        """Whether the file should not be loaded."""
        return any(found.severity == DANGER for found in self.findings)


def scan(path: Path | str) -> Scanned:
    """Look for all that is dangerous in a file, or in every model file of a folder.

    Raises ModelError for what is missing, truncated, damaged, or of no format that is known.

        scan("best.keras").dangerous
    """
    path = Path(path)
    format_, findings = _scan_folder(path) if is_folder(path) else _scan_file(path)
    return Scanned(path, format_, tuple(sorted(findings, key=lambda found: found.severity)))


def _scan_file(path: Path) -> tuple[str, list[Finding]]:
    head = file_head(path, EXPECTED, HEAD)
    pickled = list(check_pickle(head))
    if pickled:
        return "pickle", pickled
    format_, scanner = _scanner(path, head)
    return format_, list(scanner(path))


def _scanner(path: Path, head: bytes) -> tuple[str, Scan]:
    for magic, offset, format_, scanner in _BY_MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return format_, scanner
    if head and path.suffix.lower() in _BY_SUFFIX:
        return _BY_SUFFIX[path.suffix.lower()]
    begins = f"begins with {head[:8]!r}" if head else "is empty"
    raise ModelError(f"expected {EXPECTED}, whole; {path} {begins}")


def _scan_folder(folder: Path) -> tuple[str, list[Finding]]:
    """Every file whose format is known by its name; links that lead out of the folder."""
    findings: list[Finding] = []
    known = 0
    for path in _files(folder):
        inside = path.relative_to(folder).as_posix()
        if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
            remedy = "copy the model with the files themselves in place of links"
            findings.append(danger("link", inside, f"it is a link out of the folder, to {path.readlink()}", remedy))
        elif path.suffix.lower() in _IN_FOLDERS and path.is_file():
            known += 1
            findings += [replace(found, where=_joined(inside, found.where)) for found in _scan_file(path)[1]]
    if not known:
        raise ModelError(f"expected a folder with a saved_model.pb or another model in it; {folder} holds none")
    return "saved_model" if (folder / "saved_model.pb").exists() else "folder", findings


def _files(folder: Path) -> Iterator[Path]:
    """All that is no folder, links unfollowed; raises ModelError where there are far too many."""
    count = 0
    for parent, folders, names in os.walk(folder):
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        for name in sorted([*names, *links]):
            count += 1
            if count > MOST_FILES:
                raise ModelError(f"expected a model's folder; {folder} holds more than {MOST_FILES} files")
            yield Path(parent) / name


def _joined(file: str, where: str) -> str:
    return f"{file}: {where}" if where else file


_BY_MAGIC: list[tuple[bytes, int, str, Scan]] = [
    (b"PK", 0, "zip", scan_zip),
    (b"\x89HDF\r\n\x1a\n", 0, "h5", scan_hdf5),
    (b"\x93NUMPY", 0, "npy", scan_npy),
    (MAGIC, 4, "tflite", scan_tflite),
]
"""Bytes, where they stand, the format, its scanner."""

_BY_SUFFIX: dict[str, tuple[str, Scan]] = {".onnx": ("onnx", scan_onnx), ".pb": ("tensorflow", scan_pb)}
"""Formats without a magic number."""

_IN_FOLDERS = {*_BY_SUFFIX, ".keras", ".h5", ".hdf5", ".tflite", ".npz", ".npy", ".pkl", ".pickle", ".pt", ".pth"}
