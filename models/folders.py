"""Folders of images, of pairs of image and mask, or of texts: what is in them, and what of it cannot be used."""

from __future__ import annotations

import errno
import os
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from keraship.errors import DataError
from keraship.image_files import FORMATS, BadImageError
from keraship.models import task, text
from keraship.models.images import MAXIMUM, ImageRows, Probed, probe, probe_mask
from keraship.models.rows import Array, Fault, Found
from keraship.models.task import SEGMENTATION

T = TypeVar("T")

EXPECTED = (
    "expected class folders that hold images (.jpg, .png) or texts (.txt), or the folders `images` and `masks`, "
    "each as they are or inside `train`, `validation` and `test`"
)

_PART_NAMES = {"train": "train", "validation": "validation", "val": "validation", "valid": "validation", "test": "test"}
_NAMES_FILE = "classes.txt"
_IGNORED = ("Thumbs.db", "desktop.ini")  # what file managers leave behind; hidden files are ignored too
_MOST = 0.9  # of the files, for the others to be strays
_LARGEST = 256  # where sizes differ and none is asked for
_STEP = 8  # networks halve images some times


def read(root: Path, *, image_size: tuple[int, int] | None = None) -> Found:
    """What a folder holds, in parts where it is split.

    Raises DataError where that cannot be told, or a folder cannot be read.
    """
    try:
        parts = _parts(root)
        return _READERS[_kind(root, parts["train"])](parts, image_size)
    except OSError as error:
        raise DataError(f"expected a folder that can be read; {error.filename}: {error.strerror}") from error


