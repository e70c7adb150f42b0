"""ONNX int8 against ONNX float, on networks trained on scikit-learn's digits: latency, agreement, size.

    python benchmarks/onnx_int8.py [--models mlp,resnet] [--schemes int8,dynamic] [--json]

Each variant is timed in a process of its own, with one thread. The variants of a model take turns; of the medians of
its turns each variant's least counts, for what disturbs a turn only adds to it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

BATCHES = (1, 8, 32)
CALIBRATION = 256
TURNS = 5


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--models", default=",".join(MODELS))
    arguments.add_argument("--schemes", default="int8")
    arguments.add_argument("--json", action="store_true")
    arguments.add_argument("--keep", type=Path, help="a folder for the networks and files, used again the next time")
    arguments.add_argument("--time", nargs=2, type=Path, help=argparse.SUPPRESS)
    chosen = arguments.parse_args()
    if chosen.time:
        serve_times(*chosen.time)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = chosen.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        rows = [row for name in chosen.models.split(",") for row in measure(name, chosen.schemes.split(","), folder)]
    if chosen.json:
        print(json.dumps(rows))
        return
    print(f"{'model':<12} {'variant':<12} {'MB':>6} {'agrees':>7} {'accuracy':>8}  ms at {BATCHES}, x float")
    for row in rows:
        times = "  ".join(f"{ms:8.2f} {ratio:5.2f}x" for ms, ratio in zip(row["ms"], row["ratio"], strict=True))
        print(
            f"{row['model']:<12} {row['variant']:<12} {row['mb']:6.2f} {row['agreement']:7.4f} {row['accuracy']:8.4f}  "
            f"{times}  {row['kept']} kept float"
        )


def measure(name: str, schemes: list[str], folder: Path) -> list[dict]:
    """Rows for the float model and each scheme."""
    subprocess.run([sys.executable, "-W", "ignore", "-c", WRITE, name, *schemes, str(folder)], check=True)
    data = np.load(folder / f"{name}.npz")
    variants = ["float", *schemes]
    children = {variant: Child(folder / f"{name}-{variant}.onnx", folder / f"{name}.npz") for variant in variants}
    answers = {variant: child.answers() for variant, child in children.items()}
    times: dict[str, list[list[float]]] = {variant: [] for variant in variants}
    for _ in range(TURNS):
        for variant, child in children.items():
            times[variant].append(child.turn())
    for child in children.values():
        child.close()
    best = {variant: [min(column) for column in zip(*turns, strict=True)] for variant, turns in times.items()}
    kept = json.loads((folder / f"{name}.json").read_text())
    return [
        {
            "model": name,
            "variant": variant,
            "mb": (folder / f"{name}-{variant}.onnx").stat().st_size / 1e6,
            "agreement": float(np.mean(answers[variant] == answers["float"])),
            "accuracy": float(np.mean(answers[variant] == data["labels"])),
            "ms": best[variant],
            "ratio": [plain / own for own, plain in zip(best[variant], best["float"], strict=True)],
            "kept": kept.get(variant, 0),
        }
        for variant in variants
    ]


class Child:
    """A process with one variant."""

    def __init__(self, model: Path, data: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--time", str(model), str(data)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def answers(self) -> np.ndarray:
        return np.array(self._ask("answers"))

    def turn(self) -> list[float]:
        return self._ask("turn")

    def close(self) -> None:
        self._process.communicate()

    def _ask(self, question: str) -> list[float]:
        self._process.stdin.write(question + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def serve_times(model: Path, data: Path) -> None:
    """In the child: answer `answers` with the classes of all rows, `turn` with the median ms at each batch size."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    x = np.load(data)["x"]

    def run(rows: np.ndarray) -> np.ndarray:
        return session.run(None, {"x": rows})[0]

    for line in sys.stdin:
        if line.strip() == "answers":
            parts = [run(x[start : start + 32]).argmax(1) for start in range(0, len(x), 32)]
            print(json.dumps(np.concatenate(parts).tolist()), flush=True)
        else:
            print(json.dumps([median_ms(run, x[:size]) for size in BATCHES]), flush=True)


