"""Clients that mean harm, or break: each gets an answer or is dropped, and the others never notice."""

from __future__ import annotations

import gzip
import json
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from onnx import TensorProto, helper

from keraship import bundle
from keraship.signature import Signature, TensorSpec
from keraship.wire import to_array, to_tensor
from keraship.wire.messages import METHODS, PredictRequest, PredictResponse

PREDICT = "/tensorflow.serving.PredictionService/Predict"
LINEAR = "/v1/models/linear:predict"
STEPS = 200_000  # of the slow model, a microsecond or so each
HUNDRED_MB = 100_000_000
SLOW_CLIENTS = 40
EMPTY = {"error": "JSON Parse error: The document is empty"}


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, start_server: Callable[..., Any], save_linear: Callable[..., Path]
) -> Iterator[Any]:
    """Four threads for REST; in the end it still answers, has met nothing that nobody foresaw, and ends in order."""
    folder = tmp_path_factory.mktemp("repository")
    save_linear(folder / "linear", 3)
    _save_total(folder / "total" / "1")
    _save_slow(folder / "slow" / "1")
    running = start_server([str(folder), "--rest_api_num_threads=4"])
    yield running
    _assert_well(running)
    assert running.end(signal.SIGTERM) == 0
    log = "".join(running.log)
    assert "nobody foresaw" not in log, log
    assert "Traceback" not in log, log


LISTS = b'{"instances": ' + b"[" * 500_000 + b"1" + b"]" * 500_000 + b"}"
NESTED = [
    ("predict", LISTS),
    ("classify", LISTS.replace(b"instances", b"examples")),
    ("predict", b'{"instances": ' + b"[" * 500_000),
    ("predict", b"[" * 500_000 + b"]" * 500_000),
    ("regress", b'{"examples": ' * 500_000),
]


@pytest.mark.parametrize(("verb", "body"), NESTED, ids=["lists", "examples", "open", "no object", "objects"])
def test_a_nesting_without_end_is_answered(server: Any, verb: str, body: bytes) -> None:
    assert server.ask("POST", f"/v1/models/linear:{verb}", body).status == 400
    _assert_well(server)


def test_100_mb_of_json(server: Any) -> None:
    numbers = HUNDRED_MB // 10
    answer = server.ask("POST", "/v1/models/total:predict", b'{"inputs": [' + b"1.0000000," * (numbers - 1) + b"1]}")
    assert answer.json == {"outputs": float(numbers)}


def test_100_mb_that_are_no_json(server: Any) -> None:
    answer = server.ask("POST", LINEAR, b'{"instances": [' + b" " * HUNDRED_MB)
    assert answer.status == 400
    assert len(answer.body) < 1000


