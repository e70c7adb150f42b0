"""An evaluation's pictures, as PNG."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from keraship.models.classification_scores import ClassificationScores, ClassScores, Curve
from keraship.models.evaluate import Result
from keraship.models.segmentation_scores import SegmentationScores

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = 10
"""More curves than these can't be told apart: the classes with the lowest average precision are drawn."""

_CELLS_WITH_NUMBERS = 20
_TICKS = 40
_DPI = 110

_Corner = Literal["upper left", "lower left", "lower right"]


def plots(result: Result) -> dict[str, bytes]:
    """Every picture that can be drawn of a result, by name, as the bytes of a PNG file."""
    return {
        name: _png(draw, result)
        for name, (draw, kind) in _PLOTS.items()
        if isinstance(result.scores, kind) and not (name == "calibration" and _has_no_calibration(result.scores))
    }


def _png(draw: Callable[[Axes, Result], None], result: Result) -> bytes:
    from matplotlib.figure import Figure  # not pyplot, which keeps figures and picks a window system

    figure = Figure(figsize=(7, 5.5), layout="constrained")
    draw(figure.add_subplot(), result)
    file = io.BytesIO()
    with warnings.catch_warnings():
        # Class names in scripts that the font lacks become boxes here; the page and the JSON have them in full.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure.savefig(file, format="png", dpi=_DPI)
    return file.getvalue()


def _precision_recall(axes: Axes, result: Result) -> None:
    scores = _classification(result)
    average = scores.metrics["average_precision_micro"].value
    _line(axes, scores.micro_precision_recall, f"all, micro: AP {average:.3f}", color="black", linewidth=2)
    for each in _drawn(scores):
        _line(axes, each.precision_recall, f"{each.name}: AP {each.average_precision.value:.3f}")
    title = _title("Precision-recall", scores)
    _frame(
        axes, "recall: of those that are, found", "precision: of those found, right", title=title, legend="lower left"
    )


def _roc(axes: Axes, result: Result) -> None:
    scores = _classification(result)
    _line(
        axes, scores.micro_roc, f"all, micro: AUC {scores.metrics['auc_micro'].value:.3f}", color="black", linewidth=2
    )
    for each in _drawn(scores):
        _line(axes, each.roc, f"{each.name}: AUC {each.auc.value:.3f}")
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1)
    _frame(axes, "false positive rate", "true positive rate", title=_title("ROC", scores), legend="lower right")


def _calibration(axes: Axes, result: Result) -> None:
    calibration = _classification(result).calibration
    assert calibration is not None  # noqa: S101  # plots() has seen to it
    confidence = np.array([each.confidence for each in calibration.bins])
    accuracy = np.array([each.accuracy.value for each in calibration.bins])
    # Wilson's interval holds the share, give or take a rounding error, which errorbar would refuse.
    errors = np.array([
        [max(0.0, e.accuracy.value - (e.accuracy.low or 0.0)), max(0.0, (e.accuracy.high or 0.0) - e.accuracy.value)]
        for e in calibration.bins
    ])  # fmt: skip
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1, label="perfect")
    axes.errorbar(confidence, accuracy, yerr=errors.T, marker="o", capsize=3, label="with 95 % intervals")
    for x, y, each in zip(confidence, accuracy, calibration.bins, strict=True):
        axes.annotate(str(each.count), (x, y), textcoords="offset points", xytext=(6, -12), fontsize=8)
    title = f"Calibration, expected error {calibration.error:.3f} (numbers: rows)"
    _frame(axes, "highest score", "share that is right", title=title, legend="upper left")


def _confusion(axes: Axes, result: Result) -> None:
    confusion, names = result.scores.confusion, result.predictions.classes
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(names) <= _CELLS_WITH_NUMBERS:
        for row, column in np.ndindex(*confusion.shape):
            text = _cell(result, row, column)
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    ticks = range(0, len(names), -(-len(names) // _TICKS))
    axes.set_xticks(ticks, [_plain(names[tick]) for tick in ticks], rotation=90 if len(names) > 10 else 0)
    axes.set_yticks(ticks, [_plain(names[tick]) for tick in ticks])
    axes.set(xlabel="answered", ylabel="true", title="Confusion (colour: share of the true class)")


def _overlap(axes: Axes, result: Result) -> None:
    scores = result.scores
    assert isinstance(scores, SegmentationScores)  # noqa: S101  # plots() has seen to it
    places = np.arange(len(scores.per_class))
    axes.barh(places - 0.2, [each.iou.value for each in scores.per_class], height=0.4, label="IoU")
    axes.barh(places + 0.2, [each.dice.value for each in scores.per_class], height=0.4, label="Dice")
    axes.set_yticks(places, [_plain(each.name) for each in scores.per_class])
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel="overlap", title=f"Overlap by class, mean IoU {scores.metrics['mean_iou'].value:.3f}")
    axes.legend()


_PLOTS: dict[str, tuple[Callable[[Axes, Result], None], type]] = {
    "precision_recall": (_precision_recall, ClassificationScores),
    "roc": (_roc, ClassificationScores),
    "confusion": (_confusion, object),
    "calibration": (_calibration, ClassificationScores),
    "overlap": (_overlap, SegmentationScores),
}

NAMES = tuple(_PLOTS)
"""The names of all pictures that there can be."""


def _classification(result: Result) -> ClassificationScores:
    assert isinstance(result.scores, ClassificationScores)  # noqa: S101  # plots() has seen to it
    return result.scores


def _has_no_calibration(scores: Any) -> bool:
    return isinstance(scores, ClassificationScores) and scores.calibration is None


def _drawn(scores: ClassificationScores) -> Sequence[ClassScores]:
    if len(scores.per_class) <= SHOWN:
        return scores.per_class
    return sorted(scores.per_class, key=lambda each: each.average_precision.value)[:SHOWN]


def _title(what: str, scores: ClassificationScores) -> str:
    classes = len(scores.per_class)
    return what if classes <= SHOWN else f"{what}: the {SHOWN} worst of {classes} classes"


def _line(axes: Axes, curve: Curve, label: str, **style: Any) -> None:
    axes.plot(curve.x, curve.y, label=_plain(label), **{"linewidth": 1, **style})


def _frame(axes: Axes, x: str, y: str, *, title: str, legend: _Corner) -> None:
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel=x, ylabel=y, title=title)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc=legend)  # "best" is slow to find among many points


def _cell(result: Result, row: int, column: int) -> str:
    """Rows by their number; pixels, which are too many to write, by their share in hundredths."""
    count = int(result.scores.confusion[row, column])
    if not result.predictions.is_segmentation:
        return str(count)
    total = int(result.scores.confusion[row].sum())
    return f"{100 * count / total:.0f}" if total else ""


def _plain(text: str) -> str:
    r"""Text that is no formula, which $ starts, and no hidden label, which _ starts."""
    return (" " + text if text.startswith("_") else text).replace("$", r"\$")
