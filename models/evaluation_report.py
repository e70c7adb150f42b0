r"""An evaluation on disk: pictures, numbers and a page, in a folder that appears whole.

    evaluation.json  report.html  precision_recall.png  roc.png  confusion.png  calibration.png
    of a segmentation: evaluation.json  report.html  confusion.png  overlap.png

With several sources the pictures of each are called `source-1-roc.png` ... report.html needs none of the other files.
evaluation.json is written last and taken away first: where it stands, the rest is complete. It holds

    format_version  1
    task            "classification" or "segmentation"
    data            file, rows, bytes, sha256
    classes         their names, in the order of the scores
    metrics         what every headline means, by name
    sources         a list; of each:
        source, kind     as they were given, and what it is
        metrics          headline -> {value, low, high}; the interval is of 95 %, null where the data cannot tell one
        per_class        a list of {name, ...}: positives, precision (null: never answered), recall, f1,
                         average_precision, auc; of a segmentation pixels, iou, dice
        left_out         the classes that the data has no rows (pixels) of; they are in no average
        confusion        rows (pixels) by true class, then by answered class
        calibration      {error, bins}, of each bin {low, high, count, confidence, accuracy}; null for scores that are
                         no probabilities
        curves           class -> {precision_recall: {recall, precision}, roc: {false_positive_rate,
                         true_positive_rate}}, at most 200 points of each
        plots            name -> file
    agreements      a list of {first, second, same_top1: {value, low, high}, max_score_difference}, of every pair
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from keraship.errors import DataError
from keraship.models import evaluation_plots
from keraship.models.classification_scores import ClassificationScores, ClassScores, Curve
from keraship.models.evaluate import Evaluation, Result
from keraship.models.evaluation_page import page

JSON = "evaluation.json"
PAGE = "report.html"
FORMAT_VERSION = 1

METRICS = {
    "accuracy": "the share of rows whose highest score is that of their class",
    "average_precision_macro": "area under the precision-recall curve, mean over classes",
    "average_precision_micro": "the same, of all rows and classes as one",
    "auc_macro": "the chance that a row of a class scores higher for it than another row, mean over classes",
    "auc_micro": "the same, of all rows and classes as one",
    "mean_iou": "shared area over covered area, mean over classes",
    "mean_dice": "twice the shared area over the sum of both areas, mean over classes",
    "pixel_accuracy": "the share of pixels whose highest score is that of their class",
}

_WRITING = ".writing-"
_PICTURE = re.compile(rf"(source-\d+-)?({'|'.join(evaluation_plots.NAMES)})\.png")
_MAX_POINTS = 200


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Raise DataError where `folder` cannot take a report: it is a file, or holds something that is to stay."""
    with _writes(folder):
        present = _present(folder)
    if present and not overwrite:
        raise DataError(
            f"expected an empty folder for the evaluation; {folder} holds {', '.join(present[:3])}"
            f"{', ...' if len(present) > 3 else ''}: take another --out, or --overwrite to replace an evaluation in it"
        )


