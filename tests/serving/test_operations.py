"""What platforms ask of a server: TLS, readiness, the list of models, an end that is announced."""

from __future__ import annotations

import json
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from keraship.wire.messages import GetModelStatusRequest, GetModelStatusResponse

STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
Serve = Callable[..., Any]


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def pem(ca: trustme.CA, tmp_path: Path) -> dict[str, Path]:
    """A certificate for localhost, its key and who signed it, as files."""
    issued = ca.issue_cert("localhost")
    files = {name: tmp_path / f"{name}.pem" for name in ("cert", "key", "ca")}
    issued.cert_chain_pems[0].write_to_path(files["cert"])
    issued.private_key_pem.write_to_path(files["key"])
    ca.cert_pem.write_to_path(files["ca"])
    return files


def ssl_config(pem: dict[str, Path], folder: Path, *, verify: bool) -> Path:
    """An SSLConfig file."""
    fields = {"server_key": "key", "server_cert": "cert", "custom_ca": "ca"}
    lines = [f"{field}: {json.dumps(pem[name].read_text())}" for field, name in fields.items()]
    file = folder / "ssl.config"
    file.write_text("\n".join([*lines, f"client_verify: {str(verify).lower()}"]))
    return file


def status_over_tls(port: int, credentials: Any) -> Any:
    request = GetModelStatusRequest()
    request.model_spec.name = "linear"
    with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
        answer = channel.unary_unary(STATUS)(request.SerializeToString(), timeout=20)
    return GetModelStatusResponse.FromString(answer).model_version_status[0].version


@pytest.mark.parametrize("verify", [False, True])
def test_grpc_over_tls(
    serve: Serve, save_linear: Any, pem: dict[str, Path], ca: trustme.CA, tmp_path: Path, verify: bool
) -> None:
    save_linear(tmp_path / "repo" / "linear", 3)
    running = serve(tmp_path / "repo", f"--ssl_config_file={ssl_config(pem, tmp_path, verify=verify)}")
    root = pem["ca"].read_bytes()
    client = ca.issue_cert("client")
    known = grpc.ssl_channel_credentials(root, client.private_key_pem.bytes(), client.cert_chain_pems[0].bytes())
    assert status_over_tls(running.port, known) == 3
    if not verify:
        assert status_over_tls(running.port, grpc.ssl_channel_credentials(root)) == 3
        return
    with pytest.raises(grpc.RpcError) as caught:
        status_over_tls(running.port, grpc.ssl_channel_credentials(root))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_pem_that_is_none_is_said_at_the_start(run_to_end: Any, save_linear: Any, tmp_path: Path) -> None:
    save_linear(tmp_path / "linear", 3)
    config = tmp_path / "ssl.config"
    config.write_text('server_key: "a" server_cert: "b"')
    done = run_to_end("--model_name=linear", f"--model_base_path={tmp_path / 'linear'}", f"--ssl_config_file={config}")
    assert done.returncode == 255
    assert f"expected server_key and server_cert in {config} to be a key and its certificate" in done.stdout


def test_rest_over_tls(serve: Serve, save_linear: Any, pem: dict[str, Path], tmp_path: Path) -> None:
    save_linear(tmp_path / "repo" / "linear", 3)
    running = serve(
        tmp_path / "repo", f"--rest_ssl_certificate_file={pem['cert']}", f"--rest_ssl_key_file={pem['key']}"
    )
    url = f"https://localhost:{running.rest_port}/v1/models/linear:predict"
    context = ssl.create_default_context(cafile=str(pem["ca"]))
    with urllib.request.urlopen(url, b'{"instances": [[1, 2]]}', 20, context=context) as answer:
        assert json.load(answer) == {"predictions": [[11.0]]}


def test_health_urls_and_the_list(serve: Serve, save_linear: Any, tmp_path: Path) -> None:
    """Not ready while a model is missing, with the reason; ready after; not ready, and still answering, at the end."""
    save_linear(tmp_path / "linear", 3)
    config = tmp_path / "models.config"
    models = "".join(
        f'config {{ name: "{name}" base_path: "{tmp_path / name}" model_platform: "tensorflow" }}'
        for name in ("linear", "late")
    )
    (tmp_path / "late").mkdir()
    config.write_text(f"model_config_list {{ {models} }}")
    running = serve(
        f"--model_config_file={config}", "--serve_what_loads", "--health_urls", "--list_models", "--drain_seconds=3"
    )
    assert running.ask("GET", "/livez").status == 200
    answer = running.ask("GET", "/readyz")
    assert (answer.status, answer.json) == (
        503, {"ready": False, "reasons": ["model late has no version that can be asked"]},
    )  # fmt: skip
    save_linear(tmp_path / "late", 1)
    end = time.monotonic() + 30
    while running.ask("GET", "/readyz").status != 200:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert running.ask("GET", "/v1/models").json == {
        "models": [
            {"name": "linear", "versions": [{"version": "3", "state": "AVAILABLE"}]},
            {"name": "late", "versions": [{"version": "1", "state": "AVAILABLE"}]},
        ]
    }
    ended: list[int] = []
    ending = threading.Thread(target=lambda: ended.append(running.end()))
    ending.start()
    running.wait_for_log("SIGTERM")
    answer = running.ask("GET", "/readyz")
    assert (answer.status, answer.json) == (503, {"ready": False, "reasons": ["the server is ending"]})
    assert running.post("/v1/models/linear:predict", {"instances": [[1, 2]]}).status == 200
    ending.join()
    assert ended == [0]


def test_without_the_flags_nothing_is_there(linear_server: Any) -> None:
    assert linear_server.ask("GET", "/readyz").status == 404
    assert linear_server.ask("GET", "/v1/models").json == {"error": "Missing model name in request."}
