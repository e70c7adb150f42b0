"""How long users wait before anything happens: `python benchmarks/start_up.py [REPO/MODEL]`.

- importing our client beside importing tensorflow-serving-api's stubs (median of fresh processes, one run);
- `keraship serve` with ONNX Runtime, from the start of the process to the first right answer (needs a model folder, by
  default the one that `make demo` makes).
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from keraship import bundle
from keraship.client import Client

IMPORTS = {
    "python alone": "pass",
    "grpcio, numpy, protobuf": "import grpc, numpy, google.protobuf.message",
    "keraship.client": "import keraship.client",
    "tensorflow-serving-api stubs": "import tensorflow_serving.apis.prediction_service_pb2_grpc",
}
PORT = 18500


def main(model: Path) -> None:
    for name, statement in IMPORTS.items():
        seconds = statistics.median(_seconds_to_run(statement) for _ in range(3))
        print(f"import  {name:32} {seconds:7.2f} s  {_megabytes(statement):6.0f} MB")
    if not model.is_dir():
        sys.exit(f"no model at {model}: run `make demo` first, or name a model's folder")
    seconds = statistics.median(_seconds_to_answer(model) for _ in range(3))
    print(f"serve   first right answer, ONNX Runtime {seconds:.2f} s")


def _seconds_to_run(statement: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def _megabytes(statement: str) -> float:
    code = f"{statement}\nimport resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return int(done.stdout) / 1024


def _seconds_to_answer(model: Path) -> float:
    inputs, outputs = bundle.read_golden(bundle.latest(model))
    command = [sys.executable, "-m", "keraship", "serve", f"--port={PORT}"]
    start = time.perf_counter()
    server = subprocess.Popen(
        [*command, f"--model_name={model.name}", f"--model_base_path={model.resolve()}"], stderr=subprocess.DEVNULL
    )
    try:
        with Client(f"localhost:{PORT}", model.name) as client:
            client.wait_until_ready(timeout=60)
            answer = client.predict(inputs)
        seconds = time.perf_counter() - start
        for name, expected in outputs.items():
            np.testing.assert_allclose(answer[name], expected, atol=1e-4)
    finally:
        server.terminate()
        server.wait()
    return seconds


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/demo/repo/digits"))
