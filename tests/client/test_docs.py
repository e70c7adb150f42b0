"""docs/client.md: each recipe is run as it stands, save for its addresses."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from keraship.client import Client
from keraship.client.testing import FakeModel, FakeServer
from keraship.signature import Signature, TensorSpec

DOCS = Path(__file__).resolve().parents[2] / "docs/client.md"
RECIPES = dict(re.findall(r"^## (\d+\. .*?)\n.*?^```python\n(.*?)^```", DOCS.read_text(), re.DOTALL | re.MULTILINE))

DIGITS = Signature((TensorSpec("images", "float32", (None, 28, 28)),), (TensorSpec("scores", "float32", (None, 10)),))
HOUSES = Signature(
    (TensorSpec("area", "float32", (None,)), TensorSpec("city", "string", (None,))),
    (TensorSpec("price", "float32", (None,)),),
)


def serve_digits(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"scores": np.repeat(inputs["images"].mean(axis=(1, 2))[:, None], 10, axis=1)}


MODELS = {
    "digits": FakeModel(serve_digits, signatures={"serving_default": DIGITS}),
    "houses": FakeModel(lambda inputs: {"price": inputs["area"] * 9}, signatures={"serving_default": HOUSES}),
    "ages": FakeModel(
        classify=lambda example: {"adult": example["height"][0], "child": 2 - example["height"][0]},
        regress=lambda example: example["height"][0] * 20,
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates, and a repository with digits as an ONNX model."""
    import trustme
    from onnx import TensorProto, helper

    folder = tmp_path_factory.mktemp("docs")
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    for name, issued in (("server", ca.issue_cert("localhost")), ("me", ca.issue_cert("me@example.com"))):
        issued.private_key_pem.write_to_path(str(folder / f"{name}.key"))
        issued.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["images"], ["scores"], axes=[2], keepdims=0)],
        "graph",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 28, 28])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 28])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / "repo/digits/1").mkdir(parents=True)
    (folder / "repo/digits/1/model.onnx").write_bytes(model.SerializeToString())
    return folder


@pytest.fixture(scope="module")
def addresses(folder: Path) -> Iterator[dict[str, str]]:
    """What the recipes' addresses stand for: two fakes, one of them over TLS too, and `keraship serve` for REST."""
    key, cert, ca = ((folder / name).read_bytes() for name in ("server.key", "server.pem", "ca.pem"))
    credentials = grpc.ssl_server_credentials([(key, cert)], root_certificates=ca, require_client_auth=True)
    first, second = FakeServer(MODELS), FakeServer(MODELS)
    secure = first._server.add_secure_port("localhost:0", credentials)
    port, socket = free_port(), folder / "s"
    command = [sys.executable, "-m", "keraship", "serve", str(folder / "repo"), "--port=0", f"--rest_api_port={port}"]
    command.append(f"--grpc_socket_path={socket}")
    with first, second, subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        with Client(f"unix:{socket}", "digits") as client:
            client.wait_until_ready(60)
        yield {
            "localhost:8500": first.address, "localhost:8510": second.address,
            "localhost:8501": f"localhost:{port}", "models.example:443": f"localhost:{secure}",
        }  # fmt: skip
        process.terminate()


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_there_are_ten_and_they_are_short() -> None:
    """Of at most 15 lines."""
    assert len(RECIPES) == 10
    assert all(len(recipe.strip().splitlines()) <= 15 for recipe in RECIPES.values())


@pytest.mark.parametrize("name", RECIPES)
def test_the_recipe_runs(
    name: str,
    addresses: dict[str, str],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Pasted into a file; what it prints is what it says beside it."""
    recipe = RECIPES[name]
    for text, address in addresses.items():
        recipe = recipe.replace(text, address)
    monkeypatch.chdir(folder)
    scope: dict[str, Any] = {"__name__": "recipe"}
    exec(compile(recipe, name, "exec"), scope)  # noqa: S102  # our own documentation
    out = capsys.readouterr().out
    for promised in re.findall(r"print\(.*#\s+(.*)", RECIPES[name]):
        if "..." in promised or "AVAILABLE" in promised:
            for part in promised.split("..."):
                assert part.strip() in out