def write_report(evaluation: Evaluation, folder: Path, *, overwrite: bool = False) -> Path:
    """Write all of it into `folder`, which is made where it is missing; returns the page's path.

    overwrite: whether an evaluation that is there may be replaced; files that are none of its own stay.
    Raises DataError where the folder cannot be written to, or is not empty.
    """
    check_folder(folder, overwrite=overwrite)
    pictures = [evaluation_plots.plots(result) for result in evaluation.results]
    files = _picture_files(pictures)
    document = as_json(evaluation, plots=[list(each) for each in pictures])
    files[PAGE] = page(evaluation, pictures, METRICS).encode()
    files[JSON] = (json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
    with _writes(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _replace(folder, files)
    return folder / PAGE


def as_json(evaluation: Evaluation, *, plots: list[list[str]] | None = None) -> dict[str, Any]:
    """What evaluation.json holds. plots: the names of the pictures of every source; none without it."""
    names = plots or [[] for _ in evaluation.results]
    numbered = list(enumerate(zip(evaluation.results, names, strict=True), start=1))
    return {
        "format_version": FORMAT_VERSION,
        "task": evaluation.task,
        "data": {"file": str(evaluation.data), "rows": evaluation.rows, **asdict(evaluation.data_file)},
        "classes": list(evaluation.classes),
        "metrics": {name: METRICS[name] for name in evaluation.results[0].scores.metrics},
        "sources": [
            {**_result(result), "plots": {name: _picture_name(number, name, len(numbered)) for name in shown}}
            for number, (result, shown) in numbered
        ],
        "agreements": [asdict(each) for each in evaluation.agreements],
    }


def _present(folder: Path) -> list[str]:
    """What is in a folder, or would be if it could be made; raises OSError where it cannot."""
    if folder.is_dir():
        return sorted(name for name in os.listdir(folder) if not name.startswith(_WRITING))
    ground = next(path for path in (folder, *folder.parents) if path.exists())
    if not ground.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(ground))
    if not os.access(ground, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(ground))
    return []


def _result(result: Result) -> dict[str, Any]:
    scores = result.scores
    found: dict[str, Any] = {
        "source": result.source,
        "kind": result.kind,
        "metrics": {name: asdict(estimate) for name, estimate in scores.metrics.items()},
        "left_out": list(scores.left_out),
        "confusion": scores.confusion.tolist(),
    }
    if not isinstance(scores, ClassificationScores):
        return found | {"per_class": [asdict(each) for each in scores.per_class]}
    return found | {
        "per_class": [_class(each) for each in scores.per_class],
        "calibration": scores.calibration and asdict(scores.calibration),
        "curves": {each.name: _curves(each) for each in scores.per_class},
    }


def _class(scores: ClassScores) -> dict[str, Any]:
    areas = {"average_precision": asdict(scores.average_precision), "auc": asdict(scores.auc)}
    plain = {name: getattr(scores, name) for name in ("name", "positives", "precision", "recall", "f1")}
    return plain | areas


def _curves(scores: ClassScores) -> dict[str, Any]:
    return {
        "precision_recall": _points(scores.precision_recall, "recall", "precision"),
        "roc": _points(scores.roc, "false_positive_rate", "true_positive_rate"),
    }


def _points(curve: Curve, x: str, y: str) -> dict[str, list[float]]:
    """Points of the curve itself, its ends among them."""
    kept = np.unique(np.linspace(0, len(curve.x) - 1, min(len(curve.x), _MAX_POINTS)).round().astype(int))
    return {x: curve.x[kept].tolist(), y: curve.y[kept].tolist()}


def _picture_files(pictures: list[dict[str, bytes]]) -> dict[str, bytes]:
    return {
        _picture_name(number, name, len(pictures)): data
        for number, each in enumerate(pictures, start=1)
        for name, data in each.items()
    }


def _picture_name(number: int, name: str, sources: int) -> str:
    return f"{name}.png" if sources == 1 else f"source-{number}-{name}.png"


def _replace(folder: Path, files: dict[str, bytes]) -> None:
    """Write all beside what is there, and only then put each in its place; JSON, which says that all is there, last."""
    for left in folder.glob(f"{_WRITING}*"):  # by a process that was killed
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=_WRITING, dir=folder) as beside:
        for name, data in files.items():
            with (Path(beside) / name).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        (folder / JSON).unlink(missing_ok=True)
        for old in folder.iterdir():
            if _PICTURE.fullmatch(old.name):
                old.unlink()
        for name in sorted(files, key=lambda name: name == JSON):
            (Path(beside) / name).replace(folder / name)


@contextlib.contextmanager
def _writes(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"expected a folder that can be written to; {folder} cannot: {error.strerror or error}; take another --out"
        ) from error
