"""The same client over REST: one server gives the same answers and errors as over gRPC; the contract's own words."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from keraship import errors
from keraship.client import NO_RETRY, AsyncClient, Class, Client, InvalidInput, Retry, Tls
from keraship.client.testing import FakeModel, FakeServer

TYPES = {
    "float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE, "int64": TensorProto.INT64,
    "int32": TensorProto.INT32, "int16": TensorProto.INT16, "int8": TensorProto.INT8, "uint8": TensorProto.UINT8,
    "uint32": TensorProto.UINT32, "uint64": TensorProto.UINT64, "bool": TensorProto.BOOL, "string": TensorProto.STRING,
}  # fmt: skip


def save_identity(folder: Path, inputs: dict[str, int], rank: int) -> None:
    """A version that gives every input back, as <name>_out."""
    shape = [f"N{axis}" for axis in range(rank)]
    graph = helper.make_graph(
        [helper.make_node("Identity", [name], [f"{name}_out"]) for name in inputs],
        "graph",
        [helper.make_tensor_value_info(name, kind, shape) for name, kind in inputs.items()],
        [helper.make_tensor_value_info(f"{name}_out", kind, shape) for name, kind in inputs.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """`keraship serve` with an identity for each type, and one of two inputs; its gRPC and its REST address."""
    folder = tmp_path_factory.mktemp("repo")
    for name, kind in TYPES.items():
        save_identity(folder / name / "1", {"x": kind}, rank=2)
        save_identity(folder / f"{name}-scalar" / "3", {"x": kind}, rank=0)
    save_identity(folder / "two" / "1", {"a": TensorProto.INT64, "b": TensorProto.FLOAT}, rank=1)
    socket, port = tmp_path_factory.mktemp("s") / "s", free_port()
    command = [sys.executable, "-m", "keraship", "serve", str(folder), "--port=0", f"--rest_api_port={port}"]
    command += [f"--grpc_socket_path={socket}", "--rest_api_num_threads=12"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        with Client(f"unix:{socket}") as client:
            for name in (*TYPES, *(f"{name}-scalar" for name in TYPES), "two"):
                client.wait_until_ready(60, model_name=name)
        yield f"unix:{socket}", f"http://127.0.0.1:{port}"
        process.terminate()


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def rest(served: tuple[str, str]) -> Iterator[Client]:
    with Client(served[1], timeout=30) as client:
        yield client


@pytest.fixture
def grpc(served: tuple[str, str]) -> Iterator[Client]:
    with Client(served[0], timeout=30) as client:
        yield client


def sample(name: str) -> np.ndarray:
    if name == "string":
        return np.array([["a", "ü"], ["", "\n\0"]], object)
    if name == "bool":
        return np.array([[True, False], [False, True]])
    if name.startswith("float"):
        return np.array([[0.1, -1e-30], [3e30, 2]], name)
    info = np.iinfo(name)
    return np.array([[info.min, info.max], [1, 0]], name)


@pytest.mark.parametrize("name", TYPES)
def test_answers_are_those_of_grpc(rest: Client, grpc: Client, name: str) -> None:
    """Names, dtypes, shapes, bits; matrices, scalars."""
    array = sample(name)
    for model, value in ((name, array), (f"{name}-scalar", array[0, 1])):
        if name == "string" and model != name:
            value = "ü"
        one, other = (client.predict({"x": value}, model_name=model) for client in (rest, grpc))
        assert list(one) == list(other) == ["x_out"]
        assert (one.array.dtype, one.array.shape) == (other.array.dtype, other.array.shape)
        assert one.array.tolist() == other.array.tolist()
        assert not one.array.flags.writeable
        assert rest.predict({"x": value}, model_name=model, copy=True).array.flags.writeable


def test_numbers_that_json_has_not(rest: Client) -> None:
    """NaN and the infinities go there and back."""
    array = np.float32([[np.nan, np.inf], [-np.inf, -0.0]])
    assert rest.predict(array, model_name="float32").array.tobytes() == array.tobytes()


def test_several_inputs_outputs_versions_and_filters(rest: Client, grpc: Client) -> None:
    """As over gRPC, save that the version which answered is not told."""
    inputs = {"a": [1, 2], "b": [0.5, 1.5]}
    one, other = (client.predict(inputs, model_name="two") for client in (rest, grpc))
    assert {name: array.tolist() for name, array in one.items()} == {
        name: array.tolist() for name, array in other.items()
    }
    assert list(rest.predict(inputs, model_name="two", output_filter=["b_out"])) == ["b_out"]
    with pytest.raises(errors.InvalidArgument, match="output tensor alias not found in signature: c"):
        rest.predict(inputs, model_name="two", output_filter=["c"])
    assert rest.predict({"x": 5.0}, model_name="float32-scalar", version=3).model_spec.version == 3
    assert rest.predict(inputs, model_name="two", check=False)["a_out"].tolist() == [1, 2]


def test_metadata_status_and_readiness_are_those_of_grpc(rest: Client, grpc: Client) -> None:
    """Signatures and versions."""
    for model in ("two", "string", "float32-scalar"):
        assert rest.metadata(model_name=model) == grpc.metadata(model_name=model)
        assert rest.status(model_name=model) == grpc.status(model_name=model)
        assert rest.wait_until_ready(10, model_name=model) == grpc.wait_until_ready(10, model_name=model)


def test_errors_are_those_of_grpc(rest: Client, grpc: Client) -> None:
    """Class, code and words."""
    asks: list[Callable[[Client], object]] = [
        lambda client: client.predict([1.0], model_name="absent"),
        lambda client: client.status(model_name="absent"),
        lambda client: client.predict([[1.0]], model_name="float32", version=77),
        lambda client: client.predict({"y": [[1.0]]}, model_name="float32"),
        lambda client: client.predict({"x": np.float64([[1.0]])}, model_name="float32"),
        lambda client: client.predict([1], model_name="two"),
        lambda client: client.predict([[1.0]], model_name="float32", signature_name="other"),
    ]
    for ask in asks:
        with pytest.raises(errors.StatusError) as one:
            ask(rest)
        with pytest.raises(errors.StatusError) as other:
            ask(grpc)
        assert type(one.value) is type(other.value)
        assert (one.value.code, one.value.details, one.value.attempts) == (
            other.value.code, other.value.details, other.value.attempts,
        )  # fmt: skip


def test_what_rest_cannot_do_is_said(rest: Client) -> None:
    """Types and shapes that JSON has not, calls that there are not."""
    with pytest.raises(InvalidInput, match="is of float16, which TensorFlow Serving does not take over REST"):
        rest.predict({"x": np.float16([[1]])}, model_name="float32", check=False)
    with pytest.raises(InvalidInput, match=r"empty, of shape \[0, 3\]"):
        rest.predict(np.zeros((0, 3), np.float32), model_name="float32")
    with pytest.raises(errors.Unimplemented, match="multi_inference over REST"):
        rest.multi_inference([{"x": 1}], tasks={"a": "classify"}, model_name="two")
    with pytest.raises(errors.Unimplemented, match="reload_config over REST"):
        rest.reload_config({"a": "/a"})


def test_threads_and_asyncio_share_connections(rest: Client, served: tuple[str, str]) -> None:
    """Each gets its own answer."""
    from concurrent.futures import ThreadPoolExecutor

    def ask(i: int) -> float:
        return float(rest.predict([[float(i)]], model_name="float32").array.item())

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(100))) == list(range(100))

    async def run() -> None:
        async with AsyncClient(served[1], "float32") as client:
            answers = await asyncio.gather(*(client.predict([[float(i)]]) for i in range(50)))
            assert [answer.array.item() for answer in answers] == list(range(50))
            assert (await client.predict_many(np.float32([[1], [2]]), batch_size=1).join()).array.tolist() == [[1], [2]]

    asyncio.run(run())


class Canned:
    """An HTTP server that answers what it is told, and notes what it was asked."""

    def __init__(self, answer: Callable[[str, str, bytes], tuple[int, bytes]]) -> None:
        self.asked: list[tuple[str, str, bytes, dict[str, str]]] = []
        canned = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
                pass

            def do_GET(self) -> None:  # the base class's name
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                canned.asked.append((self.command, self.path, body, dict(self.headers.items())))
                status, data = answer(self.command, self.path, body)
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_GET  # noqa: N815  # the base class's name

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self) -> Canned:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def test_classify_and_regress_speak_tensorflow_servings_json() -> None:
    """What goes out and what comes back is as its json_tensor.cc has it."""

    def answer(_verb: str, path: str, _body: bytes) -> tuple[int, bytes]:
        if path.endswith(":classify"):
            return 200, b'{\n    "results": [[["caf\xc3\xa9", 0.100000001], ["", 0.0]], []\n    ]\n}'
        return 200, b'{\n    "results": [42.0, NaN]\n}'

    with Canned(answer) as server, Client(f"{server.address}/gateway", "m") as client:
        examples = [{"i": 2, "f": 2.0, "s": "x", "b": b"\xff", "l": [1, 2], "e": []}, {}]
        found = client.classify(examples, context={"c": 1}, version_label="a b", signature_name="sig")
        assert list(found) == [(Class("café", float(np.float32(0.1))), Class("", 0.0)), ()]
        verb, path, body, _ = server.asked[0]
        assert (verb, path) == ("POST", "/gateway/v1/models/m/labels/a%20b:classify")
        assert json.loads(body) == {
            "signature_name": "sig",
            "examples": [
                {"i": [2], "f": [2.0], "s": [{"b64": "eA=="}], "b": [{"b64": "/w=="}], "l": [1, 2], "e": []}, {},
            ],
            "context": {"c": [1]},
        }  # fmt: skip
        assert b'"f":[2.0]' in body.replace(b" ", b"")
        values = client.regress(examples, version=7)
        assert values.array.tolist()[0] == 42
        assert np.isnan(values.array[1])
        assert values.model_spec.version == 7
        assert server.asked[1][1] == "/gateway/v1/models/m/versions/7:regress"


METADATA = (
    b'{"model_spec":{"name":"m","signature_name":"","version":"1"},"metadata":{"signature_def":{"signature_def":'
    b'{"serving_default":{"inputs":{"x":{"dtype":"DT_FLOAT","tensor_shape":{"dim":[{"size":"-1","name":""}],'
    b'"unknown_rank":false},"name":"x:0"}},"outputs":{"y_bytes":{"dtype":"DT_STRING","tensor_shape":{"dim":[{"size":"-1",'
    b'"name":""}],"unknown_rank":false},"name":"y:0"}},"method_name":"tensorflow/serving/predict","defaults":{}}}}}}'
)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b'{"outputs": [{"b64": "/w=="}, {"b64": ""}]}', [b"\xff", b""]),
        (b'{"outputs": ["caf\xc3\xa9", "\xff"]}', ["café".encode(), b"\xff"]),
        (b'{"outputs": []}', []),
    ],
)
def test_bytes_come_in_base64_or_as_they_are(answer: bytes, expected: list[bytes]) -> None:
    """TensorFlow Serving writes some outputs in base64, and others raw, whether they are text or not."""
    with (
        Canned(lambda verb, _path, _body: (200, METADATA if verb == "GET" else answer)) as server,
        Client(server.address, "m") as client,
    ):
        assert client.predict([1.0]).array.tolist() == expected


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"<html>", "got other text"),
        (b"[]", "expected 'outputs'"),
        (b'{"outputs": [1]}', "cannot be read"),
        (b'{"outputs": [["a"], "b"]}', "cannot be read"),
        (b'{"outputs": "a"}', r"got shape \[\]"),
    ],
)
def test_answers_that_are_none_are_internal(answer: bytes, says: str) -> None:
    """The server's fault."""
    with (
        Canned(lambda verb, _path, _body: (200, METADATA if verb == "GET" else answer)) as server,
        Client(server.address, "m") as client,
        pytest.raises(errors.Internal, match=says),
    ):
        client.predict([1.0])


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, errors.InvalidArgument), (401, errors.Unauthenticated), (403, errors.PermissionDenied),
        (404, errors.NotFound), (409, errors.Aborted), (429, errors.ResourceExhausted), (500, errors.Internal),
        (501, errors.Unimplemented), (502, errors.Unavailable), (503, errors.Unavailable),
        (504, errors.DeadlineExceeded), (418, errors.Unknown), (599, errors.Internal),
    ],
)  # fmt: skip
def test_each_status_has_its_error(status: int, error: type[errors.StatusError]) -> None:
    """With the server's words, or a gateway's."""
    for body, details in ((b'{"error": "the \\"words\\""}', 'the "words"'), (b"<p>no\n json</p>", "<p>no json</p>")):
        with (
            Canned(lambda *_: (status, body)) as server,  # noqa: B023  # it is used within the round
            Client(server.address, "m", retry=NO_RETRY) as client,
            pytest.raises(error, match="GetModelStatus") as caught,
        ):
            client.status()
        assert caught.value.details == details


