"""The wheel, installed into environments of its own: without extras, and with `serve` alone."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keraship.client import Client

ROOT = Path(__file__).resolve().parents[2]
RUNTIMES = ("tensorflow", "keras", "onnxruntime", "onnx", "flask", "sklearn")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT))
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def base(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with `pip install keraship`; its Python."""
    return environment(tmp_path_factory.mktemp("base"), str(wheel))


@pytest.fixture(scope="module")
def serve(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with `pip install 'keraship[serve]'`; its Python."""
    return environment(tmp_path_factory.mktemp("serve"), f"{wheel}[serve]")


def test_the_client_needs_no_extra(base: Path, demo: Any, served: tuple[int, int]) -> None:
    """With only `pip install keraship`: import, predict, and no runtime is even there."""
    code = f"""
import sys
import numpy as np
from keraship.client import Client
data = np.load({str(demo.test_data)!r})
with Client("localhost:{served[0]}", "digits") as client:
    scores = client.predict({{"images": data["images"]}}).array
print((scores.argmax(1) == data["labels"]).mean())
assert not set({RUNTIMES!r}) & set(sys.modules)
"""
    assert float(run(str(base), "-c", code)) >= 0.97


def test_the_readmes_client_example_runs(base: Path, served: tuple[int, int]) -> None:
    """Pasted as it stands, save for the port, where only keraship is installed."""
    _, example = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    printed = run(str(base), "-c", example.replace("localhost:8500", f"localhost:{served[0]}"))
    assert re.fullmatch(r"\[\d\] by version 1\n", printed)


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["train", "cnn", "--out", "run"], "train"),
        (["export", "model.keras", "--to", "repo"], "export"),
        (["serve", "repo"], "serve"),
    ],
)
def test_a_command_without_its_extra_says_what_to_install(
    base: Path, tmp_path: Path, arguments: list[str], extra: str
) -> None:
    """One sentence with the command, exit 1, and nothing is written."""
    (tmp_path / "model.keras").touch()
    (tmp_path / "repo/digits/1").mkdir(parents=True)
    (tmp_path / "repo/digits/1/model.onnx").touch()
    before = sorted(tmp_path.rglob("*"))
    command = [str(base), "-m", "keraship", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"pip install 'keraship[{extra}]'" in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_the_server_needs_the_extra_serve_alone(demo: Any, served: tuple[int, int]) -> None:
    """Without TensorFlow: the exported model answers over gRPC and REST as the Keras model did."""
    from keraship import bundle

    inputs, outputs = bundle.read_golden(bundle.latest(demo.repository / "digits"))
    with Client(f"localhost:{served[0]}", "digits") as client:
        answer = client.predict(inputs)
    np.testing.assert_allclose(answer.array, outputs["scores"], atol=1e-5)
    body = json.dumps({"instances": inputs["images"].tolist()}).encode()
    url = f"http://localhost:{served[1]}/v1/models/digits:predict"
    with urllib.request.urlopen(urllib.request.Request(url, body)) as response:
        predictions = json.load(response)["predictions"]
    np.testing.assert_allclose(predictions, outputs["scores"], atol=1e-5)


@pytest.fixture(scope="module")
def served(serve: Path, demo: Any) -> Any:
    """The demo's repository behind the server of that environment; the gRPC and the REST port."""
    missing = f"import importlib.util as u; print([n for n in {RUNTIMES!r} if u.find_spec(n)])"
    assert run(str(serve), "-c", missing).strip() == "['onnxruntime', 'flask']"
    ports = free_port(), free_port()
    command = [str(serve), "-m", "keraship", "serve", str(demo.repository)]
    server = subprocess.Popen([*command, f"--port={ports[0]}", f"--rest_api_port={ports[1]}"])
    try:
        with Client(f"localhost:{ports[0]}", "digits") as client:
            client.wait_until_ready(timeout=60)
        yield ports
    finally:
        server.terminate()
        assert server.wait(timeout=30) == 0


def environment(folder: Path, requirement: str) -> Path:
    """A virtual environment with one requirement in its tested versions; its Python."""
    run(sys.executable, "-m", "venv", str(folder))
    python = folder / "bin/python"
    run(str(python), "-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt"), requirement)
    return python


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
