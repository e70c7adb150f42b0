"""Our SavedModel beside Keras' own `model.export`: bytes, seconds to load, milliseconds of a call.

    python benchmarks/against_keras_export.py [--json] [mobilenet_v2 resnet50 transformer]

Both are made from one .keras file. Every figure is a median over turns of fresh processes, ours and Keras' after one
another, on one core; ratios below 1 are ours being smaller or faster. The weights are random, which changes no time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from time_artifact import timed

from keraship import bundle
from keraship.exporter import export

ROWS, TURNS = [1, 32], 5

MAKE = """
import sys
from keraship.quiet import import_keras
keras = import_keras()
layers = keras.layers

def transformer():
    tokens = keras.Input((64, 256), name="tokens")
    y = layers.LayerNormalization()(tokens)
    x = layers.Add()([tokens, layers.MultiHeadAttention(8, 32)(y, y)])
    y = layers.LayerNormalization()(x)
    x = layers.Add()([x, layers.Dense(256)(layers.Dense(1024, activation="gelu")(y))])
    return keras.Model(tokens, x)

keras.utils.set_random_seed(0)
model = {
    "mobilenet_v2": lambda: keras.applications.MobileNetV2(weights=None),
    "resnet50": lambda: keras.applications.ResNet50(weights=None),
    "transformer": transformer,
}[sys.argv[1]]()
model.save(sys.argv[2])
model.export(sys.argv[3])
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=["mobilenet_v2", "resnet50", "transformer"])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = [compared(name) for name in arguments.names]
    if arguments.json:
        print(json.dumps(found, indent=1))
        return
    print("model          bytes  bytes/weights   load  call of 1  call of 32   (ours over model.export's)")
    for line in found:
        ratios = line["ratios"]
        head = f"{line['model']:13} {ratios['bytes']:6.3f} {line['bytes_over_weights']:14.3f}"
        print(f"{head} {ratios['load_seconds']:6.2f} {ratios['1']:10.2f} {ratios['32']:11.2f}")


def compared(name: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        file, theirs = Path(folder, f"{name}.keras"), Path(folder, "theirs")
        subprocess.run([sys.executable, "-c", MAKE, name, str(file), str(theirs)], check=True, capture_output=True)
        ours = export(file, Path(folder, "repo"), formats=["saved_model"])
        bundle.write_golden(theirs, *_as_theirs(ours.folder, theirs))
        turns: dict[str, list[dict[str, float]]] = {"ours": [], "theirs": []}
        for _ in range(TURNS):
            turns["ours"].append(timed("saved_model", ours.folder, ROWS))
            turns["theirs"].append(timed("saved_model", theirs, ROWS))
        medians = {who: _medians(measured) for who, measured in turns.items()}
        sizes = {"ours": _bytes(ours.folder), "theirs": _bytes(theirs)}
        ratios = {key: medians["ours"][key] / medians["theirs"][key] for key in medians["ours"]}
        return {
            "model": name,
            "ratios": {"bytes": sizes["ours"] / sizes["theirs"], **ratios},
            "bytes_over_weights": sizes["ours"] / ours.manifest.source.weights_bytes,
            "medians": medians,
            "bytes": sizes,
        }


def _as_theirs(ours: Path, theirs: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Our golden inputs under the name that Keras gave its signature's input."""
    from keraship.exporter.runtime_check import saved_signatures

    inputs, outputs = bundle.read_golden(ours)
    (spec,) = saved_signatures(theirs)["serving_default"].inputs
    return {spec.name: next(iter(inputs.values()))}, outputs


def _medians(turns: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(turn[key] for turn in turns) for key in turns[0]}


def _bytes(folder: Path) -> int:
    """What a server needs: neither warm-up requests nor what keraship keeps beside the model."""
    skipped = {"keraship", "assets.extra"}
    files = (path for path in folder.rglob("*") if path.is_file())
    return sum(path.stat().st_size for path in files if not skipped & set(path.relative_to(folder).parts))


if __name__ == "__main__":
    main()
