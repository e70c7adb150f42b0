"""Does an HDF5 file reach beyond itself, or claim more than it holds? Read with h5py; Keras is not needed.

HDF5's library crashes on some damaged files, and runs forever on others. So this is the program of a process of its
own, whose time and memory are limited: `hdf5_file.py` starts it.
"""

from __future__ import annotations

import io
import json
import os
import resource
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from keraship.danger import Finding, danger, first_danger
from keraship.reasons import reason

ATTRIBUTES = ("model_config", "training_config", "keras_version")
SECONDS = 60
MEMORY = 4 << 30
"""What the process may take: of processor time, of address space in bytes."""

CLAIMED = 1 << 20
"""Datasets that claim less, in bytes, are not compared with what is stored."""

_RATIO = 1100  # no filter of HDF5's own packs more densely: DEFLATE ends at 1032:1
_OBJECTS = 1_000_000
_DEPTH = 100
_BUILT_IN_FILTERS = {1, 2, 3, 4, 5, 6, 32000}  # deflate, shuffle, fletcher32, szip, n-bit, scale-offset, h5py's lzf
_REFUSE = "do not load it; save the model again with model.save()"


def main(path: str, start: str, size: str, where: str) -> None:
    """Print what the HDF5 file of `size` bytes that begins at `start` in another file holds, as JSON."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    import h5py

    try:
        with _Window(Path(path), int(start), int(size)) as window, h5py.File(window, "r") as file:
            found = _read(file, where)
    except Exception as error:  # what h5py raises on a damaged file has no common class
        found = {"error": reason(error)}
    print(json.dumps(found))  # noqa: T201  # this is the answer


def _read(file: Any, where: str) -> dict[str, Any]:
    findings = list(check_hdf5(file, where))
    attributes = {key: file.attrs.get(key) for key in ATTRIBUTES if key in file.attrs}
    return {
        "findings": [asdict(found) for found in findings],
        "attributes": {key: value if isinstance(value, str) else _text(value) for key, value in attributes.items()},
        "weights_bytes": 0 if first_danger(findings) else weights_bytes(file),
    }


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


class _Window(io.RawIOBase):
    """A part of a file, read as a file of its own."""

    def __init__(self, path: Path, start: int, size: int) -> None:
        self._file = path.open("rb")
        self._start, self._size, self._position = start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        self._file.seek(self._start + self._position)
        read = self._file.read(max(0, min(len(view), self._size - self._position)))
        view[: len(read)] = read
        self._position += len(read)
        return len(read)

    def close(self) -> None:
        self._file.close()
        super().close()


def check_hdf5(file: Any, where: str = "") -> Iterator[Finding]:
    """file: an open h5py.File. Links and datasets that lie in other files, plug-ins, claims beyond what is stored."""
    import h5py

    seen = {h5py.h5o.get_info(file.id).addr}
    pending = [(file, "", 0)]
    while pending:
        group, path, depth = pending.pop()
        for name in group:
            inside = f"{where}{path}/{name}"
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                yield danger("link", inside, f"it is a link into another file, {link.filename!r}", _REFUSE)
                continue
            if isinstance(link, h5py.SoftLink):
                continue  # to something in this file, which is reached by its own name
            item = group.get(name)
            if isinstance(item, h5py.Dataset):
                yield from _check_dataset(item, inside)
            elif isinstance(item, h5py.Group):
                address = h5py.h5o.get_info(item.id).addr
                if address not in seen:
                    seen.add(address)
                    pending.append((item, f"{path}/{name}", depth + 1))
            if len(seen) > _OBJECTS or depth > _DEPTH:
                yield danger("bomb", where, "it holds groups without end", _REFUSE)
                return


def weights_bytes(file: Any) -> int:
    """The size of all datasets of an open h5py.File, in memory; what only an optimizer needs is not counted."""
    import h5py

    total = 0

    def add(name: str, item: Any) -> None:
        nonlocal total
        if isinstance(item, h5py.Dataset) and not name.startswith(("optimizer/", "optimizer_weights/")):
            total += _claimed(item)

    file.visititems(add)
    return total


def _check_dataset(item: Any, where: str) -> Iterator[Finding]:
    if item.is_virtual:
        yield danger("link", where, "it is put together from other files (a virtual dataset)", _REFUSE)
    if item.external:
        yield danger("link", where, f"its content lies in another file, {item.external[0][0]!r}", _REFUSE)
    plugins = sorted(set(_filters(item)) - _BUILT_IN_FILTERS)
    if plugins:
        yield danger("plugin", where, f"it needs HDF5's plug-in {plugins[0]}, a program library", _REFUSE)
    stored = item.id.get_storage_size()
    if _claimed(item) > max(CLAIMED, stored * (_RATIO if item.chunks else 1)):
        yield danger(
            "oversize",
            where,
            f"it claims shape {list(item.shape)}, {_claimed(item)} bytes; {stored} are there",
            _REFUSE,
        )


def _claimed(item: Any) -> int:
    return (item.size or 0) * int(item.dtype.itemsize)


def _filters(item: Any) -> list[int]:
    properties = item.id.get_create_plist()
    return [properties.get_filter(index)[0] for index in range(properties.get_nfilters())]


if __name__ == "__main__":
    main(*sys.argv[1:])
