"""The command as a process, asked over sockets: what goes over the wire, how it starts, and how it ends."""

# ruff: noqa: E501 - a case of a table is a line
from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from keraship.wire import to_array, to_tensor
from keraship.wire.messages import (
    METHODS,
    GetModelMetadataRequest,
    GetModelStatusRequest,
    PredictRequest,
)

X = np.array([[1, 2], [3, 4.5]], np.float32)


def predict_request(model: str = "linear", x: Any = X, **spec: Any) -> Any:
    request = PredictRequest()
    request.model_spec.name = model
    if "version" in spec:
        request.model_spec.version.value = spec.pop("version")
    for field, value in spec.items():
        setattr(request.model_spec, field, value)
    to_tensor(x, into=request.inputs["x"])
    return request


def refused(server: Any, method: str, request: Any) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        server.call(method, request)
    return caught.value.code().name, caught.value.details()


# gRPC.


def test_predict(linear_server: Any) -> None:
    response = linear_server.call("PredictionService/Predict", predict_request())
    assert list(response.outputs["y"].float_val) == [11.0, 22.5]
    assert response.model_spec.version.value == 3


SHAPE = predict_request(x=np.zeros((3, 3), np.float32))
GRPC_ERRORS = [
    (PredictRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
    (predict_request(""), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
    (predict_request("no"), "NOT_FOUND", "Servable not found for request: Latest(no)"),
    (predict_request(version=9), "NOT_FOUND", "Servable not found for request: Specific(linear, 9)"),
    (predict_request(version_label="a"), "INVALID_ARGUMENT", "Unrecognized servable version label: a"),
    (predict_request(signature_name="s"), "FAILED_PRECONDITION", 'Serving signature key "s" not found.'),
    (predict_request(x=np.int32([[1, 2]])), "INVALID_ARGUMENT", "Expects arg[0] to be float but int32 is provided"),
    (SHAPE, "INVALID_ARGUMENT", "'x' expects float32 [-1,2], got float32 [3,3]"),
]


@pytest.mark.parametrize(("request_", "code", "details"), GRPC_ERRORS)
def test_grpc_errors(linear_server: Any, request_: Any, code: str, details: str) -> None:
    assert refused(linear_server, "PredictionService/Predict", request_) == (code, details)


def test_a_tensor_that_is_none_is_named(linear_server: Any) -> None:
    request = predict_request()
    request.inputs["x"].dtype = 0
    assert refused(linear_server, "PredictionService/Predict", request) == (
        "INVALID_ARGUMENT", "tensor parsing error: x",
    )  # fmt: skip


def test_long_messages_are_cut(linear_server: Any) -> None:
    _, details = refused(linear_server, "PredictionService/Predict", predict_request("n" * 3000))
    assert len(details) == 1024 + len("...TRUNCATED")
    assert details.endswith("n...TRUNCATED")


def test_bytes_that_are_no_request(linear_server: Any) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{linear_server.port}") as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/tensorflow.serving.PredictionService/Predict")(b"\xff\xff\xff", timeout=30)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/tensorflow.serving.SessionService/SessionRun")(b"", timeout=30)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_metadata_rules(linear_server: Any) -> None:
    """No field: an empty answer, whatever the model; another field than signature_def: refused."""
    method = "PredictionService/GetModelMetadata"
    request = GetModelMetadataRequest()
    assert refused(linear_server, method, request) == ("INVALID_ARGUMENT", "Missing ModelSpec")
    request.model_spec.name = "no"
    assert linear_server.call(method, request).ByteSize() == 0
    request.metadata_field.append("other")
    assert refused(linear_server, method, request) == ("INVALID_ARGUMENT", "Metadata field other is not supported")


def test_status_of_an_unknown_model(linear_server: Any) -> None:
    request = GetModelStatusRequest()
    request.model_spec.name = "no"
    expected = ("NOT_FOUND", "Could not find any versions of model no")
    assert refused(linear_server, "ModelService/GetModelStatus", request) == expected
    request.model_spec.name = "linear"
    request.model_spec.version.value = 4
    expected = ("NOT_FOUND", "Could not find version 4 of model linear")
    assert refused(linear_server, "ModelService/GetModelStatus", request) == expected


def test_large_messages(linear_server: Any) -> None:
    """40 MB there and 20 MB back: gRPC's own limit of 4 MB does not hold."""
    x = np.ones((5_000_000, 2), np.float32)
    response = linear_server.call("PredictionService/Predict", predict_request(x=x), timeout=60)
    assert to_array(response.outputs["y"]).shape == (5_000_000, 1)


# REST.

PREDICT = "/v1/models/linear:predict"
BODY = {"instances": [[1, 2], [3, 4.5]]}


def error(message: str) -> bytes:
    return b'{\n    "error": ' + json.dumps(message).encode() + b"\n}"


NOT_FOUND = "Servable not found for request: "
REST = [
    ("POST", PREDICT, BODY, 200, b'{\n    "predictions": [[11.0], [22.5]\n    ]\n}'),
    ("POST", "/v1/models/linear/versions/3:predict", {"inputs": [[1, 2]]}, 200,
     b'{\n    "outputs": [\n        [\n            11.0\n        ]\n    ]\n}'),
    ("POST", "/V1/MODELS/linear:predict", {"inputs": [[1, 2]], "signature_name": "predict"}, 200, None),
    ("POST", "/v1/models/line%61r:predict", BODY, 200, None),
    ("POST", PREDICT, "", 400, error("JSON Parse error: The document is empty")),
    ("POST", PREDICT, {"instances": [[1, 2, 3]]}, 400, error("'x' expects float32 [-1,2], got float32 [1,3]")),
    ("POST", PREDICT, {"inputs": 1, "signature_name": "s"}, 400,
     error('Serving signature name: "s" not found in signature def')),
    ("POST", "/v1/models/no:predict", BODY, 404, error(NOT_FOUND + "Latest(no)")),
    ("POST", "/v1/models/no:predict", "{", 400, error("JSON Parse error: Missing a name for object member. at offset: 1")),
    ("POST", "/v1/models/linear/versions/9:predict", BODY, 404, error(NOT_FOUND + "Specific(linear, 9)")),
    ("POST", "/v1/models/linear/labels/a:predict", BODY, 400, error("Unrecognized servable version label: a")),
    ("POST", "/v1/models/linear/versions/99999999999999999999:predict", BODY, 400, b""),
    ("POST", "/v1/models/linear:PREDICT", BODY, 400, error("Malformed request: POST /v1/models/linear:PREDICT")),
    ("POST", PREDICT + "?a=b", BODY, 400, error(f"Malformed request: POST {PREDICT}?a=b")),
    ("GET", PREDICT, None, 400, error(f"Malformed request: GET {PREDICT}")),
    ("PUT", "/v1/models/linear", None, 400, error("Malformed request: PUT /v1/models/linear")),
    ("GET", "/v1/models", None, 400, error("Missing model name in request.")),
    ("GET", "/v1/models/no", None, 404, error("Could not find any versions of model no")),
    ("GET", "/v1/models/linear/versions/4", None, 404, error("Could not find version 4 of model linear")),
    ("GET", "/v1/models/no/metadata", None, 404, error(NOT_FOUND + "Latest(no)")),
    ("GET", "/v1//models", None, 400, error("Malformed request: GET /v1//models")),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body", "status", "expected"), REST)
def test_rest(linear_server: Any, method: str, path: str, body: Any, status: int, expected: bytes | None) -> None:
    answer = linear_server.ask(method, path, json.dumps(body) if isinstance(body, dict) else body)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/json")
    assert expected is None or answer.body == expected


def test_rest_status_and_metadata(linear_server: Any) -> None:
    ok = {"error_code": "OK", "error_message": ""}
    status = {"model_version_status": [{"version": "3", "state": "AVAILABLE", "status": ok}]}
    for path in ("", "/versions/3", "/labels/any"):
        assert linear_server.ask("GET", f"/v1/models/linear{path}").json == status
    metadata = linear_server.ask("GET", "/v1/models/linear/metadata").json
    assert metadata["model_spec"] == {"name": "linear", "signature_name": "", "version": "3"}
    signatures = metadata["metadata"]["signature_def"]["signature_def"]
    assert set(signatures) == {"serving_default", "predict"}
    dims = [{"size": "-1", "name": ""}, {"size": "2", "name": ""}]
    x = {"name": "x", "dtype": "DT_FLOAT", "tensor_shape": {"dim": dims, "unknown_rank": False}}
    assert signatures["serving_default"]["inputs"] == {"x": x}


def test_other_paths_get_libevents_page(linear_server: Any) -> None:
    for path in ("/", "/nothing", "/v2/models"):
        answer = linear_server.ask("GET", path)
        assert (answer.status, answer.headers["content-type"]) == (404, "text/html")
        assert b"<H1>Not Found</H1>" in answer.body


def test_a_packed_body(linear_server: Any) -> None:
    packed = gzip.compress(json.dumps(BODY).encode())
    headers = {"Content-Encoding": "gzip"}
    assert linear_server.ask("POST", PREDICT, packed, **headers).status == 200
    for bad in (packed[:-9], b"no gzip"):
        assert linear_server.ask("POST", PREDICT, bad, **headers).body == error(
            "JSON Parse error: The document is empty"
        )


def test_a_connection_is_kept(linear_server: Any) -> None:
    """Many requests go over one, errors among them."""
    connection = http.client.HTTPConnection("127.0.0.1", linear_server.rest_port, timeout=30)
    sockets = set()
    for path, status in ((PREDICT, 200), ("/v1/models/no:predict", 404), (PREDICT + "?", 400), (PREDICT, 200)):
        connection.request("POST", path, json.dumps(BODY))
        response = connection.getresponse()
        response.read()
        assert response.status == status
        sockets.add(connection.sock.getsockname() if connection.sock else None)
    connection.close()
    assert len(sockets) == 1
    assert None not in sockets


def test_a_body_in_pieces(linear_server: Any) -> None:
    """Transfer-Encoding: chunked; and methods that nobody serves."""
    pieces = iter([b'{"instances": ', b"[[1, 2]", b", [3, 4.5]]}"])
    assert linear_server.ask("POST", PREDICT, pieces).status == 200
    assert linear_server.ask("TRACE", PREDICT).status == 501
    assert linear_server.ask("HEAD", "/v1/models/linear").status == 400


def test_a_body_of_negative_length_is_refused_at_once(linear_server: Any) -> None:
    """As libevent refuses it; read as the server reads, it would never end."""
    with socket.create_connection(("localhost", linear_server.rest_port), timeout=10) as connection:
        connection.sendall(f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n{{}}".encode())
        answer = connection.makefile("rb").readline()
    assert answer.startswith(b"HTTP/1.1 400 ")


def test_options(linear_server: Any) -> None:
    assert linear_server.ask("OPTIONS", "/v1/x", Origin="http://a").status == 200
    refused_ = linear_server.ask("OPTIONS", "/v1/x")
    assert (refused_.status, refused_.body) == (400, b"")


# Life.


def test_a_new_version_takes_over(serve: Any, tmp_path: Path, save_linear: Callable[..., Path]) -> None:
    """No request fails meanwhile, and each answer is that of the version it names."""
    save_linear(tmp_path / "m", 1)
    server = serve(tmp_path)
    stop, wrong, asked = threading.Event(), [], [0]

    def ask() -> None:
        while not stop.is_set():
            response = server.call("PredictionService/Predict", predict_request("m", np.float32([[0, 0]])))
            asked[0] += 1
            if response.outputs["y"].float_val[0] != response.model_spec.version.value:
                wrong.append(response)

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        save_linear(tmp_path / "m", 2)
        server.wait_for_log("Done unloading servable version {name: m version: 1}")
        shutil.rmtree(tmp_path / "m" / "1")
        stop.set()
        for each in asking:
            each.result()
    assert asked[0]
    assert not wrong
    states = {each["version"]: each["state"] for each in server.ask("GET", "/v1/models/m").json["model_version_status"]}
    assert states == {"2": "AVAILABLE", "1": "END"}


def test_sigterm_finishes_what_is_under_way(serve: Any, tmp_path: Path, save_slow: Callable[..., Path]) -> None:
    save_slow(tmp_path / "slow")
    server = serve(tmp_path)
    x = np.float32(1 / 1024)
    with ThreadPoolExecutor(2) as pool:
        grpc_call = pool.submit(server.call, "PredictionService/Predict", predict_request("slow", x), 60)
        rest_call = pool.submit(server.post, "/v1/models/slow:predict", {"inputs": 1 / 1024})
        time.sleep(0.4)
        server.process.send_signal(signal.SIGTERM)
        assert grpc_call.result().outputs["y"].float_val[0] == pytest.approx(1 / 1024, rel=1e-3)
        assert rest_call.result().status == 200
    assert server.finish() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_ends_with_0(serve: Any, tmp_path: Path, save_linear: Callable[..., Path], number: int) -> None:
    save_linear(tmp_path / "m", 1)
    assert serve(tmp_path).end(number) == 0


def test_clients_that_say_nothing_keep_nobody_waiting(
    serve: Any, tmp_path: Path, save_linear: Callable[..., Path]
) -> None:
    """More of them than there are threads: others are answered, and the end does not wait for them."""
    save_linear(tmp_path / "m", 1)
    server = serve(tmp_path, "--rest_api_num_threads=2")
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(socket.create_connection(("localhost", server.rest_port)))
        assert server.ask("GET", "/v1/models/m").status == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0


def test_a_request_that_never_ends_does_not_keep_the_server(
    serve: Any, tmp_path: Path, save_linear: Callable[..., Path]
) -> None:
    """It has a few seconds, not the thirty of a running model."""
    save_linear(tmp_path / "m", 1)
    server = serve(tmp_path)
    with socket.create_connection(("localhost", server.rest_port)) as half:
        half.sendall(b"POST /v1/models/m:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{")
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0


def test_tensorflow_model_servers_flags(serve: Any, tmp_path: Path, save_linear: Callable[..., Path]) -> None:
    """One model, CORS, tensor_content, a unix socket."""
    save_linear(tmp_path, 7)
    server = serve(
        "--model_name=m", f"--model_base_path={tmp_path}", "--rest_api_enable_cors_support",
        "--enable_serialization_as_tensor_content=true", f"--grpc_socket_path={tmp_path}/s", "--enable_profiler=false",
    )  # fmt: skip
    assert server.ask("GET", "/v1/models/no").headers["access-control-allow-origin"] == "*"
    assert server.post("/v1/models/m:predict", BODY).json == {"predictions": [[15.0], [26.5]]}
    with grpc.insecure_channel(f"unix:{tmp_path}/s") as channel:
        path = "/tensorflow.serving.PredictionService/Predict"
        answer = channel.unary_unary(path)(predict_request("m").SerializeToString(), timeout=30)
    outputs = METHODS[path][1].FromString(answer).outputs
    assert outputs["y"].tensor_content == np.float32([[15], [26.5]]).tobytes()


def test_models_of_a_config_file(serve: Any, tmp_path: Path, save_linear: Callable[..., Path]) -> None:
    for version in (1, 2, 3):
        save_linear(tmp_path / "a", version)
    save_linear(tmp_path / "b", 1)
    config = tmp_path / "models.config"
    config.write_text(
        f"""model_config_list {{
          config {{ name: "a" base_path: "{tmp_path}/a" model_platform: "tensorflow"
                    model_version_policy {{ specific {{ versions: 1 versions: 2 }} }} }}
          config {{ name: "b" base_path: "{tmp_path}/b" model_platform: "tensorflow" }}
        }}"""
    )
    server = serve(f"--model_config_file={config}")
    server.wait_for_log("Successfully loaded servable version {name: a version: 1}")
    for path, answer in (("a/versions/1", 9.0), ("a", 10.0), ("b", 9.0)):
        assert server.post(f"/v1/models/{path}:predict", {"instances": [[1, 2]]}).json == {"predictions": [[answer]]}
    assert server.post("/v1/models/a/versions/3:predict", {"instances": [[1, 2]]}).status == 404


def test_a_saved_model_is_served(serve: Any, saved_models: Path) -> None:
    """The same answers, and TensorFlow's own words for what does not fit."""
    server = serve("--model_name=tf2", f"--model_base_path={saved_models / 'tf2'}")
    assert server.post("/v1/models/tf2:predict", BODY).body == b'{\n    "predictions": [[11.0], [22.5]\n    ]\n}'
    code, details = refused(server, "PredictionService/Predict", predict_request("tf2", np.int32([[1, 2]])))
    assert code == "INVALID_ARGUMENT"
    assert "to be float but int32 is provided" in details
    metadata = server.ask("GET", "/v1/models/tf2/metadata").json["metadata"]["signature_def"]["signature_def"]
    assert metadata["__saved_model_init_op"]["outputs"]["__saved_model_init_op"]["dtype"] == "DT_INVALID"


# Starts that fail.


def test_a_port_in_use_is_one_sentence(
    linear_server: Any, tmp_path: Path, save_linear: Callable[..., Path], run_to_end: Any, free_port: Callable[[], int]
) -> None:
    save_linear(tmp_path / "m", 1)
    grpc_taken = run_to_end(tmp_path, f"--port={linear_server.port}", f"--rest_api_port={free_port()}")
    assert grpc_taken.returncode == 1
    assert f"keraship: cannot serve gRPC at 0.0.0.0:{linear_server.port}" in grpc_taken.stderr
    rest_taken = run_to_end(tmp_path, f"--port={free_port()}", f"--rest_api_port={linear_server.rest_port}")
    assert rest_taken.returncode == 1
    assert f"keraship: cannot serve REST at port {linear_server.rest_port}" in rest_taken.stderr
    assert "Traceback" not in grpc_taken.stderr + rest_taken.stderr


def test_a_rest_port_in_use_leaves_grpc_where_tensorflows_server_would(
    linear_server: Any, tmp_path: Path, save_linear: Callable[..., Path], serve: Any
) -> None:
    """tensorflow_model_server says so in its log and goes on; so do we under its flags."""
    save_linear(tmp_path, 1)
    server = serve(
        "--model_name=m", f"--model_base_path={tmp_path}", f"--rest_api_port={linear_server.rest_port}", wait=False
    )
    server.wait_for_log(f"Failed to start HTTP Server at localhost:{linear_server.rest_port}")
    assert server.call("PredictionService/Predict", predict_request("m")).model_spec.version.value == 1


def test_a_repository_that_is_none(tmp_path: Path, run_to_end: Any) -> None:
    for path, words in ((tmp_path / "no", "expected a model repository"), (tmp_path, "found none")):
        ended = run_to_end(path)
        assert ended.returncode == 1
        assert words in ended.stderr
        assert ended.stderr.count("\n") == 1


def test_a_broken_model_ends_the_start(tmp_path: Path, run_to_end: Any, free_port: Callable[[], int]) -> None:
    """In a repository at its first failure; as tensorflow_model_server after the last."""
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "1" / "model.onnx").write_bytes(b"junk")
    ports = (f"--port={free_port()}", f"--rest_api_port={free_port()}")
    ended = run_to_end(tmp_path, *ports)
    assert ended.returncode == 1
    assert "keraship: 1 servable(s) did not become available: {{name: m version: 1} due to error: " in ended.stderr
    ended = run_to_end(f"--model_base_path={tmp_path}/m", "--model_name=m", "--max_num_load_retries=0", *ports)
    assert ended.returncode == 255
    assert ended.stdout.startswith("Failed to start server. Error: UNKNOWN: 1 servable(s) did not become available: ")


USAGE = [
    (["--port=x"], 255, "expected a whole number for --port; got 'x'"),
    (["--version"], 0, "TensorFlow ModelServer: "),
    (["--port=0", "--model_base_path=/m"], 255, "Failed to start server. Error: INVALID_ARGUMENT: At least one of "),
    ([], 255, "Error: INVALID_ARGUMENT: Both server_options.model_base_path and server_options.model_config_file are "),
    (["--nonsense", "--model_base_path=m"], 255, "unknown argument: --nonsense"),
    (["--help"], 0, "keraship serve repo"),
]


@pytest.mark.parametrize(("args", "status", "words"), USAGE)
def test_the_command_line(run_to_end: Any, args: list[str], status: int, words: str) -> None:
    ended = run_to_end(*args)
    assert (ended.returncode, words in ended.stdout) == (status, True), ended


@pytest.mark.parametrize(("arg", "words"), [("--prot=1", "did you mean --port?"), ("--port=65536", "from 0 to 65535")])
def test_a_bad_flag_beside_a_repository_is_wrong_usage(run_to_end: Any, tmp_path: Path, arg: str, words: str) -> None:
    ended = run_to_end(tmp_path, arg)
    assert ended.returncode == 2
    assert words in ended.stderr
