"""Which `keraship export` a run's best epoch is given to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from keraship.models import TrainConfig
from keraship.models.export_process import export_command
from keraship.models.run import Run


@pytest.mark.parametrize(
    ("inputs", "formats"),
    [
        ({"images": np.zeros((2, 8, 8, 1), np.float32)}, None),
        ({"text": np.array(["a", "b"])}, "saved_model"),
        ({"age": np.zeros(2), "town": np.array(["x", "y"])}, "saved_model"),
    ],
)
def test_text_has_no_onnx(tmp_path: Path, inputs: dict[str, np.ndarray], formats: str | None) -> None:
    """A network that takes text is exported as a SavedModel alone, others in every format."""
    np.savez(tmp_path / "test.npz", labels=np.arange(2), **inputs)
    command = export_command(TrainConfig("cnn", tmp_path), Run(tmp_path), "repo")
    chosen = command[command.index("--formats") + 1] if "--formats" in command else None
    assert chosen == formats