def test_headers_and_compression_reach_the_server() -> None:
    """For every attempt; a request that failed with 503 is sent again."""
    import gzip

    answers = iter([(503, b""), (200, b'{"results": [1.0]}')])
    with (
        Canned(lambda *_: next(answers)) as server,
        Client(server.address, "m", headers=lambda: {"Authorization": "me"}, compression="gzip") as client,
    ):
        client.regress([{"x": 1.0}])
        assert len(server.asked) == 2
        for _, _, body, headers in server.asked:
            assert headers["authorization"] == "me"
            assert json.loads(gzip.decompress(body))["examples"] == [{"x": [1.0]}]


def test_a_drip_of_bytes_does_not_pass_the_deadline() -> None:
    """The timeout is for the whole answer, not for each wait."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            peer, _ = listener.accept()
            with peer:
                try:
                    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                    for _ in range(100):
                        peer.sendall(b"x")
                        time.sleep(0.1)
                except OSError:
                    return

        threading.Thread(target=drip, daemon=True).start()
        with Client(f"http://127.0.0.1:{listener.getsockname()[1]}", "m", retry=NO_RETRY) as client:
            start = time.monotonic()
            with pytest.raises(errors.DeadlineExceeded, match="did not answer GetModelStatus within the time"):
                client.status(timeout=0.5)
            assert time.monotonic() - start < 3


def test_connections_are_kept_and_replaced() -> None:
    """One for all calls; one that the server closed meanwhile is no error."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepted = 0

        def serve() -> None:
            nonlocal accepted
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                accepted += 1
                with peer:
                    for _ in range(2):  # two answers for a connection, then it is closed without a word
                        if not peer.recv(65536):
                            break
                        body = b'{"model_version_status": []}'
                        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

        threading.Thread(target=serve, daemon=True).start()
        with Client(f"http://127.0.0.1:{listener.getsockname()[1]}", "m", retry=NO_RETRY) as client:
            for _ in range(6):
                assert client.status() == ()
        assert accepted == 3