def test_100_mb_over_grpc(server: Any) -> None:
    ones = np.ones(HUNDRED_MB // 8)
    answer = server.call("PredictionService/Predict", _request("total", ones))
    assert to_array(answer.outputs["y"]) == ones.size


NO_UTF8 = [b'{"instances": [["\xff", 1]]}', b'{"\xff": 1}', b'{"signature_name": "\xc0\x80", "instances": [[1, 2]]}',
           b'{"instances": [{"\xed\xa0\x80": [1, 2]}]}', b"\xff\xfe{\0"]  # fmt: skip


@pytest.mark.parametrize("body", NO_UTF8)
def test_what_is_not_utf8_is_the_clients_fault(server: Any, body: bytes) -> None:
    for verb in ("predict", "classify", "regress"):
        answer = server.ask("POST", f"/v1/models/linear:{verb}", body)
        assert answer.status == 400
        assert b'"error"' in answer.body


def test_a_name_that_is_not_utf8_over_grpc(server: Any) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(PREDICT)(b"\x0a\x03\x0a\x01\xff", timeout=30)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_of_equal_keys_the_first_counts(server: Any) -> None:
    body = b'{"instances": [[1, 1]], "instances": [[5, 5]]}'
    assert server.ask("POST", LINEAR, body).json == {"predictions": [[8]]}


def test_a_body_that_unpacks_to_too_much_counts_as_empty(server: Any) -> None:
    bomb = gzip.compress(b" " * (150 * 2**20), 1)
    answer = server.ask("POST", LINEAR, bomb, **{"Content-Encoding": "gzip"})
    assert (answer.status, answer.json) == (400, EMPTY)
    right = gzip.compress(b'{"instances": [[1, 1]]}' + b" " * (99 * 2**20), 1)
    assert server.ask("POST", LINEAR, right, **{"Content-Encoding": "gzip"}).json == {"predictions": [[8]]}


HEAD = b"POST /v1/models/linear:predict HTTP/1.1\r\nHost: a\r\n"
HALVES = [
    b"P",
    HEAD,
    HEAD + b"Content-Length: 100\r\n\r\n{",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\na",
    b"\x16\x03\x01\x02\0",
    b"\0" * 1000,
]


def test_halves_of_requests_and_an_end(server: Any) -> None:
    """Over the port of HTTP and of gRPC; what speaks no gRPC is that server's to drop."""
    for port in (server.rest_port, server.port):
        for half in HALVES * 5:
            with socket.create_connection(("127.0.0.1", port), 20) as connection:
                connection.sendall(half)
    _assert_well(server)


def test_halves_of_requests_and_silence(server: Any) -> None:
    with _connections(server.rest_port, 7 * len(HALVES)) as silent:
        for connection, half in zip(silent, HALVES * 7, strict=True):
            connection.sendall(half)
        _assert_well(server)


def test_clients_that_send_a_byte_a_second_hold_nobody_up(server: Any) -> None:
    """Ten times as many as there are threads; one of them is answered in the end, byte for byte."""
    body = json.dumps({"instances": [[1, 1]]}).encode()
    head = b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (LINEAR.encode(), len(body))
    with _connections(server.rest_port, SLOW_CLIENTS) as slow:
        for index, connection in enumerate(slow):  # half of them within the head, half within the body
            connection.sendall(head[:-30] if index % 2 else head)
        for second in range(3):
            for index, connection in enumerate(slow):
                connection.sendall(b"0" if index % 2 else body[second : second + 1])
            for _ in range(10):
                _assert_well(server)
            time.sleep(1)
        slow[0].sendall(body[3:])
        answer = slow[0].recv(1000)
    assert answer.startswith(b"HTTP/1.1 200 OK"), answer


def test_callers_that_leave_a_batch_do_not_touch_the_others(server: Any) -> None:
    """Sixteen requests for a slow model whose rows are independent: some are cancelled, some vanish."""
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        leaving = grpc.insecure_channel(f"127.0.0.1:{server.port}", [("grpc.use_local_subchannel_pool", 1)])
        futures = []
        for index in range(16):
            through = leaving if index % 4 == 3 else channel
            request = _request("slow", np.float32([index])).SerializeToString()
            futures.append(through.unary_unary(PREDICT).future(request, timeout=60))
        time.sleep(0.1)  # some run, some wait
        leaving.close()
        for each in futures[2::4]:
            each.cancel()
        for index, each in enumerate(futures):
            if index % 4 < 2:
                answer = PredictResponse.FromString(each.result())
                assert to_array(answer.outputs["y"]).tolist() == [index + STEPS]
    _assert_well(server)


def test_a_request_that_fails_in_a_batch_fails_alone(server: Any) -> None:
    """The wrong one has a wrong dtype; it is told, and the others get their numbers."""
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = channel.unary_unary(PREDICT)
        values = [np.int64([i]) if i == 3 else np.float32([i]) for i in range(8)]
        futures = [call.future(_request("slow", each).SerializeToString(), timeout=60) for each in values]
        for index, each in enumerate(futures):
            if index == 3:
                assert each.exception().code() is grpc.StatusCode.INVALID_ARGUMENT
            else:
                answer = PredictResponse.FromString(each.result())
                assert to_array(answer.outputs["y"]).tolist() == [index + STEPS]


def _assert_well(server: Any) -> None:
    """Both transports answer, and rightly."""
    answer = server.post(LINEAR, {"instances": [[1, 1]]})
    assert (answer.status, answer.json) == (200, {"predictions": [[8]]})
    request = _request("linear", np.float32([[1, 1]]))
    assert to_array(server.call("PredictionService/Predict", request).outputs["y"]).tolist() == [[8]]


def _request(model: str, x: Any) -> Any:
    request = METHODS[PREDICT][0]()
    assert isinstance(request, PredictRequest)
    request.model_spec.name = model
    to_tensor(x, encoding="tensor_content", into=request.inputs["x"])
    return request


@contextmanager
def _connections(port: int, count: int) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection(("127.0.0.1", port), 20)) for _ in range(count)]


def _save_total(folder: Path) -> None:
    """The sum of x, float64 [-1]."""
    nodes = [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)]
    _save(folder, nodes, {"x": (TensorProto.DOUBLE, ["N"])}, {"y": (TensorProto.DOUBLE, [])})


def _save_slow(folder: Path) -> None:
    """y = x + STEPS, one after the other, for x float32 [-1]; its manifest says that rows are independent."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Add", ["v", "one"], ["w"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, ["N"]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, ["N"]),
        ],
    )
    nodes = [helper.make_node("Loop", ["steps", "", "x"], ["y"], body=body)]
    weights = [
        helper.make_tensor("steps", TensorProto.INT64, (), [STEPS]),
        helper.make_tensor("one", TensorProto.FLOAT, (), [1]),
    ]
    _save(folder, nodes, {"x": (TensorProto.FLOAT, ["N"])}, {"y": (TensorProto.FLOAT, ["N"])}, weights)
    signature = Signature((TensorSpec("x", "float32", (None,)),), (TensorSpec("y", "float32", (None,)),))
    entry = bundle.FileEntry(bytes=0, sha256="")
    artifact = bundle.Artifact(
        "onnx", {"model.onnx": entry}, load_seconds=0, parity=bundle.Parity(0, 0, 0, None, (1,)), row_independent=True
    )
    source = bundle.Source(file="m.keras", sha256="", model="Model", weights_bytes=0)
    manifest = bundle.Manifest(source, {"serving_default": signature}, (artifact,), golden=entry, tools={})
    bundle.write_manifest(folder, manifest)


Sides = Mapping[str, tuple[int, Sequence[Any]]]


def _save(folder: Path, nodes: list[Any], inputs: Sides, outputs: Sides, weights: Sequence[Any] = ()) -> None:
    infos = [[helper.make_tensor_value_info(name, *each) for name, each in side.items()] for side in (inputs, outputs)]
    graph = helper.make_graph(nodes, "graph", *infos, list(weights))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
