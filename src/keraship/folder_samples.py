"""A folder of images, or of class folders with images or texts, to arrays for a model's only input."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keraship import dtypes, image_files
from keraship.errors import DataError
from keraship.extras import require
from keraship.signature import TensorSpec, format_shape

Array = np.ndarray[Any, Any]

_TEXT = ".txt"


def read(folder: Path, inputs: Sequence[TensorSpec]) -> dict[str, Array]:
    """The only input's array, and `labels` where the folder holds class folders: their places in alphabetical order.

    inputs: one, of images (rows, height, width, 1 or 3) or of strings. Images are decoded to 0..255 and brought to its
    size; where that is open they must be of one size.
    Raises DataError for files that cannot be used, by path, and for inputs that no file can be brought to.
    """
    if len(inputs) != 1:
        raise DataError(f"expected a file with an array for each input; a folder like {folder} feeds a model with one")
    files, labels = _files(folder)
    reader = _read_texts if dtypes.by_name(inputs[0].dtype).numpy.kind == "O" else _read_images
    arrays = {inputs[0].name: reader(files, inputs[0])}
    return arrays if labels is None else arrays | {"labels": labels}


def _files(folder: Path) -> tuple[list[Path], Array | None]:
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    classes = [path for path in entries if path.is_dir()]
    if not classes:
        return _usable(entries, folder), None
    parts = [path.name for path in classes if any(child.is_dir() for child in path.iterdir())]
    if parts:
        raise DataError(
            f"expected images, or class folders of images, in {folder}; name one part of it: {folder / parts[0]}"
        )
    files = [_usable(sorted(path.iterdir()), path) for path in classes]
    labels = np.repeat(np.arange(len(classes)), [len(found) for found in files])
    return [path for found in files for path in found], labels


def _usable(entries: list[Path], folder: Path) -> list[Path]:
    known = (*image_files.FORMATS, _TEXT)
    files = [path for path in entries if path.suffix.lower() in known and not path.name.startswith(".")]
    if not files:
        raise DataError(f"expected files that end in {', '.join(known)} in {folder}; found none")
    return files


def _read_texts(files: list[Path], spec: TensorSpec) -> Array:
    texts = np.array([path.read_bytes() for path in files], object)
    return texts[:, None] if spec.shape is not None and len(spec.shape) == 2 else texts


def _read_images(files: list[Path], spec: TensorSpec) -> Array:
    require("export", "PIL")
    channels = spec.shape[3] if spec.shape is not None and len(spec.shape) == 4 else None
    if spec.shape is None or channels not in (1, 3):
        raise DataError(
            f"expected an input of images, [-1,height,width,1 or 3]; {spec.name} is {format_shape(spec.shape)}"
        )
    height, width = spec.shape[1:3]
    faults, images = [], []
    for path in files:
        try:
            with image_files.opened(path):
                pixels = image_files.decode(str(path), channels)
        except (image_files.BadImageError, KeyError) as error:
            faults.append(f"{path} {error}")
            continue
        images.append(image_files.resize(pixels, (height or pixels.shape[0], width or pixels.shape[1])))
    if faults:
        raise DataError(
            f"expected images that can be read: {'; '.join(faults[:8])}" + ("; ..." if len(faults) > 8 else "")
        )
    sizes = {image.shape for image in images}
    if len(sizes) > 1:
        raise DataError(f"expected images of one size for {spec.name}, whose own is open; got {len(sizes)} sizes")
    batch = np.stack(images)
    kind = dtypes.by_name(spec.dtype).numpy
    return batch if kind.kind in "fV" else np.clip(np.rint(batch), 0, 255).astype(kind)
