from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keraship.errors import TrainingError
from keraship.models import TrainConfig


@pytest.mark.parametrize(
    "wrong",
    [
        {"network": "resnet50"},
        {"data": "mnist"},
        {"epochs": 0},
        {"epochs": 2.5},
        {"batch_size": -1},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"learning_rate": float("inf")},
        {"learning_rate": "fast"},
        {"seed": -1},
        {"seed": 2**32},
    ],
)
def test_wrong_field(wrong: dict[str, Any]) -> None:
    """What cannot be is refused when it is written down, with the value that came."""
    with pytest.raises(TrainingError, match=re.escape(repr(next(iter(wrong.values()))))):
        TrainConfig(**{"network": "cnn", "out": Path("run"), **wrong})


def test_all_faults_at_once() -> None:
    """Every wrong number is named in one message."""
    with pytest.raises(TrainingError, match=r"epochs .*got 0; batch_size .*got 0; seed .*got -1"):
        TrainConfig("cnn", Path("run"), epochs=0, batch_size=0, seed=-1)


def test_numbers_of_numpy() -> None:
    """A search over settings may hand in numpy's numbers."""
    assert TrainConfig("cnn", Path("run"), epochs=np.int64(3), learning_rate=np.float32(0.1)).epochs == 3
