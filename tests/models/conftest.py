from __future__ import annotations

from pathlib import Path

import pytest

from keraship.models import TrainConfig, TrainResult, train
from keraship.models.run import Epoch


@pytest.fixture(scope="session")
def seen_epochs() -> list[Epoch]:
    """What `on_epoch` was called with while `trained` was made."""
    return []


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, seen_epochs: list[Epoch]) -> TrainResult:
    """One real run, short."""
    out: Path = tmp_path_factory.mktemp("run") / "not" / "there yet"
    return train(TrainConfig("cnn", out, epochs=10), on_epoch=seen_epochs.append)
