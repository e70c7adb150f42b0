"""Real models, real servers: small ONNX files, and the command as a process on free ports."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from onnx import TensorProto, helper

from keraship.wire.messages import METHODS


def _save_linear(folder: Path, version: int) -> Path:
    """A version that answers y = x @ [[2],[3]] + version, for x float32 [-1,2]."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Add", ["m", "b"], ["y"])]
    weights = [
        helper.make_tensor("w", TensorProto.FLOAT, (2, 1), [2, 3]),
        helper.make_tensor("b", TensorProto.FLOAT, (1,), [version]),
    ]
    return _save_onnx(
        folder / str(version),
        nodes,
        {"x": (TensorProto.FLOAT, ("N", 2))},
        {"y": (TensorProto.FLOAT, ("N", 1))},
        weights,
    )


def _save_identity(folder: Path, inputs: dict[str, int], *, suffix: str = "", rank: int = 1) -> Path:
    """A version that gives every input back; inputs: name -> ONNX type. Outputs are called <name>_out<suffix>."""
    shape = tuple(f"N{axis}" for axis in range(rank))
    nodes = [helper.make_node("Identity", [name], [f"{name}_out{suffix}"]) for name in inputs]
    outputs = {f"{name}_out{suffix}": (kind, shape) for name, kind in inputs.items()}
    return _save_onnx(folder / "1", nodes, {name: (kind, shape) for name, kind in inputs.items()}, outputs, [])


def _save_slow(folder: Path) -> Path:
    """A version that spreads x, one float32, over 1024 x 1024 and multiplies that by itself 40 times: slow."""
    side = 1024
    nodes = [helper.make_node("Expand", ["x", "shape"], ["m0"])]
    nodes += [helper.make_node("MatMul", [f"m{i}", "m0"], [f"m{i + 1}"]) for i in range(40)]
    nodes += [helper.make_node("ReduceMean", ["m40"], ["y"], keepdims=0)]
    shape = helper.make_tensor("shape", TensorProto.INT64, (2,), [side, side])
    return _save_onnx(folder / "1", nodes, {"x": (TensorProto.FLOAT, ())}, {"y": (TensorProto.FLOAT, ())}, [shape])


def _save_onnx(version_dir: Path, nodes: list[Any], inputs: Any, outputs: Any, weights: list[Any]) -> Path:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, *each) for name, each in inputs.items()],
        [helper.make_tensor_value_info(name, *each) for name, each in outputs.items()],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    staged = version_dir.parent / f".staged-{version_dir.name}"
    staged.mkdir(parents=True)
    (staged / "model.onnx").write_bytes(model.SerializeToString())
    staged.rename(version_dir)
    return version_dir


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Answer:
    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Running:
    """A `keraship serve` process, and the ways to ask it."""

    process: subprocess.Popen[str]
    port: int
    rest_port: int
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)

    def wait_for_log(self, words: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not any(words in line for line in self.log):
            assert self.process.poll() is None or any(words in line for line in self.log), "".join(self.log)
            assert time.monotonic() < end, f"{words!r} never came; the log: {''.join(self.log)}"
            time.sleep(0.01)

    def ask(self, method: str, path: str, body: bytes | str | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.rest_port, timeout=30)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return Answer(response.status, response.read(), {k.lower(): v for k, v in response.getheaders()})
        finally:
            connection.close()

    def post(self, path: str, value: Any) -> Answer:
        return self.ask("POST", path, json.dumps(value))

    def call(self, method: str, request: Any, timeout: float | None = 30) -> Any:
        """Call a method, "PredictionService/Predict", with one of our messages."""
        path = f"/tensorflow.serving.{method}"
        kind = METHODS[path][1]
        with grpc.insecure_channel(f"127.0.0.1:{self.port}", [("grpc.max_receive_message_length", -1)]) as channel:
            return kind.FromString(channel.unary_unary(path)(request.SerializeToString(), timeout=timeout))

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.finish()

    def finish(self) -> int:
        try:
            return self.process.wait(60)
        finally:
            self.process.kill()
            self.process.wait()
            self._reader.join()
            for pipe in (self.process.stdout, self.process.stderr):
                assert pipe is not None
                pipe.close()


Serve = Callable[..., Running]


def _command(*args: str) -> list[str]:
    return [sys.executable, "-m", "keraship", "serve", *args]


def _run_to_end(*args: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    """A `keraship serve` that is expected to end by itself."""
    return subprocess.run(_command(*args), capture_output=True, text=True, timeout=seconds, check=False)


def _start_server(args: Sequence[str], *, wait: bool = True, env: dict[str, str] | None = None) -> Running:
    port, rest_port = _free_port(), _free_port()
    process = subprocess.Popen(
        _command(f"--port={port}", f"--rest_api_port={rest_port}", *args),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(env or {})},
    )
    running = Running(process, port, rest_port)
    if wait:
        running.wait_for_log("Exporting HTTP/REST API")
    return running


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts servers, and ends those that the test leaves running."""
    started: list[Running] = []

    def start(*args: str, wait: bool = True) -> Running:
        started.append(_start_server([str(arg) for arg in args], wait=wait))
        return started[-1]

    yield start
    for running in started:
        if running.process.poll() is None:
            running.end(signal.SIGKILL)
        else:
            running.finish()


@pytest.fixture(scope="session")
def linear_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server of one model, `linear`, version 3: y = x @ [[2],[3]] + 3; asked by many tests, changed by none."""
    repository = tmp_path_factory.mktemp("repository")
    _save_linear(repository / "linear", 3)
    running = _start_server([str(repository)])
    yield running
    running.end()


@pytest.fixture(scope="session")
def save_linear() -> Callable[..., Path]:
    """Makes y = x @ [[2],[3]] + version."""
    return _save_linear


@pytest.fixture(scope="session")
def save_identity() -> Callable[..., Path]:
    """Makes a model that gives back what it is given."""
    return _save_identity


@pytest.fixture(scope="session")
def save_slow() -> Callable[..., Path]:
    """Makes a model that takes seconds."""
    return _save_slow


@pytest.fixture(scope="session")
def run_to_end() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a `keraship serve` that ends by itself."""
    return _run_to_end


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Finds a port."""
    return _free_port


@pytest.fixture(scope="session")
def saved_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of SavedModels, made by a process of its own; make_saved_models.py says which."""
    repository = tmp_path_factory.mktemp("saved_models")
    script = Path(__file__).with_name("make_saved_models.py")
    subprocess.run([sys.executable, script, repository], check=True, capture_output=True, timeout=200)
    return repository


@pytest.fixture(scope="session")
def start_server() -> Callable[..., Running]:
    """Starts a server that the caller ends."""
    return _start_server


@pytest.fixture(scope="session")
def tf_server(saved_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server of the TensorFlow 1 models of make_tf1_models; what a test changes, it changes back."""
    names = ("half_plus_two", "half_plus_three", "counter", "odd", "tagged")
    config = tmp_path_factory.mktemp("config") / "models.txt"
    entry = 'config {{ name: "{0}" base_path: "{1}/{0}" model_platform: "tensorflow" }}'
    entries = " ".join(entry.format(name, saved_models) for name in names)
    config.write_text(f"model_config_list {{ {entries} }}")
    running = _start_server([f"--model_config_file={config}"])
    yield running
    assert running.end() == 0
