"""An evaluation as one HTML page for people, which needs no other file and no network."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape

import numpy as np

from keraship.models.classification_scores import ClassificationScores
from keraship.models.estimates import Estimate
from keraship.models.evaluate import Evaluation, Result
from keraship.models.segmentation_scores import SegmentationScores

_MISTAKES = 10

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { border: 1px solid #8886; padding: .3rem .6rem; text-align: right; }
th:first-child, td:first-child { text-align: left; }
figure { display: inline-block; margin: .5rem; max-width: 29rem; }
img { max-width: 100%; background: white; }
small, figcaption { color: #777; }
"""

_CAPTIONS = {
    "precision_recall": "The further to the top right, the better: what is found is right, and all of it is found.",
    "roc": "The further to the top left, the better; the dotted line is guessing.",
    "confusion": "Rows are what is true, columns what was answered; off the diagonal are the mistakes.",
    "calibration": "On the dotted line, a score is the chance to be right; below it, the model is too sure of itself.",
    "overlap": "How much of what is answered or true is both.",
}


def page(evaluation: Evaluation, pictures: Sequence[Mapping[str, bytes]], meanings: Mapping[str, str]) -> str:
    """The page's HTML. pictures: of every source, PNG by name. meanings: what each headline is, by name."""
    title = f"Evaluation on {evaluation.data.name}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{evaluation.rows} rows, {len(evaluation.classes)} classes ({evaluation.task}). "
        "In brackets: 95 % confidence intervals.</p>",
        *(f"<p>{_verdict(result, evaluation)}</p>" for result in evaluation.results),
        _headlines(evaluation, meanings),
        _agreements(evaluation),
    ]
    for result, drawn in zip(evaluation.results, pictures, strict=True):
        parts += [f"<h2>{escape(result.source)}</h2>", f"<p>{escape(result.kind)}</p>", *_notes(result)]
        parts += [_figure(name, data, result.source) for name, data in drawn.items()]
        parts += [_per_class(result), _mistakes(result)]
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(filter(None, parts))
        + "\n</body></html>\n"
    )


def _verdict(result: Result, evaluation: Evaluation) -> str:
    name, metrics = f"<b>{escape(result.source)}</b>", result.scores.metrics
    if "accuracy" in metrics:
        right = round(metrics["accuracy"].value * evaluation.rows)
        return f"{name} is right on {right} of {evaluation.rows} rows: accuracy {estimate_text(metrics['accuracy'])}."
    return f"{name} has a mean IoU of {estimate_text(metrics['mean_iou'])} over {evaluation.rows} images."


def estimate_text(estimate: Estimate) -> str:
    """A number with its interval: `0.983 [0.964, 0.992]`."""
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.3f}"
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _headlines(evaluation: Evaluation, meanings: Mapping[str, str]) -> str:
    first = evaluation.results[0].scores.metrics
    rows = [
        [
            f"{escape(name.replace('_', ' '))}<br><small>{escape(meanings[name])}</small>",
            *(estimate_text(result.scores.metrics[name]) for result in evaluation.results),
        ]
        for name in first
    ]
    return _table(["", *(escape(result.source) for result in evaluation.results)], rows)


def _agreements(evaluation: Evaluation) -> str:
    if not evaluation.agreements:
        return ""
    rows = [
        [
            f"{escape(each.first)} and {escape(each.second)}",
            estimate_text(each.same_top1),
            f"{each.max_score_difference:.2g}",
        ]
        for each in evaluation.agreements
    ]
    return "<h2>Do they agree?</h2>" + _table(["", "same best class", "largest difference of a score"], rows)


def _notes(result: Result) -> Iterable[str]:
    scores = result.scores
    if scores.left_out:
        names = ", ".join(map(escape, scores.left_out))
        yield f"<p>Left out, for the data has nothing of them: {names}.</p>"
    if isinstance(scores, ClassificationScores) and scores.calibration is None:
        yield "<p>Its scores are no probabilities (they do not add up to 1): no calibration is shown.</p>"


def _figure(name: str, data: bytes, source: str) -> str:
    image = base64.b64encode(data).decode()
    alt = escape(f"{name.replace('_', ' ')} of {source}", quote=True)
    picture = f'<img alt="{alt}" src="data:image/png;base64,{image}">'
    return f"<figure>{picture}<figcaption>{_CAPTIONS[name]}</figcaption></figure>"


def _per_class(result: Result) -> str:
    if isinstance(result.scores, SegmentationScores):
        areas = [
            [escape(each.name), str(each.pixels), estimate_text(each.iou), estimate_text(each.dice)]
            for each in result.scores.per_class
        ]
        return _table(["class", "pixels", "IoU", "Dice"], areas)
    rows = [
        [
            escape(each.name),
            str(each.positives),
            "never answered" if each.precision is None else f"{each.precision:.3f}",
            f"{each.recall:.3f}",
            f"{each.f1:.3f}",
            estimate_text(each.average_precision),
            estimate_text(each.auc),
        ]
        for each in result.scores.per_class
    ]
    return _table(["class", "rows", "precision", "recall", "F1", "average precision", "AUC"], rows)


def _mistakes(result: Result) -> str:
    """The most frequent confusions of two classes."""
    wrong = result.scores.confusion.copy()
    np.fill_diagonal(wrong, 0)
    names, what = result.predictions.classes, "pixels" if result.predictions.is_segmentation else "rows"
    cells = [np.unravel_index(cell, wrong.shape) for cell in np.argsort(-wrong, axis=None, kind="stable")[:_MISTAKES]]
    rows = [
        [escape(names[true]), escape(names[said]), str(wrong[true, said])] for true, said in cells if wrong[true, said]
    ]
    return (
        "<h3>Most frequent mistakes</h3>" + _table(["true", "answered", what], rows) if rows else "<p>No mistakes.</p>"
    )


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{header}</th>" for header in headers)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
