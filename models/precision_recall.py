"""Precision and recall after every epoch: the curves of all classes as a picture, and their areas as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keraship.errors import TrainingError
from keraship.models.rows import Rows
from keraship.models.scoring import scored
from keraship.models.whole import whole

Array = np.ndarray[Any, Any]

_LEGEND = 20  # entries that fit beside the curves


@dataclass(frozen=True, eq=False)
class Curve:
    """One class against all others.

    positives: how many rows (or pixels) are of the class. average_precision: the area under the curve, in steps, as
    scikit-learn has it; None, and empty arrays, where there are no positives. recall, precision: [points].
    """

    name: str
    positives: int
    average_precision: float | None
    recall: Array
    precision: Array


@dataclass(frozen=True, eq=False)
class PrecisionRecall:
    """The curves of all classes.

    macro: the mean of the average precisions, over the classes that have positives. micro: the average precision of
    all decisions, class by class and row by row, taken as one class.
    """

    curves: tuple[Curve, ...]
    macro: float
    micro: float

    def as_json(self) -> dict[str, Any]:
        """`classes`, a list of name, positives and average_precision (null without positives); `macro`; `micro`."""
        names = ("name", "positives", "average_precision")
        classes = [{name: getattr(curve, name) for name in names} for curve in self.curves]
        return {"classes": classes, "macro": self.macro, "micro": self.micro}


def precision_recall(targets: Array, scores: Array, classes: Sequence[str]) -> PrecisionRecall:
    """Precision and recall of every class.

    targets: class ids, [n], or [n, height, width] for masks, each of whose pixels counts. scores: the same shape and
    one axis more, [..., classes]. Raises TrainingError where shapes, ids and classes do not fit, or scores are NaN.
    """
    _check(targets, scores, classes)
    ids, flat = targets.reshape(-1), scores.reshape(-1, len(classes)).astype(np.float64)
    truth = ids[:, np.newaxis] == np.arange(len(classes))  # [n, classes]
    curves = tuple(_curve(name, truth[:, index], flat[:, index]) for index, name in enumerate(classes))
    macro = float(np.mean([curve.average_precision for curve in curves if curve.average_precision is not None]))
    return PrecisionRecall(curves, macro, _average_precision(truth.reshape(-1), flat.reshape(-1)))


class PrecisionRecallCurves(keras.callbacks.Callback):  # type: ignore[misc]  # keras has no types
    """Writes `epoch-003.png`, the curves, and `epoch-003.json`, PrecisionRecall.as_json and `epoch`, after epoch 3.

    folder: made where it is missing. rows: what is judged by, such as the validation split. classes: the name of each
    class id. batch_size: how many rows are predicted at once; all their scores are kept in memory.
    Adds `val_macro_ap` and `val_micro_ap` to the epoch's logs, for the callbacks behind it to monitor.
    Raises TrainingError where the scores do not fit the classes, and where the folder cannot be written to.
    """

    def __init__(self, folder: Path, rows: Rows, *, classes: Sequence[str], batch_size: int = 256) -> None:
        super().__init__()
        if batch_size < 1 or not len(rows):
            raise TrainingError(
                f"expected rows to judge by, and a batch size from 1 on; got {len(rows)} rows, batch_size={batch_size}"
            )
        self._folder, self._rows, self._classes, self._batch_size = folder, rows, tuple(classes), batch_size

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        result = precision_recall(*self._predict(), self._classes)
        self._write(result, epoch + 1)
        if logs is not None:
            logs.update({"val_macro_ap": result.macro, "val_micro_ap": result.micro})

    def _predict(self) -> tuple[Array, Array]:
        """Targets and scores of all rows, in the rows' order."""
        targets, scores = zip(*scored(self.model, self._rows, batch_size=self._batch_size), strict=True)
        return np.concatenate(targets), np.concatenate(scores)

    def _write(self, result: PrecisionRecall, number: int) -> None:
        stem = f"epoch-{number:03d}"
        with whole(self._folder / f"{stem}.png") as path:
            draw(result, path, title=f"epoch {number}")
        with whole(self._folder / f"{stem}.json") as path:
            path.write_text(json.dumps({"epoch": number, **result.as_json()}, indent=2) + "\n", encoding="utf-8")


def draw(result: PrecisionRecall, path: Path, *, title: str) -> None:
    """The curves as a PNG, with the average precision of each; of many classes, the legend has the worst."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")  # without pyplot, which keeps every figure
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.01), title=title)
    drawn = sorted((curve for curve in result.curves if curve.positives), key=_area)
    lines = [axes.step(curve.recall, curve.precision, where="post")[0] for curve in drawn]
    # A name may hold what matplotlib would take as a formula, or begin with the _ that hides a label.
    labels = [f"{_area(curve):.3f}  {curve.name}" for curve in drawn]
    legend = figure.legend(
        lines[:_LEGEND],
        labels[:_LEGEND],
        title=f"average precision\nmacro {result.macro:.3f}, micro {result.micro:.3f}",
        loc="outside right upper",
        fontsize="small",
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    figure.savefig(path, format="png", dpi=100)


def _area(curve: Curve) -> float:
    return curve.average_precision or 0.0


def _curve(name: str, truth: Array, scores: Array) -> Curve:
    positives = int(truth.sum())
    if not positives:
        return Curve(name, 0, None, np.empty(0), np.empty(0))
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(truth, scores, drop_intermediate=True)
    return Curve(name, positives, _average_precision(truth, scores), recall, precision)


def _average_precision(truth: Array, scores: Array) -> float:
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(truth, scores))


def _check(targets: Array, scores: Array, classes: Sequence[str]) -> None:
    if not targets.size or scores.shape != (*targets.shape, len(classes)):
        raise TrainingError(
            f"expected scores of shape {(*targets.shape, len(classes))}, one for each of {len(classes)} classes, and "
            f"one row or more; got {scores.shape}"
        )
    low, high = int(targets.min()), int(targets.max())
    if low < 0 or high >= len(classes):
        raise TrainingError(f"expected class ids from 0 to {len(classes) - 1}; got ids from {low} to {high}")
    bad = int(np.count_nonzero(~np.isfinite(scores)))
    if bad:
        raise TrainingError(f"expected finite scores; {bad} of {scores.size} are not: take a lower --learning-rate")