def median_ms(run, rows: np.ndarray) -> float:
    run(rows)
    times: list[float] = []
    while len(times) < 5 or (len(times) < 100 and sum(times) < 0.3):
        start = time.perf_counter()
        run(rows)
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


MODELS = ("mlp", "resnet", "mobilenet", "transformer")

WRITE = f"""
import json, sys
from pathlib import Path
import numpy as np
from keraship.quiet import import_keras
keras = import_keras()
from keras import layers
from sklearn.datasets import load_digits
from keraship.exporter import freeze, onnx_quantize, to_onnx, trace

name, *schemes, folder = sys.argv[1:]
folder = Path(folder)
SIZE = {{"mlp": 8, "resnet": 32, "mobilenet": 48, "transformer": 16}}[name]

def mlp():
    x = keras.Input((8, 8, 1), name="x")
    y = layers.Flatten()(x)
    for _ in range(4):
        y = layers.Dense(1024, activation="relu")(y)
    return keras.Model(x, layers.Dense(10, activation="softmax")(y)), 12

def resnet():
    x = keras.Input((32, 32, 1), name="x")
    def conv(y, width, stride=1, kernel=3):
        return layers.BatchNormalization(momentum=0.9)(layers.Conv2D(width, kernel, stride, "same", use_bias=False)(y))
    y = layers.ReLU()(conv(x, 32, 2))
    for width, stride in ((32, 1), (64, 2), (128, 2), (256, 2)):
        short = y if stride == 1 else conv(y, width, stride, 1)
        y = conv(layers.ReLU()(conv(y, width, stride)), width)
        y = layers.ReLU()(layers.Add()([y, short]))
    return keras.Model(x, layers.Dense(10, activation="softmax")(layers.GlobalAveragePooling2D()(y))), 6

def mobilenet():
    x = keras.Input((48, 48, 1), name="x")
    body = keras.applications.MobileNetV2(input_shape=(48, 48, 3), weights=None, include_top=False, pooling="avg")
    return keras.Model(x, layers.Dense(10, activation="softmax")(body(layers.Concatenate()([x, x, x])))), 12

def transformer():
    x = keras.Input((16, 16, 1), name="x")
    y = layers.Dense(128)(layers.Reshape((16, 16))(x))
    y = y + layers.Embedding(16, 128)(keras.ops.arange(16))[None]
    for _ in range(4):
        z = layers.LayerNormalization()(y)
        y = y + layers.MultiHeadAttention(4, 32)(z, z)
        z = layers.LayerNormalization()(y)
        y = y + layers.Dense(128)(layers.Dense(512, activation="gelu")(z))
    return keras.Model(x, layers.Dense(10, activation="softmax")(layers.GlobalAveragePooling1D()(y))), 10

digits = load_digits()
images = digits.images.astype(np.float32)[..., None] / 16
factor = SIZE // 8
images = images.repeat(factor, 1).repeat(factor, 2)
train, test = slice(0, 1200), slice(1200, None)
path = folder / f"{{name}}.keras"
if path.exists():
    model = keras.models.load_model(path)
else:
    keras.utils.set_random_seed(0)
    model, epochs = globals()[name]()
    model.compile(keras.optimizers.AdamW(1e-3), "sparse_categorical_crossentropy")
    model.fit(images[train], digits.target[train], epochs=epochs, batch_size=64, verbose=0)
    model.save(path)
np.savez(folder / f"{{name}}.npz", x=images[test], labels=digits.target[test])
plain = to_onnx.to_onnx(freeze.freeze(trace.trace(model)), opset=18)
(folder / f"{{name}}-float.onnx").write_bytes(plain.SerializeToString())
kept = {{}}
for scheme in schemes:
    made = onnx_quantize.quantize_onnx(plain, scheme, calibration={{"x": images[train][:{CALIBRATION}]}})
    (folder / f"{{name}}-{{scheme}}.onnx").write_bytes(made.model.SerializeToString())
    kept[scheme] = len(made.coverage.kept_float)
    print(name, scheme, made.coverage, file=sys.stderr)
(folder / f"{{name}}.json").write_text(json.dumps(kept))
"""


if __name__ == "__main__":
    main()
