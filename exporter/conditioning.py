"""How far rounding alone moves a model's answers: what no artifact can be expected to stay below.

A float32 computation is the exact one of a model whose weights are a few last digits off (backward error, Higham,
Accuracy and Stability of Numerical Algorithms, ch. 1). So the weights are moved by their last digit, up or down at
random, and the model asked again. Most models answer within 1e-6; some deep networks multiply such differences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from keraship.exporter.findings import Findings

Arrays = dict[str, np.ndarray[Any, Any]]

SLACK = 8.0
"""How many such differences an artifact may be off: it adds in another order at every layer, and folds layers."""

CEILING = 1e-3
"""However ill-conditioned a model is, beyond this an artifact is taken to be wrong."""


def tolerance(
    base: float, found: Iterable[Findings], samples: tuple[Arrays, Arrays], ask: Callable[..., Arrays]
) -> float:
    """The relative error that float artifacts may have: `base`, or more where one is beyond and rounding explains it.

    samples: inputs and the model's answers. ask: the model's answers where its weights are moved by a relative amount,
    given the inputs and a function of a weight.
    """
    worst = max((item.max_rel for each in found for item in each.comparisons), default=0.0)
    if worst <= base or not np.isfinite(worst):
        return base
    inputs, outputs = samples
    moved = ask(inputs, _moved)
    noise = max((_difference(outputs[name], moved[name]) for name in outputs), default=0.0)
    return max(base, min(SLACK * noise, CEILING))


def _moved(weight: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    random = np.random.default_rng(weight.size)
    factors = 1 + np.finfo(weight.dtype).eps * random.choice([-1, 1], weight.shape)
    return np.asarray(weight * factors, weight.dtype)


def _difference(before: np.ndarray[Any, Any], after: np.ndarray[Any, Any]) -> float:
    if before.dtype.kind != "f" or before.shape != after.shape or not before.size:
        return 0.0
    both = np.isfinite(before) & np.isfinite(after)
    size = float(np.max(np.abs(before[both]), initial=0.0)) or 1.0
    return float(np.max(np.abs(before[both] - after[both]), initial=0.0)) / size
