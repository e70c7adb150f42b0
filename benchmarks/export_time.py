"""How long an export takes: MobileNetV2 as SavedModel and ONNX, `python benchmarks/export_time.py [--runs N] [--json]`.

Ours verifies both files in fresh processes, folds the graph and writes a report; beside it stand Keras' own
`model.export` and tf2onnx' command line, which make the same two files and check nothing. All start from one .keras
file, in processes of their own, imports counted; they take turns, and the median of each is printed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

GOAL_SECONDS, GOAL_RATIO = 25.0, 1.2

_SAVE = "import keras, sys; keras.applications.MobileNetV2(weights=None).save(sys.argv[1])"
_EXPORT = "import keras, sys; keras.models.load_model(sys.argv[1]).export(sys.argv[2], verbose=False)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "mobilenet.keras"
        python("-c", _SAVE, str(model))
        for run in range(options.runs):
            for way, make in WAYS.items():
                out = folder / f"{way}-{run}"
                out.mkdir()
                begun = time.perf_counter()
                make(model, out)
                times[way].append(time.perf_counter() - begun)
    medians = {way: statistics.median(seconds) for way, seconds in times.items()}
    ratio = medians["keraship"] / medians["keras + tf2onnx"]
    if options.json:
        print(json.dumps({"seconds": times, "median": medians, "ratio": ratio}))
        return
    for way, seconds in times.items():
        print(f"{way:16}{medians[way]:6.1f} s   of {', '.join(f'{second:.1f}' for second in seconds)}")
    print(f"ratio {ratio:.2f}; at most {GOAL_SECONDS:.0f} s and {GOAL_RATIO} times are asked for")


def ours(model: Path, out: Path) -> None:
    python("-m", "keraship", "export", str(model), "--to", str(out), "--formats", "saved_model,onnx")


def theirs(model: Path, out: Path) -> None:
    saved = out / "saved_model"
    python("-c", _EXPORT, str(model), str(saved))
    python(
        *("-m", "tf2onnx.convert", "--saved-model", str(saved), "--output", str(out / "model.onnx")),
        *("--opset", "18", "--tag", "serve", "--signature_def", "serving_default"),
    )


WAYS: dict[str, Callable[[Path, Path], None]] = {"keraship": ours, "keras + tf2onnx": theirs}


def python(*arguments: str) -> None:
    subprocess.run([sys.executable, "-W", "ignore", *arguments], check=True, capture_output=True)


if __name__ == "__main__":
    main()