def visible(folder: Path) -> list[Path]:
    """What is in a folder, by name, without what is hidden."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.name not in _IGNORED)


def _parts(root: Path) -> dict[str, Path]:
    """The folder of each part; the root is `train` where it is not split."""
    folders = [path for path in visible(root) if path.is_dir()]
    named = [(path, _PART_NAMES.get(path.name.lower())) for path in folders]
    if not any(part == "train" for _, part in named) or not all(part for _, part in named):
        return {"train": root}
    parts = {part: path for path, part in named if part}
    if len(parts) < len(named):
        raise DataError(f"expected each part once in {root}; got the folders {_names(folders)}")
    return parts


def _kind(root: Path, folder: Path) -> str:
    """What the training part holds: "masks", "images" or "texts"."""
    folders = [path for path in visible(folder) if path.is_dir()]
    pair = {path.name for path in folders} & {"images", "masks"}
    if len(pair) == 2:
        return "masks"
    if pair:
        raise DataError(f"expected the folders `images` and `masks` in {folder}; got {_names(folders)}")
    suffixes = Counter(path.suffix.lower() for directory in folders for path in _files(directory))
    counts = {
        "images": sum(suffixes[suffix] for suffix in FORMATS),
        "texts": suffixes[text.SUFFIX],
    }
    most = max(counts, key=lambda kind: counts[kind])
    if counts[most] and counts[most] >= _MOST * sum(counts.values()):
        return most
    raise DataError(f"{EXPECTED}, in {root}; got {_summary(visible(folder), suffixes)}")


def _summary(entries: list[Path], suffixes: Mapping[str, int]) -> str:
    folders, files = ([path for path in entries if path.is_dir() is is_dir] for is_dir in (True, False))
    inside = ", ".join(f"{count} {suffix or 'without an ending'}" for suffix, count in sorted(suffixes.items()))
    found = [f"the folders {_names(folders)}, in them {inside or 'no file'}"] if folders else []
    found += [f"the files {_names(files)}"] if files else []
    return " and ".join(found) or "an empty folder"


def _names(paths: list[Path]) -> str:
    shown = ", ".join(path.name for path in paths[:8])
    return shown if len(paths) <= 8 else f"{shown} and {len(paths) - 8} more"


def _files(folder: Path) -> list[Path]:
    """Every visible file below a folder, in the order of their paths."""

    def refuse(error: OSError) -> None:
        raise error

    found = []
    for path, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        if Path(path).resolve() in (above.resolve() for above in Path(path).parents):  # a link to where it is in
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(path, name) for name in names if not name.startswith(".") and name not in _IGNORED]
    return sorted(found)


# Class folders


@dataclass
class _Labelled:
    """The files of a part with their class folders' names, and what is wrong with the others."""

    files: list[tuple[Path, str]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def _labelled(folder: Path, suffixes: tuple[str, ...], classes: list[str]) -> _Labelled:
    """The files of a part. classes: the training part's, which the others are to have too."""
    found = _Labelled()
    for entry in visible(folder):
        if not entry.is_dir():
            found.faults.append(Fault(str(entry), "lies beside the class folders, so its class is not known"))
        elif entry.name not in classes:
            found.faults.append(Fault(str(entry), "is a class that the training part does not have"))
        else:
            _add_class(found, entry, suffixes)
    missing = [name for name in classes if not (folder / name).is_dir()]
    found.faults += [
        Fault(str(folder / name), "is not there, and the training part has this class") for name in missing
    ]
    return found


def _add_class(found: _Labelled, folder: Path, suffixes: tuple[str, ...]) -> None:
    files = _files(folder)
    if not files:
        found.faults.append(Fault(str(folder), "is an empty class folder"))
    for path in files:
        if path.suffix.lower() in suffixes:
            found.files.append((path, folder.name))
        else:
            found.faults.append(Fault(str(path), f"expected a file that ends in {', '.join(suffixes)}"))


def _class_folders(folder: Path) -> list[str]:
    names = [path.name for path in visible(folder) if path.is_dir()]
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise DataError(f"expected class folders whose names are UTF-8 in {folder}; got {name!r}") from None
    return names


def _read_images(parts: dict[str, Path], image_size: tuple[int, int] | None) -> Found:
    names = _class_folders(parts["train"])
    labelled = {part: _labelled(folder, tuple(FORMATS), names) for part, folder in parts.items()}
    faults = [fault for found in labelled.values() for fault in found.faults]
    every = [path for found in labelled.values() for path, _ in found.files]
    probed = _checked(every, probe, faults)
    usable = {part: [(path, name) for path, name in found.files if path in probed] for part, found in labelled.items()}
    classes = _classes_left(usable["train"], names)
    shape = _shape(list(probed.values()), image_size)
    rows = {
        part: ImageRows(_paths([path for path, _ in files]), _ids([name for _, name in files], classes), shape)
        for part, files in _of_classes(usable, classes).items()
    }
    return Found(task.of_images(shape, classes, maximum=MAXIMUM), dict(rows), tuple(faults))


def _read_texts(parts: dict[str, Path], _: tuple[int, int] | None) -> Found:
    names = _class_folders(parts["train"])
    labelled = {part: _labelled(folder, (text.SUFFIX,), names) for part, folder in parts.items()}
    faults = [fault for found in labelled.values() for fault in found.faults]
    texts: dict[Path, str] = {}
    for path in (path for found in labelled.values() for path, _ in found.files):
        content = text.read(path)
        if isinstance(content, Fault):
            faults.append(content)
        else:
            texts[path] = content
    usable = {part: [(path, name) for path, name in found.files if path in texts] for part, found in labelled.items()}
    classes = _classes_left(usable["train"], names)
    rows = {
        part: text.rows([texts[path] for path, _ in files], _ids([name for _, name in files], classes))
        for part, files in _of_classes(usable, classes).items()
    }
    return Found(task.of_text(classes), dict(rows), tuple(faults))


Files = list[tuple[Path, str]]


def _classes_left(files: Files, names: list[str]) -> tuple[str, ...]:
    """The classes that have a file that can be used; all, where none has."""
    left = {name for _, name in files}
    return tuple(name for name in names if name in left) or tuple(names)


def _of_classes(parts: dict[str, Files], classes: tuple[str, ...]) -> dict[str, Files]:
    """The files whose class is left; a class that lost all its training files has been reported with them."""
    return {part: [(path, name) for path, name in files if name in classes] for part, files in parts.items()}


def _ids(names: list[str], classes: tuple[str, ...]) -> Array:
    number = {name: index for index, name in enumerate(classes)}
    return np.array([number[name] for name in names], np.int64)


def _paths(paths: list[Path]) -> Array:
    return np.array([str(path) for path in paths], dtype=np.str_)


def _checked(paths: list[Path], check: Callable[[Path], T], faults: list[Fault]) -> dict[Path, T]:
    """What `check` says of each file; the files that it refuses go to the faults instead."""

    def one(path: Path) -> T | Fault:
        try:
            return check(path)
        except BadImageError as error:
            return Fault(str(path), str(error))

    good = {}
    with ThreadPoolExecutor() as pool:  # decoding holds no lock
        for path, answer in _with_progress(zip(paths, pool.map(one, paths), strict=True), len(paths)):
            if isinstance(answer, Fault):
                faults.append(answer)
            else:
                good[path] = answer
    return good


def _with_progress(items: Iterator[T], total: int) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(
        items, "checking the images", total=total, console=console, transient=True, disable=not sys.stderr.isatty()
    )


def _shape(probed: list[Probed], size: tuple[int, int] | None) -> tuple[int, int, int]:
    """Gray where all images are, else RGB; of the size that is asked for, or that all have, or of their medians."""
    channels = max((one.channels for one in probed), default=1)
    sizes = {one.size for one in probed} or {(1, 1)}
    if size is None and len(sizes) == 1:
        size = next(iter(sizes))
    if size is None:
        size = _median([one.size[0] for one in probed]), _median([one.size[1] for one in probed])
    return (*size, channels)


def _median(lengths: list[int]) -> int:
    """In steps of 8, so that it can be halved some times, and no more than what can be trained on anywhere."""
    return min(max(round(statistics.median(lengths) / _STEP) * _STEP, _STEP), _LARGEST)


# Images and masks


@dataclass(frozen=True)
class _Pair:
    image: Path
    mask: Path


def _read_masks(parts: dict[str, Path], image_size: tuple[int, int] | None) -> Found:
    faults: list[Fault] = []
    pairs = {part: _pairs(folder, faults) for part, folder in parts.items()}
    every = [pair for found in pairs.values() for pair in found]
    images = _checked([pair.image for pair in every], probe, faults)
    masks = _checked([pair.mask for pair in every], probe_mask, faults)
    names = _class_names(parts)
    sized = [pair for pair in every if pair.image in images and pair.mask in masks]
    sized = [pair for pair in sized if _same_size(pair, images[pair.image].size, masks[pair.mask][0], faults)]
    ids = {pair.mask: masks[pair.mask][1] for pair in sized}
    count = len(names) if names else _contiguous(ids)
    usable = {pair for pair in sized if _in_range(pair.mask, ids[pair.mask], count, bool(names), faults)}
    shape = _shape([images[pair.image] for pair in every if pair in usable], image_size)
    classes = names or tuple(str(number) for number in range(count))
    rows = {part: _pair_rows([pair for pair in found if pair in usable], shape) for part, found in pairs.items()}
    return Found(task.of_images(shape, classes, maximum=MAXIMUM, kind=SEGMENTATION), dict(rows), tuple(faults))


def _pair_rows(pairs: list[_Pair], shape: tuple[int, int, int]) -> ImageRows:
    return ImageRows(_paths([pair.image for pair in pairs]), _paths([pair.mask for pair in pairs]), shape)


def _pairs(folder: Path, faults: list[Fault]) -> list[_Pair]:
    """The images and masks of one name; the others go to the faults."""
    for name in ("images", "masks"):
        if not (folder / name).is_dir():
            raise DataError(f"expected the folders `images` and `masks` in {folder}; there is no {name}")
    images = _by_stem(folder / "images", tuple(FORMATS), faults)
    masks = _by_stem(folder / "masks", (".png",), faults)
    faults += [Fault(str(images[stem]), "has no mask of its name") for stem in images if stem not in masks]
    faults += [Fault(str(masks[stem]), "has no image of its name") for stem in masks if stem not in images]
    known = ("images", "masks", _NAMES_FILE)
    strays = [entry for entry in visible(folder) if entry.name not in known]
    faults += [Fault(str(entry), "lies beside `images` and `masks`, and is part of neither") for entry in strays]
    return [_Pair(images[stem], masks[stem]) for stem in images if stem in masks]


def _by_stem(folder: Path, suffixes: tuple[str, ...], faults: list[Fault]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in _files(folder):
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if path.suffix.lower() not in suffixes:
            faults.append(Fault(str(path), f"expected a file that ends in {', '.join(suffixes)}"))
        elif stem in found:
            faults.append(Fault(str(path), f"has the name of {found[stem].name}"))
        else:
            found[stem] = path
    return found


def _same_size(pair: _Pair, image: tuple[int, int], mask: tuple[int, int], faults: list[Fault]) -> bool:
    if image != mask:
        sizes = f"is {mask[1]} x {mask[0]} pixels, its image {image[1]} x {image[0]}"
        faults.append(Fault(str(pair.mask), f"{sizes}; expected one size"))
    return image == mask


def _class_names(parts: Mapping[str, Path]) -> tuple[str, ...]:
    """The lines of classes.txt, beside the masks or beside the parts; none where there is no such file."""
    for folder in (parts["train"], parts["train"].parent):
        path = folder / _NAMES_FILE
        if path.is_file() and (folder == parts["train"] or len(parts) > 1):
            names = tuple(filter(None, map(str.strip, _read_text(path).splitlines())))
            if len(set(names)) < len(names):
                raise DataError(f"expected each class once in {path}; got {', '.join(names)}")
            return names
    return ()


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"expected a text in UTF-8 in {path}; got {error.reason} at byte {error.start}") from error


def _contiguous(ids: Mapping[Path, Array]) -> int:
    """How many class ids there are from 0 on without a gap."""
    seen = {int(number) for numbers in ids.values() for number in numbers}
    return next(number for number in range(len(seen) + 1) if number not in seen)


def _in_range(path: Path, ids: Array, count: int, named: bool, faults: list[Fault]) -> bool:
    outside = [int(number) for number in ids if not 0 <= number < count]
    if outside:
        known = f"{_NAMES_FILE} names {count}" if named else f"the masks have {count} without a gap, from 0 on"
        what = f"has the class id{'s' if len(outside) > 1 else ''} {', '.join(map(str, outside[:8]))}"
        hint = "" if named else f"; if it is a class, name all of them in {_NAMES_FILE}, one a line"
        faults.append(Fault(str(path), f"{what}; {known}{hint}"))
    return not outside


_READERS: dict[str, Callable[[dict[str, Path], tuple[int, int] | None], Found]] = {
    "images": _read_images,
    "texts": _read_texts,
    "masks": _read_masks,
}
