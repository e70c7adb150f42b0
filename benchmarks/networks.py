"""How well each network learns real data: `python benchmarks/networks.py [NETWORK-DATA ...]`, such as cnn-digits.

Every line is a run of `keraship train` of its own, judged on rows that it never saw; beside text and tables stands a
logistic regression of scikit-learn on the same rows, its strength chosen by cross-validation.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keraship.intervals import wilson
from keraship.models.data import fetch_all, load


@dataclass(frozen=True)
class Run:
    """data: what `keraship data` writes, or a set that comes with scikit-learn. goal: what must be reached."""

    network: str
    data: str
    options: tuple[str, ...] = ()
    goal: float | None = None

    @property
    def name(self) -> str:
        return f"{self.network}-{self.data}"


RUNS = (
    Run("cnn", "digits", goal=0.985),
    Run("resnet", "digits", goal=0.985),
    Run("finetune", "digits", ("--epochs=5",)),
    Run("segmentation", "scenes", ("--epochs=15", "--learning-rate=0.002"), goal=0.85),
    Run("text", "text", ("--epochs=15", "--learning-rate=0.003")),
    Run("tabular", "wine"),
    Run("tabular", "breast_cancer"),
)

MADE = ("scenes", "text")


def main(names: list[str]) -> None:
    print(f"{'network':14}{'data':15}{'figure':10}{'value':>7}  {'95 % interval':18}{'seconds':>8}  beside it")
    with tempfile.TemporaryDirectory() as folder:
        for run in RUNS:
            if not names or run.name in names:
                show(run, Path(folder))


def show(run: Run, folder: Path) -> None:
    data = run.data
    if data in MADE:
        data = str(folder / data)
        keraship("data", run.data, "--out", data)
    begun = time.perf_counter()
    quality = keraship("train", run.network, "--data", data, "--out", str(folder / run.name), *run.options)["quality"]
    seconds = time.perf_counter() - begun
    beside = f"goal {run.goal}" if run.goal else regression(data) if run.network in ("text", "tabular") else ""
    interval = f"{quality['low']:.3f} to {quality['high']:.3f}"
    figure = f"{run.network:14}{run.data:15}{quality['metric']:10}{quality['value']:7.3f}"
    print(f"{figure}  {interval:18}{seconds:8.0f}  {beside}", flush=True)


def keraship(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "keraship", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def regression(data: str) -> str:
    """The test accuracy of a logistic regression that was tuned on the training and validation rows."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    parts = load(data, seed=0)
    columns = [fetch_all(rows) for rows in (parts.train, parts.validation, parts.test)]
    is_text = "text" in columns[0][0]
    tables = [inputs["text"] if is_text else np.column_stack(list(inputs.values())) for inputs, _ in columns]
    model = make_pipeline(
        TfidfVectorizer(sublinear_tf=True) if is_text else StandardScaler(), LogisticRegression(max_iter=5000)
    )
    search = GridSearchCV(model, {"logisticregression__C": np.logspace(-3, 4, 15)}, cv=5)
    search.fit(np.concatenate(tables[:2]), np.concatenate([labels for _, labels in columns[:2]]))
    right = int((search.predict(tables[2]) == columns[2][1]).sum())
    low, high = wilson(right, len(tables[2]))
    return f"logistic regression {right / len(tables[2]):.3f}, {low:.3f} to {high:.3f}"


if __name__ == "__main__":
    main(sys.argv[1:])
