"""What a training run is made of, checked before anything starts."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keraship.errors import TrainingError
from keraship.models.choice import choose
from keraship.models.data import DATASETS
from keraship.models.networks import NETWORKS


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    network: a name out of networks.NETWORKS. out: the run's folder, made where it is missing. data: a name out of
    data.DATASETS. epochs: how often every image is seen. batch_size: images a step. learning_rate: that of the first
    step; it falls to 0 along a half cosine. seed: decides the splits, the first weights, the order and the dropout.
    overwrite: whether a run that `out` holds may be replaced.
    Raises TrainingError, naming every field that cannot be.
    """

    network: str
    out: Path
    data: str = "digits"
    epochs: int = 30
    batch_size: int = 32
    learning_rate: float = 1e-3
    seed: int = 0
    overwrite: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "out", Path(self.out))
        choose("a network", self.network, NETWORKS)
        choose("a data set", self.data, DATASETS)
        faults = [
            f"{field} to be {expected}, got {getattr(self, field)!r}"
            for field, (expected, holds) in _RULES.items()
            if not holds(getattr(self, field))
        ]
        if faults:
            raise TrainingError(f"expected {'; '.join(faults)}")


def _whole(low: int, high: float = math.inf) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, numbers.Integral) and low <= int(value) <= high


def _positive(value: Any) -> bool:
    return isinstance(value, numbers.Real) and 0 < float(value) < math.inf


_SEED_MAX = 2**32 - 1  # what numpy's and scikit-learn's generators take

_RULES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "epochs": ("a whole number from 1 on", _whole(1)),
    "batch_size": ("a whole number from 1 on", _whole(1)),
    "learning_rate": ("a number above 0", _positive),
    "seed": (f"a whole number from 0 to {_SEED_MAX}", _whole(0, _SEED_MAX)),
}
