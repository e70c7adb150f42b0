"""int8 artifacts beside the folded float ones, on trained models: speed, agreement, accuracy, size.

    python benchmarks/int8.py [--models build/trained] [--formats saved_model,onnx] [--json] [resnet mlp ...]

The models are those of benchmarks/trained.py, trained where they are not there yet. Each is exported with --quantize
int8, then every artifact is timed in processes of its own, on one core, float and int8 in turns; ratios are those of
the medians of all turns. Agreement and drop are measured by the export, on the held-out rows.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import trained
from time_artifact import timed

from keraship.exporter import export

ROWS, TURNS = [1, 8, 32], 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(trained.MODELS))
    parser.add_argument("--models", type=Path, default=Path("build/trained"))
    parser.add_argument("--formats", default="saved_model,onnx")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = [
        line for name in arguments.names for line in measured(arguments.models, name, arguments.formats.split(","))
    ]
    if arguments.json:
        print(json.dumps(found, indent=1))
        return
    print("model        format          x at 1  x at 8 x at 32  agrees  points of accuracy lost  bytes")
    for line in found:
        print(told(line))


def measured(models: Path, name: str, formats: list[str]) -> list[dict[str, Any]]:
    path, (calibrate, test) = trained.model(models, name), trained.data(models)
    with tempfile.TemporaryDirectory() as folder:
        exported = export(
            path, folder, formats=formats, quantize=["int8"], calibrate=calibrate, evaluate=test, max_drop=0.5,
            keep_passing=True, timed=[32],
        )  # fmt: skip
        rows = {(row.scheme, row.format): row for row in exported.outcome.rows}
        return [compared(name, exported, rows["", format_], rows["int8", format_]) for format_ in formats]


def compared(name: str, exported: Any, plain: Any, quantized: Any) -> dict[str, Any]:
    line = {"model": name, "format": plain.format, "verdict": quantized.verdict, "reason": quantized.reason}
    if quantized.artifact is None or "int8" not in exported.variants:
        return line
    times = {"float": [], "int8": []}
    for _ in range(TURNS):
        times["float"].append(timed(plain.format, exported.folder, ROWS))
        times["int8"].append(timed(plain.format, exported.variants["int8"].folder, ROWS))
    medians = {kind: {size: _median(turns, size) for size in ROWS} for kind, turns in times.items()}
    drop = quantized.artifact.drop
    return line | {
        "milliseconds": medians,
        "times_faster": {size: medians["float"][size] / medians["int8"][size] for size in ROWS},
        "agreement": quantized.artifact.parity.agreement,
        "drop": [drop.points, drop.low, drop.high],
        "bytes": {"float": plain.artifact.bytes, "int8": quantized.artifact.bytes},
        "kept_float": [kept.layer for kept in quantized.artifact.coverage.kept_float],
    }


def _median(turns: list[dict[str, float]], size: int) -> float:
    return statistics.median(turn[str(size)] for turn in turns)


def told(line: dict[str, Any]) -> str:
    head = f"{line['model']:12} {line['format']:12} "
    if "times_faster" not in line:
        return f"{head}{line['verdict']}: {line['reason']}"
    faster = " ".join(f"{ratio:7.2f}" for ratio in line["times_faster"].values())
    points, low, high = line["drop"]
    size = line["bytes"]["int8"] / line["bytes"]["float"]
    return f"{head}{faster} {line['agreement']:7.4f} {points:7.2f} [{low:5.2f}, {high:5.2f}] {size:4.2f}"


if __name__ == "__main__":
    main()
