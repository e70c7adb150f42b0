"""Versions that follow each other under load: `python benchmarks/hot_swaps.py [--swaps N] [--callers N] [--json]`.

A server in a process of its own holds one model, of whose versions the latest is served. Callers ask it without a
pause, each over a connection of its own and without a second try, while version after version is published: the new
one is loaded, the old one finishes its requests and goes; the next comes once somebody was answered by this one. Every
number of an answer is the version that computed it, so an answer is wrong where that differs from the version it names.

Counted are the requests, those that failed, the wrong answers, and the server's resident memory after each swap: flat
is when it stays within 10 % of what it was at the hundredth (of fewer than 200, at half time).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from keraship.client import Client
from keraship.client.options import NO_RETRY
from keraship.errors import StatusError

MODEL = "swapped"
FLAT = 0.1


@dataclasses.dataclass(frozen=True)
class Result:
    """megabytes: resident, at the start, when counting began, and from then on the least, the most and the last."""

    swaps: int
    callers: int
    seconds: float
    requests: int
    failed: int
    wrong: int
    versions_seen: int
    p50_ms: float
    p99_ms: float
    megabytes: dict[str, float]
    errors: list[str]

    @property
    def flat(self) -> bool:
        """Whether memory stayed within 10 %."""
        base = self.megabytes["counted from"]
        return all(abs(self.megabytes[each] - base) <= FLAT * base for each in ("least", "most", "last"))

    @property
    def good(self) -> bool:
        """Whether it is as it must be."""
        return not self.failed and not self.wrong and self.flat


def run(*, swaps: int, callers: int, weights: int = 1_000_000) -> Result:
    """Swap versions under load. weights: numbers in the model, 4 bytes each."""
    with tempfile.TemporaryDirectory() as folder:
        base, side = Path(folder) / MODEL, max(int(weights**0.5), 1)
        save(base, 1, side)
        server = _Server(base)
        try:
            return _run(server, base, side, swaps, callers)
        finally:
            server.end()


def save(base: Path, version: int, side: int) -> None:
    """Publish y = x @ W, for x float32 [-1,side] and a W that holds the version's number everywhere."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ("N", side))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ("N", side))
    w = numpy_helper.from_array(np.full((side, side), version, np.float32), "w")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "graph", [x], [y], [w])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    staged = base / f".staged-{version}"
    staged.mkdir(parents=True)
    (staged / "model.onnx").write_bytes(model.SerializeToString())
    staged.rename(base / str(version))


class _Server:
    def __init__(self, base: Path) -> None:
        self.port = _free_port()
        self._log = (base.parent / "log").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "keraship", "serve", f"--port={self.port}", f"--model_name={MODEL}",
             f"--model_base_path={base}", "--file_system_poll_wait_seconds=1"],
            stdout=subprocess.DEVNULL, stderr=self._log,
        )  # fmt: skip

    def client(self) -> Client:
        return Client(f"127.0.0.1:{self.port}", MODEL, retry=NO_RETRY)

    def megabytes(self) -> float:
        """Resident memory."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1000

    def end(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        status = self._process.wait(60)
        self._log.seek(0)
        log = self._log.read()
        self._log.close()
        assert status == 0, log
        assert "Traceback" not in log, log


class _Caller:
    """Asks without a pause until it is told to stop."""

    def __init__(self, server: _Server, side: int) -> None:
        self._client = server.client()
        self._x = np.eye(1, side, dtype=np.float32)
        self.seconds: list[float] = []
        self.errors: list[str] = []
        self.wrong = 0
        self.versions: set[int] = set()

    def run(self, stop: threading.Event) -> None:
        with self._client as client:
            self._client.metadata()
            while not stop.is_set():
                begin = time.perf_counter()
                try:
                    self._check(client.predict(self._x))
                except StatusError as error:
                    self.errors.append(f"{error.code}: {error}")
                self.seconds.append(time.perf_counter() - begin)

    def _check(self, answer: Any) -> None:
        version = answer.model_spec.version
        self.versions.add(version)
        self.wrong += not (answer.array == version).all()


def _run(server: _Server, base: Path, side: int, swaps: int, callers: int) -> Result:
    stop, megabytes = threading.Event(), []
    with server.client() as control:
        control.wait_until_ready(60)
        megabytes.append(server.megabytes())
        asking = [_Caller(server, side) for _ in range(callers)]
        begin = time.perf_counter()
        with ThreadPoolExecutor(callers) as pool:
            running = [pool.submit(caller.run, stop) for caller in asking]
            try:
                _wait_until_seen(1, asking)
                for version in range(2, swaps + 2):
                    _swap(control, base, version, side)
                    _wait_until_seen(version, asking)
                    megabytes.append(server.megabytes())
            finally:
                stop.set()
            for each in running:
                each.result()
    return _result(asking, megabytes, time.perf_counter() - begin)


def _swap(control: Client, base: Path, version: int, side: int) -> None:
    save(base, version, side)
    control.reload_config({MODEL: str(base)})  # the same models; the server looks at the folder at once
    _wait_for(lambda: _states(control).get(version - 1) == "END")
    assert _states(control)[version] == "AVAILABLE"
    shutil.rmtree(base / str(version - 1))


def _wait_until_seen(version: int, asking: list[_Caller]) -> None:
    _wait_for(lambda: any(version in caller.versions for caller in asking))


def _wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)


def _states(control: Client) -> dict[int, str]:
    return {each.version: each.state for each in control.status()}


def _result(asking: list[_Caller], megabytes: list[float], seconds: float) -> Result:
    times = sorted(second for caller in asking for second in caller.seconds)
    swaps = len(megabytes) - 1
    counted = megabytes[min(100, swaps // 2) :]
    errors = [error for caller in asking for error in caller.errors]
    return Result(
        swaps=swaps,
        callers=len(asking),
        seconds=round(seconds, 1),
        requests=len(times),
        failed=len(errors),
        wrong=sum(caller.wrong for caller in asking),
        versions_seen=len(set().union(*(caller.versions for caller in asking))),
        p50_ms=round(statistics.median(times) * 1000, 2),
        p99_ms=round(times[int(len(times) * 0.99)] * 1000, 2),
        megabytes={"start": megabytes[0], "counted from": counted[0], "least": min(counted), "most": max(counted),
                   "last": counted[-1]},
        errors=errors[:5],
    )  # fmt: skip


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--swaps", type=int, default=1000)
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--weights", type=int, default=1_000_000, help="numbers in the model, 4 bytes each")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    result = run(swaps=args.swaps, callers=args.callers, weights=args.weights)
    if args.json:
        print(json.dumps({**dataclasses.asdict(result), "flat": result.flat}, indent=2))
    else:
        for name, value in {**dataclasses.asdict(result), "flat": result.flat}.items():
            print(f"{name:14} {value}")
    return 0 if result.good else 1


if __name__ == "__main__":
    sys.exit(main())
