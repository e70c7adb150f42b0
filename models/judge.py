"""How good a run's best epoch is on the test split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np

from keraship.bundle import Quality
from keraship.intervals import wilson
from keraship.models.pipeline import batches
from keraship.models.predictions import Predictions
from keraship.models.rows import Rows, fetch_all
from keraship.models.segmentation_scores import segmentation_scores
from keraship.models.task import SEGMENTATION, Task

Array = np.ndarray[Any, Any]


def judge(model: Path, test: Rows, *, task: Task, batch_size: int) -> Quality:
    """The accuracy of a saved model, or of masks the mean IoU: of the file, as the next step will load it."""
    rows = batches(test, batch_size=batch_size, deterministic=True)
    best = keras.saving.load_model(model, compile=False)
    best.jit_compile = False  # XLA would compile longer than one pass over the rows takes
    scores = best.predict(rows, verbose=0)  # [n, classes], or of each pixel
    _, targets = fetch_all(test)
    return _mean_iou(targets, scores) if task.kind == SEGMENTATION else _accuracy(targets, scores)


def _accuracy(targets: Array, scores: Array) -> Quality:
    right = int((scores.argmax(axis=-1) == targets).sum())
    low, high = wilson(right, len(targets))
    return Quality("accuracy", right / len(targets), low, high, len(targets))


def _mean_iou(targets: Array, scores: Array) -> Quality:
    estimate = segmentation_scores(Predictions(targets, scores)).metrics["mean_iou"]
    low, high = (0.0, 1.0) if estimate.low is None or estimate.high is None else (estimate.low, estimate.high)
    return Quality("mean_iou", estimate.value, low, high, len(targets))  # of a single image, there is no interval
