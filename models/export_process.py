"""The best epoch of a run into a model repository, by `keraship export` in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from keraship.errors import TrainingError
from keraship.models.config import TrainConfig
from keraship.models.run import Run
from keraship.samples import read_samples

REGISTERING = "keraship.models.layers"
"""The module that registers the layers of our networks."""


class ExportFailed(TrainingError):  # noqa: N818  # named as what happened
    """The run is finished and kept, and its export failed. status: the exit status of `keraship export`."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


def export_command(config: TrainConfig, run: Run, repository: str) -> list[str]:
    """The command's arguments, from `export` on: a SavedModel alone for a network of text, which ONNX has not."""
    named = ["--to", repository, "--name", config.model_name]
    formats = ["--formats", "saved_model"] if _takes_text(run) else []
    return ["export", str(run.best), *named, *formats, "--import", REGISTERING, "--evaluate", str(run.test)]


def export_best(config: TrainConfig, run: Run) -> Path:
    """Export the best epoch to the configuration's repository; gives the version's folder. Raises ExportFailed."""
    command = export_command(config, run, str(config.export))
    done = subprocess.run(
        [sys.executable, "-m", "keraship", *command, "--json"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        said = lines[-1].removeprefix("keraship: ")
        raise ExportFailed(f"{run.best} is kept but not exported: {said}", status=done.returncode)
    return Path(json.loads(done.stdout)["folder"])


def _takes_text(run: Run) -> bool:
    return any(array.dtype.kind in "OSU" for array in read_samples(run.test).inputs.values())
