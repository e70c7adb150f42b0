"""What a .keras or .h5 file holds, read from end to end without Keras, and what is dangerous in it."""

from __future__ import annotations

import json
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keraship.check_archive import check_archive
from keraship.check_config import check_config, check_sizes
from keraship.check_pickle import check_pickle
from keraship.danger import Finding, first_danger
from keraship.errors import ModelError
from keraship.hdf5_file import Hdf5, read_hdf5
from keraship.reasons import reason

CONFIG = "config.json"
METADATA = "metadata.json"
WEIGHTS = "model.weights.h5"

_MAX_CONFIG = 256 << 20  # bytes; the largest Keras models stay far below
_HEAD = 4096
_LOCAL_HEADER = struct.Struct("<26xHH")  # of a zip member: the lengths of its name and of its extra field
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError, KeyError, ValueError)


@dataclass(frozen=True)
class KerasFile:
    """A file that was read and not loaded.

    config: the model's configuration; empty where the archive itself is refused. keras_version: as the file says.
    weights_bytes: of its arrays, the optimizer's not counted. findings: about what a load reads. of_training: about
    the configuration of training, which is read only where a model is compiled.
    """

    path: Path
    config: dict[str, Any]
    keras_version: str
    weights_bytes: int
    findings: tuple[Finding, ...]
    of_training: tuple[Finding, ...] = ()


def read_keras(path: Path) -> KerasFile:
    """Read a .keras archive or a legacy .h5 file, told by its first bytes.

    Raises ModelError for a file that is missing, truncated, damaged or neither of the two.
    """
    head = file_head(path, "a .keras or .h5 file")
    for magic, read in _READERS.items():
        if head.startswith(magic):
            return read(path)
    pickle = first_danger(check_pickle(head))
    if pickle:
        raise ModelError(f"{path} is refused: {pickle}")
    begins = f"it begins with {head[:8]!r}" if head else "it is empty"
    raise ModelError(f"{path} is not a whole .keras or .h5 file ({begins}); save the model again with model.save()")


def file_head(path: Path, expected: str, size: int = _HEAD) -> bytes:
    """The first bytes of a regular file; raises ModelError for anything else, pipes and devices too, unopened."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            with path.open("rb") as file:
                return file.read(size)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        said = error.strerror if isinstance(error, OSError) else str(error)
        raise ModelError(f"expected {expected} at {path}; there is none ({said})") from error
    raise ModelError(f"expected {expected} at {path}; there is {_kind(mode)}")


def is_folder(path: Path) -> bool:
    """Whether a folder stands there; a path that is none, such as a name too long, is no folder."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def members_findings(archive: zipfile.ZipFile, known: tuple[str, ...]) -> Iterator[Finding]:
    """Pickles among the members that are not `known`."""
    for name in archive.namelist():
        if name not in known and not name.endswith("/"):
            with archive.open(name) as member:
                yield from check_pickle(member.read(_HEAD), name)


def _read_archive(path: Path) -> KerasFile:
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_members(path, archive)
    except _BROKEN as error:
        raise _not_whole(path, ".keras", error) from error


def _read_members(path: Path, archive: zipfile.ZipFile) -> KerasFile:
    findings = list(check_archive(archive))
    names = archive.namelist()
    if first_danger(findings):
        return KerasFile(path, {}, "", 0, tuple(findings))
    if CONFIG not in names:
        held = ", ".join(names[:3]) or "nothing"
        raise ModelError(f"expected a .keras file, an archive with a {CONFIG}; {path} holds {held}")
    broken = archive.testzip()
    if broken is not None:
        raise zipfile.BadZipFile(f"the content of {broken} is damaged")
    config = _json_member(path, archive, CONFIG)
    if not isinstance(config, dict) or "class_name" not in config:
        raise ModelError(f"{path} is no .keras file: its {CONFIG} describes no model")
    metadata = _json_member(path, archive, METADATA) if METADATA in names else {}
    weights = _read_weights(path, archive)
    findings += [*weights.findings, *members_findings(archive, (CONFIG, METADATA, WEIGHTS))]
    findings += [*check_config(config, with_training=False), *check_sizes(config, weights.weights_bytes)]
    version = str(metadata.get("keras_version", "")) if isinstance(metadata, dict) else ""
    of_training = tuple(check_config(config.get("compile_config") or {}))
    return KerasFile(path, config, version, weights.weights_bytes, tuple(findings), of_training)


def _json_member(path: Path, archive: zipfile.ZipFile, name: str) -> Any:
    size = archive.getinfo(name).file_size
    if size > _MAX_CONFIG:
        raise ModelError(f"{path} is refused: its {name} claims {size} bytes")
    try:
        return json.loads(archive.read(name))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is no .keras file: its {name} cannot be read ({reason(error)})") from error


def _read_weights(path: Path, archive: zipfile.ZipFile) -> Hdf5:
    if WEIGHTS not in archive.namelist():
        raise ModelError(f"{path} is not a whole .keras file: it holds no {WEIGHTS}; save the model again")
    member = archive.getinfo(WEIGHTS)
    if member.compress_type == zipfile.ZIP_STORED:
        return read_hdf5(path, start=_start(path, member), size=member.file_size, where=WEIGHTS)
    with tempfile.TemporaryDirectory(prefix="keraship-") as folder:  # Keras stores; somebody packed it again
        return read_hdf5(Path(archive.extract(member, folder)), where=WEIGHTS)


def _start(path: Path, member: zipfile.ZipInfo) -> int:
    """Where an uncompressed member begins in its archive."""
    with path.open("rb") as file:
        file.seek(member.header_offset)
        name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    return member.header_offset + _LOCAL_HEADER.size + int(name) + int(extra)


def _read_model(path: Path) -> KerasFile:
    try:
        file = read_hdf5(path)
    except _BROKEN as error:
        raise _not_whole(path, ".h5", error) from error
    if "model_config" not in file.attributes:
        raise ModelError(
            f"expected a whole model in {path}; it holds weights alone: save it with model.save(), to a .keras file"
        )
    config = _json_attribute(path, file.attributes["model_config"])
    if not isinstance(config, dict) or "class_name" not in config:
        raise ModelError(f"{path} is no .h5 file of Keras: its model_config describes no model")
    return KerasFile(
        path,
        config,
        file.attributes.get("keras_version", ""),
        file.weights_bytes,
        (*file.findings, *check_config(config), *check_sizes(config, file.weights_bytes)),
        tuple(check_config(_json_attribute(path, file.attributes.get("training_config", "{}")))),
    )


def _json_attribute(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is no .h5 file of Keras: its configuration is no JSON ({reason(error)})") from error


def _not_whole(path: Path, kind: str, error: BaseException) -> ModelError:
    return ModelError(f"{path} is not a whole {kind} file ({reason(error)}); save the model again with model.save()")


_READERS = {b"PK": _read_archive, b"\x89HDF\r\n\x1a\n": _read_model}

_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


def _kind(mode: int) -> str:
    return _KINDS.get(stat.S_IFMT(mode), "a device")
