"""Arrays in an .npz file as rows: images, images with masks, texts, or the columns of a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from keraship import dtypes
from keraship.errors import DataError, InvalidArgument
from keraship.models import labels, task, text
from keraship.models.rows import Array, ArrayRows, Fault, Found
from keraship.models.tables import column_specs
from keraship.models.task import CLASSIFICATION, SEGMENTATION, Task
from keraship.samples import Samples, read_samples


def read(path: Path) -> Found:
    """The rows in an .npz file with `labels`.

    One array [n, height, width] or [n, height, width, channels] is images, with class labels [n] or masks
    [n, height, width]; one array of strings [n] is texts; otherwise each array [n] is a column of a table, and each
    array [n, k] is k of them.
    Raises DataError for a file of anything else.
    """
    samples = read_samples(path)
    targets = samples.labels
    if targets is None:
        raise DataError(f"expected an array called labels in {path}; got {', '.join(samples.inputs)}")
    _check_arrays({**samples.inputs, "labels": targets}, path)
    bad = _bad_rows(samples.inputs.values())
    unlabelled = _bad_rows([targets])
    good = np.flatnonzero(~(bad | unlabelled))
    if not len(good):
        raise DataError(f"expected numbers in {path}; each of its {len(targets)} rows holds NaN or infinity")
    inputs = {name: array[good] for name, array in samples.inputs.items()}
    found = _read(Samples(inputs), targets[good], path)
    faults = [Fault(f"{path}, row {row}", "has no label") for row in np.flatnonzero(unlabelled)]
    faults += [Fault(f"{path}, row {row}", "holds NaN or infinity") for row in np.flatnonzero(bad & ~unlabelled)]
    return Found(found.task, found.parts, found.faults + tuple(faults))


def _read(samples: Samples, targets: Array, path: Path) -> Found:
    if len(samples.inputs) == 1:
        (array,) = samples.inputs.values()
        if array.ndim in (3, 4) and array.dtype.kind in "buif":
            return _images(array, targets, path)
        if array.ndim == 1 and dtypes.of_array(array) is dtypes.STRING:
            classes, ids = labels.of_array(targets, str(path))
            return Found(task.of_text(classes), {"train": text.rows(_strings(array), ids)})
    return _table(samples, targets, path)


def _images(array: Array, targets: Array, path: Path) -> Found:
    images = (array if array.ndim == 4 else array[..., np.newaxis]).astype(np.float32)
    shape, maximum = images.shape[1:], _maximum(array)
    if targets.shape == images.shape[:3]:
        classes, masks = _masks(targets, path)
        made, kind = masks, SEGMENTATION
    else:
        classes, made = labels.of_array(targets, str(path))
        kind = CLASSIFICATION
    rows = ArrayRows({task.IMAGES: images}, made)
    return Found(task.of_images(shape, classes, maximum=maximum, kind=kind), {"train": rows})


def _masks(targets: Array, path: Path) -> tuple[tuple[str, ...], Array]:
    if targets.dtype.kind not in "bui" or targets.min() < 0:
        raise DataError(f"expected masks of class ids, whole numbers from 0 on, in {path}; got {targets.dtype}")
    masks = targets.astype(np.int64)
    count = int(masks.max()) + 1
    seen = len(np.unique(masks))
    if seen < count:
        raise DataError(f"expected masks with every class id from 0 on in {path}; it has {seen}, up to {count - 1}")
    return tuple(str(number) for number in range(count)), masks


def _maximum(array: Array) -> float:
    """Of whole numbers the type's greatest; of fractions the greatest there is, and 1 at least."""
    if array.dtype.kind in "ui":
        return float(np.iinfo(array.dtype).max) if array.dtype.itemsize <= 2 else max(float(array.max()), 1.0)
    finite = array[np.isfinite(array)]
    return max(float(finite.max(initial=1.0)), 1.0)


def _table(samples: Samples, targets: Array, path: Path) -> Found:
    columns: dict[str, Array] = {}
    for name, array in samples.inputs.items():
        if array.ndim > 2:
            shapes = ", ".join(f"{key} {list(value.shape)}" for key, value in samples.inputs.items())
            raise DataError(f"expected one array of images, or columns [n] or [n, k], in {path}; got {shapes}")
        columns |= {name: array} if array.ndim == 1 else {f"{name}_{i}": array[:, i] for i in range(array.shape[1])}
    inputs = {name: _column(array) for name, array in columns.items()}
    specs, inputs = column_specs(inputs, str(path))
    classes, ids = labels.of_array(targets, str(path))
    return Found(Task(CLASSIFICATION, specs, classes), {"train": ArrayRows(inputs, ids)})


def _column(array: Array) -> Array:
    if dtypes.of_array(array) is dtypes.STRING:
        return text.strings(_strings(array))
    return array.astype(np.int64 if array.dtype.kind in "bui" else np.float32)


def _strings(array: Array) -> list[str]:
    return [item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item) for item in array.tolist()]


def _check_arrays(arrays: Mapping[str, Array], path: Path) -> None:
    """Raises DataError for arrays that hold nothing, and for what no tensor can hold, such as dates."""
    for name, array in arrays.items():
        if not array.size:
            raise DataError(f"expected arrays that hold something in {path}; got {name} {list(array.shape)}")
        try:
            dtypes.of_array(array)
        except InvalidArgument as error:
            raise DataError(f"{error}: {name} in {path}") from error


def _bad_rows(arrays: Iterable[Array]) -> Array:
    """Which rows hold a number that is none, or more than float32 can hold, bool [n]."""
    bad: Array = np.array(False)
    for array in arrays:
        if array.dtype.kind == "f":
            with np.errstate(over="ignore"):
                bad = bad | ~np.isfinite(array.astype(np.float32)).reshape(len(array), -1).all(axis=1)
        else:
            bad = bad | np.zeros(len(array), bool)
    return bad