def test_nobody_there_and_no_such_host() -> None:
    """In the words that gRPC's errors have; a gRPC port is told apart."""
    for address, says in (
        (
            f"http://127.0.0.1:{free_port()}",
            r"no server answers at .* \(connection refused\): is it running, .* REST port",
        ),
        ("http://no-such-host.invalid:8501", "no host is known by the name"),
    ):
        with (
            Client(address, "m", retry=Retry(2, 0.01)) as client,
            pytest.raises(errors.Unavailable, match=says) as caught,
        ):
            client.status()
        assert caught.value.attempts == 2
    with (
        FakeServer(FakeModel()) as server,
        Client(f"http://{server.address}", "m", retry=NO_RETRY) as client,
        pytest.raises(errors.Unavailable),
    ):
        client.status(timeout=10)


def test_close_ends_what_is_under_way() -> None:
    """As Cancelled; over asyncio a cancelled task ends at once."""
    with Canned(lambda *_: (time.sleep(3), (200, b"{}"))[1]) as server:
        client = Client(server.address, "m")
        ended: list[BaseException] = []

        def ask() -> None:
            try:
                client.status()
            except errors.StatusError as error:
                ended.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        time.sleep(0.3)
        client.close()
        thread.join(2)
        assert [type(error) for error in ended] == [errors.Cancelled]
        with pytest.raises(ValueError, match="this one is closed"):
            client.status()

        async def run() -> None:
            async with AsyncClient(server.address, "m") as other:
                task = asyncio.ensure_future(other.status())
                await asyncio.sleep(0.3)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

        start = time.monotonic()
        asyncio.run(run())
        assert time.monotonic() - start < 2.5


