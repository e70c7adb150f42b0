"""Does an HDF5 file reach beyond itself, or claim more than it holds? Read with h5py; Keras is not needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from keraship.danger import Finding, danger

CLAIMED = 1 << 20
"""Datasets that claim less, in bytes, are not compared with what is stored."""

_RATIO = 1100  # no filter of HDF5's own packs more densely: DEFLATE ends at 1032:1
_OBJECTS = 1_000_000
_DEPTH = 100
_BUILT_IN_FILTERS = {1, 2, 3, 4, 5, 6, 32000}  # deflate, shuffle, fletcher32, szip, n-bit, scale-offset, h5py's lzf
_REFUSE = "do not load it; save the model again with model.save()"


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
