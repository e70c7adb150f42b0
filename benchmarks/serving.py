"""What serving costs: `python benchmarks/serving.py [--seconds S] [--json]`.

S is a CNN for 28x28 pictures (100,000 parameters), M is MobileNetV2 for 224x224x3; both in ONNX, one picture a request,
at 1, 8 and 32 callers with one request in flight each. In one run, side by side:

- `keraship serve` over gRPC and over REST;
- an application as anybody would write it first (plain_app.py: Flask, waitress, json);
- ONNX Runtime in a process of its own, called by one and by two threads: the limit.

The callers are h2load (Debian's nghttp2-client), written in C; they share the machine with what they ask. Before and
after, the client compares answers with the golden ones of the export; then comes the time from the start of the process
to the first right answer, and its memory with S alone.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from keraship import bundle
from keraship.client import Client
from keraship.wire import to_tensor
from keraship.wire.messages import PredictRequest

MODELS = Path(__file__).resolve().parent.parent / "build" / "serving"
CALLERS = (1, 8, 32)
GRPC, REST, PLAIN = 18600, 18601, 18602
PREDICT = "tensorflow.serving.PredictionService/Predict"
TARGETS = {
    "S gRPC 32 / plain": 2.5, "S REST 32 / plain": 2.0,
    "M gRPC 8 / two callers in process": 0.85, "M REST 8 / plain": 5.0,
}  # fmt: skip

MAKE = """
import sys, keras
keras.utils.set_random_seed(0)
layers = keras.layers
small = keras.Sequential([
    keras.Input((28, 28, 1), name="images"), layers.Conv2D(16, 3, activation="relu"), layers.MaxPooling2D(),
    layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D(), layers.Flatten(),
    layers.Dense(120, activation="relu"), layers.Dense(10, activation="softmax")])
small.save(sys.argv[1] + "/s.keras")
keras.applications.MobileNetV2(weights=None).save(sys.argv[1] + "/m.keras")
"""
LIMIT = """
import sys, threading, time
import numpy as np, onnxruntime as ort
file, callers, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
settings = ort.SessionOptions()
settings.intra_op_num_threads = 1
session = ort.InferenceSession(file, settings, providers=["CPUExecutionProvider"])
node = session.get_inputs()[0]
feeds = {node.name: np.random.rand(1, *node.shape[1:]).astype(np.float32)}
counts = [0] * callers
def call(index):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        session.run(None, feeds)
        counts[index] += 1
session.run(None, feeds)
threads = [threading.Thread(target=call, args=(index,)) for index in range(callers)]
begin = time.perf_counter()
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(sum(counts) / (time.perf_counter() - begin))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3, help="of each measurement")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    if shutil.which("h2load") is None:
        sys.exit("expected h2load on the PATH; Debian's package nghttp2-client has it")
    make_models()
    found = measure(args.seconds)
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        show(found)


def make_models() -> None:
    """S and M, exported once."""
    if (MODELS / "repo" / "m").is_dir():
        return
    MODELS.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-c", MAKE, MODELS], check=True, stderr=subprocess.DEVNULL)
    for name in ("s", "m"):
        command = ["export", MODELS / f"{name}.keras", "--to", MODELS / "repo", "--name", name, "--formats", "onnx"]
        subprocess.run([sys.executable, "-m", "keraship", *command], check=True, stdout=subprocess.DEVNULL)


def measure(seconds: float) -> dict[str, Any]:
    found: dict[str, Any] = {"first right answer seconds, MB": first_answer()}
    rates: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, plain(), serving(MODELS / "repo"):
        bodies = {name: write_bodies(name, Path(folder)) for name in ("s", "m")}
        for name, (grpc_body, rest_body) in bodies.items():
            check_answers(name)
            for callers in (1, 2):
                rates[f"{name.upper()} in process {callers}"] = in_process(name, callers, seconds)
            for callers in CALLERS:
                rates[f"{name.upper()} plain {callers}"] = load(rest_url(PLAIN, name), rest_body, callers, seconds)
                rates[f"{name.upper()} REST {callers}"] = load(rest_url(REST, name), rest_body, callers, seconds)
                rates[f"{name.upper()} gRPC {callers}"] = load(
                    f"http://127.0.0.1:{GRPC}/{PREDICT}", grpc_body, callers, seconds, grpc=True
                )
            check_answers(name)
    found["requests a second"] = rates
    found["ratios"] = {
        "S gRPC 32 / plain": rates["S gRPC 32"] / rates["S plain 32"],
        "S REST 32 / plain": rates["S REST 32"] / rates["S plain 32"],
        "M gRPC 8 / two callers in process": rates["M gRPC 8"] / rates["M in process 2"],
        "M REST 8 / plain": rates["M REST 8"] / rates["M plain 8"],
    }
    return found