def test_hedging_and_several_servers() -> None:
    """The first answer counts; one that is down costs nothing."""
    body = b'{"model_version_status": [{"version": "1", "state": "AVAILABLE"}]}'
    with (
        Canned(lambda *_: (time.sleep(2), (200, b"{}"))[1]) as slow,
        Canned(lambda *_: (200, body)) as quick,
        Client([slow.address, quick.address], "m", hedge=0.1) as client,
    ):
        for _ in range(3):
            assert client.status()[0].version == 1
        with Client(f"http://127.0.0.1:{free_port()},{quick.address}", "m") as other:
            for _ in range(4):
                assert other.status()[0].state == "AVAILABLE"


def test_https(tmp_path: Path) -> None:
    """With an authority of one's own, and without trust in it."""
    import ssl

    import trustme

    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(context)
    body = b'{"model_version_status": []}'
    with Canned(lambda *_: (200, body)) as server:
        server.server.socket = context.wrap_socket(server.server.socket, server_side=True)
        address = f"https://localhost:{server.server.server_port}"
        with Client(address, "m", tls=Tls(ca=tmp_path / "ca.pem")) as client:
            assert client.status() == ()
            assert client.status() == ()
        with Client(address, "m", retry=NO_RETRY) as client, pytest.raises(errors.Unavailable, match="encrypted"):
            client.status()
