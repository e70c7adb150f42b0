"""Models side by side on the same held-out rows: a .keras file, what was exported of it, what is served of it.

from keraship.models.evaluate import evaluate
from keraship.models.evaluation_report import write_report

evaluation = evaluate(["run/best.keras", "repo/digits"], Path("run/test.npz"), imports=["keraship.models.layers"])
write_report(evaluation, Path("evaluation"))
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keraship.bundle import FileEntry
from keraship.errors import DataError
from keraship.extras import require
from keraship.models.classification_scores import ClassificationScores, classification_scores
from keraship.models.estimates import Estimate, share
from keraship.models.held_out import HeldOut, held_out_entry, read_held_out
from keraship.models.predictions import Predictions, in_order, predict_with_y_true
from keraship.models.segmentation_scores import SegmentationScores, segmentation_scores
from keraship.models.sources import Source, parse_sources

Progress = Callable[[str, int, int], None]
"""Called with a source's name, the rows that it has answered, and all rows."""

Scores = ClassificationScores | SegmentationScores


@dataclass(frozen=True, eq=False)
class Result:
    """One source: its name, what kind it is, its answers beside the truth, and how good they are."""

    source: str
    kind: str
    predictions: Predictions
    scores: Scores


@dataclass(frozen=True)
class Agreement:
    """Two sources: the share of rows (or pixels) with the same best class, and the largest difference of any score."""

    first: str
    second: str
    same_top1: Estimate
    max_score_difference: float


@dataclass(frozen=True, eq=False)
class Evaluation:
    """All sources on one file of data. task: "classification" or "segmentation"."""

    data: Path
    data_file: FileEntry
    rows: int
    task: str
    classes: tuple[str, ...]
    results: tuple[Result, ...]
    agreements: tuple[Agreement, ...]


def evaluate(
    sources: Sequence[str],
    data: Path,
    *,
    imports: Sequence[str] = (),
    formats: Sequence[str] = (),
    label_column: str | None = None,
    batch_size: int = 256,
    seed: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """Judge every source on the same rows, and compare them with each other.

    sources: .keras files, folders of exported versions, HOST:PORT/MODEL. data: as held_out reads it.
    imports: modules that register classes of the .keras files. formats: "onnx" and "saved_model", those to run of a
    folder. label_column: as held_out takes it. batch_size: rows asked at once. seed: decides the intervals' resamples.
    Raises DataError for data that cannot be read, has no labels, or does not fit; ModelError, BundleError, ServerError
    and StatusError for a source that cannot be had; ValueError for an address that is none, and a source given twice.
    """
    parsed = parse_sources(sources, imports=imports, formats=formats)
    return compare(parsed, data, label_column=label_column, batch_size=batch_size, seed=seed, progress=progress)


def compare(
    sources: Sequence[Source],
    data: Path,
    *,
    label_column: str | None = None,
    batch_size: int = 256,
    seed: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """What `evaluate` does, with sources of any kind, at least one."""
    require("train", "sklearn", "matplotlib")
    held_out = read_held_out(data, label_column=label_column)
    asked = [_ask(source, held_out, batch_size, progress) for source in sources]
    _check_classes(asked)
    results = tuple(
        Result(source.name, source.kind, predictions, _judge(predictions, seed))
        for source, predictions in zip(sources, asked, strict=True)
    )
    return Evaluation(
        data=data,
        data_file=held_out_entry(data),
        rows=len(held_out.rows),
        task="segmentation" if asked[0].is_segmentation else "classification",
        classes=asked[0].classes,
        results=results,
        agreements=tuple(agreement(*pair) for pair in itertools.combinations(asked, 2)),
    )


def agreement(first: Predictions, second: Predictions) -> Agreement:
    """How alike the answers of two sources are."""
    same = first.top1 == second.top1
    difference = np.abs(first.y_pred.astype(np.float64) - second.y_pred).max()
    return Agreement(first.source, second.source, share(int(same.sum()), same.size), float(difference))


def _ask(source: Source, held_out: HeldOut, batch_size: int, progress: Progress | None) -> Predictions:
    tell = progress or (lambda _name, _done, _total: None)
    rows = held_out.rows
    tell(source.name, 0, len(rows))
    with source.opened() as ask:
        rows = held_out.rows_for(ask.inputs)
        batches = _told(in_order(rows, batch_size=batch_size), lambda done: tell(source.name, done, len(rows)))
        return predict_with_y_true(ask, batches, classes=held_out.classes, source=source.name)


def _told(batches: Iterable[tuple[Any, Any]], tell: Callable[[int], None]) -> Iterator[tuple[Any, Any]]:
    """The batches, each told of once the next is asked for: it has been answered then."""
    done = 0
    for inputs, targets in batches:
        yield inputs, targets
        done += len(targets)
        tell(done)


def _check_classes(asked: Sequence[Predictions]) -> None:
    first = asked[0]
    for other in asked[1:]:
        if other.y_pred.shape != first.y_pred.shape:
            raise DataError(
                f"expected sources with the same classes; {first.source} gives scores of shape "
                f"{list(first.y_pred.shape)}, {other.source} of {list(other.y_pred.shape)}"
            )


def _judge(predictions: Predictions, seed: int) -> Scores:
    judge: Callable[..., Scores] = segmentation_scores if predictions.is_segmentation else classification_scores
    return judge(predictions, seed=seed)