def show(found: dict[str, Any]) -> None:
    seconds, megabytes = found["first right answer seconds, MB"]
    print(f"S alone: first right answer after {seconds:.2f} s (goal 1.5), {megabytes:.0f} MB (goal 120)")
    for name, rate in found["requests a second"].items():
        print(f"{name:16} {rate:9.0f} requests/s")
    for name, ratio in found["ratios"].items():
        print(f"{name:34} {ratio:6.2f}  (goal {TARGETS[name]})")


def first_answer() -> tuple[float, float]:
    """Seconds and megabytes, the best of three starts."""
    best, memory = float("inf"), 0.0
    for _ in range(3):
        begin = time.perf_counter()
        with serving(MODELS / "repo" / "s", "--model_name=s", wait=False) as process:
            inputs, outputs = bundle.read_golden(bundle.latest(MODELS / "repo" / "s"))
            with Client(f"localhost:{GRPC}", "s") as client:
                client.wait_until_ready(timeout=60)
                answer = client.predict(inputs)
            best = min(best, time.perf_counter() - begin)
            (name,) = outputs
            np.testing.assert_allclose(answer[name], outputs[name], rtol=1e-4, atol=1e-5)
            memory = max(memory, resident(process.pid))
    return best, memory


@contextmanager
def serving(models: Path, *flags: str, wait: bool = True) -> Iterator[Any]:
    """`keraship serve`: a repository, or with --model_name one model's folder."""
    what = [f"--model_base_path={models}", *flags] if flags else [str(models)]
    command = [sys.executable, "-m", "keraship", "serve", f"--port={GRPC}", f"--rest_api_port={REST}", *what]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        if wait:
            with Client(f"localhost:{GRPC}", "s") as client:
                client.wait_until_ready(timeout=60)
        yield process
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def plain() -> Iterator[None]:
    files = [f"{name}={bundle.latest(MODELS / 'repo' / name) / bundle.ONNX}" for name in ("s", "m")]
    app = Path(__file__).with_name("plain_app.py")
    process = subprocess.Popen([sys.executable, app, str(PLAIN), *files], stderr=subprocess.DEVNULL)
    try:
        time.sleep(3)
        yield
    finally:
        process.kill()
        process.wait()


def write_bodies(name: str, folder: Path) -> tuple[Path, Path]:
    """One picture's request, as gRPC frames it and as JSON."""
    version = bundle.latest(MODELS / "repo" / name)
    (spec,) = bundle.read_manifest(version).signatures["serving_default"].inputs
    picture = np.random.default_rng(0).random((1, *(spec.shape or ())[1:]), np.float32).round(4)
    request = PredictRequest()
    request.model_spec.name = name
    to_tensor(picture, into=request.inputs[spec.name])
    data = request.SerializeToString()
    grpc_body, rest_body = folder / f"{name}.grpc", folder / f"{name}.json"
    grpc_body.write_bytes(b"\0" + struct.pack(">I", len(data)) + data)
    rest_body.write_text(
        json.dumps({"instances": [[[[round(float(v), 4) for v in p] for p in r] for r in picture[0]]]})
    )
    return grpc_body, rest_body


def check_answers(name: str) -> None:
    """Both servers' doors give what the model gave when it was exported."""
    inputs, outputs = bundle.read_golden(bundle.latest(MODELS / "repo" / name))
    for address in (f"localhost:{GRPC}", f"http://localhost:{REST}"):
        with Client(address, name) as client:
            answer = client.predict(inputs)
            for output, expected in outputs.items():
                np.testing.assert_allclose(answer[output], expected, rtol=1e-3, atol=1e-5)


def in_process(name: str, callers: int, seconds: float) -> float:
    file = bundle.latest(MODELS / "repo" / name) / bundle.ONNX
    command = [sys.executable, "-c", LIMIT, file, str(callers), str(seconds)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def load(url: str, body: Path, callers: int, seconds: float, *, grpc: bool = False) -> float:
    """Requests a second; exits where one was not answered with 200."""
    kind = ["-H", "content-type: application/grpc", "-H", "te: trailers"] if grpc else ["--h1"]
    duration = ["-D", str(max(1, round(seconds))), "--warm-up-time", "1"]
    command = ["h2load", "-t", "1", "-m", "1", "-c", str(callers), *duration, "-d", str(body), *kind, url]
    text = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    rate = re.search(r"([\d.]+) req/s", text)
    wrong = re.search(r"status codes: \d+ 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", text)
    if rate is None or wrong is None or any(map(int, wrong.groups())):
        sys.exit(f"requests to {url} failed:\n{text}")
    return float(rate[1])


def rest_url(port: int, name: str) -> str:
    return f"http://127.0.0.1:{port}/v1/models/{name}:predict"


def resident(pid: int) -> float:
    """Megabytes of memory that a process holds now."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0


if __name__ == "__main__":
    main()
