"""On the way to servers and back: attempts, several servers, hedging, TLS, headers, interceptors, spans, the log."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from keraship import errors
from keraship.client import NO_RETRY, AsyncClient, Client, Retry, Tls
from keraship.client.testing import FakeModel, FakeServer

Predict = Callable[[dict[str, np.ndarray]], dict[str, Any]]


def echo(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"y": inputs["x"]}


def flaky(fails: int) -> Predict:
    """Fails that many times, then answers, again and again."""
    turn = itertools.cycle([*[True] * fails, False])
    lock = threading.Lock()

    def predict(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        with lock:
            fail = next(turn)
        if fail:
            raise errors.Unavailable("busy")
        return {"y": inputs["x"]}

    return predict


def ask(client: Client, size: int = 1, **options: Any) -> np.ndarray:
    x = np.zeros(size, np.float32)
    return client.predict({"x": x}, check=False, **options).array


@pytest.mark.parametrize("size", [1, 150_000, 5_000_000])
def test_retries_work_for_messages_of_any_size(size: int) -> None:
    """A server that refuses two of three: every call is answered, where gRPC's own retries give up above a buffer."""
    with (
        FakeServer(FakeModel(flaky(2))) as server,
        Client(server.address, "model", retry=Retry(pause=0.01)) as client,
    ):
        for _ in range(4):
            assert ask(client, size).shape == (size,)
        assert len(server.calls) == 12


def test_attempts_are_counted_and_limited() -> None:
    """No more than were allowed; only codes that were allowed; never beyond the timeout."""
    with FakeServer(FakeModel(flaky(100))) as server:
        with (
            Client(server.address, "model", retry=Retry(3, pause=0.01)) as client,
            pytest.raises(errors.Unavailable, match="busy") as caught,
        ):
            ask(client)
        assert (caught.value.attempts, len(server.calls)) == (3, 3)
        with (
            Client(server.address, "model", retry=NO_RETRY) as client,
            pytest.raises(errors.Unavailable) as caught,
        ):
            ask(client)
        assert (caught.value.attempts, len(server.calls)) == (1, 4)
        with Client(server.address, "model", retry=Retry(1000, pause=0.05), timeout=0.4) as client:
            start = time.monotonic()
            with pytest.raises(errors.StatusError):
                ask(client)
            assert time.monotonic() - start < 5
    model = FakeModel(lambda _: (_ for _ in ()).throw(errors.ResourceExhausted("full")))
    with FakeServer(model) as server:
        with Client(server.address, "model") as client, pytest.raises(errors.ResourceExhausted):
            ask(client)
        assert len(server.calls) == 1
        with (
            Client(server.address, "model", retry=Retry(2, 0.01, codes=("RESOURCE_EXHAUSTED",))) as client,
            pytest.raises(errors.ResourceExhausted),
        ):
            ask(client)
        assert len(server.calls) == 3


def test_an_attempt_may_have_a_limit_of_its_own() -> None:
    """A server that is silent once costs that much, not the whole timeout."""
    turn = itertools.count()

    def sometimes_silent(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if next(turn) == 0:
            time.sleep(3)
        return {"y": inputs["x"]}

    with (
        FakeServer(FakeModel(sometimes_silent)) as server,
        Client(server.address, "model", retry=Retry(attempt_timeout=0.5)) as client,
    ):
        assert ask(client).shape == (1,)
        assert len(server.calls) == 2


def test_nonsense_is_refused() -> None:
    """Where it is said."""
    for make in (
        lambda: Retry(0), lambda: Retry(pause=-1), lambda: Retry(codes=("BUSY",)), lambda: Retry(attempt_timeout=0),
        lambda: Client("h:1", hedge=-1.0), lambda: Client("h:1", compression="br"), lambda: Client([]),  # type: ignore[arg-type]
        lambda: Tls(cert="a"), lambda: Client("grpcs://h:1", tls=False),
        lambda: Client("http://h:1", interceptors=[1]), lambda: Client("http://h:1", compression="deflate"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="expected"):
            make()
    with pytest.raises(errors.DataError, match="PEM file at /none: No such file"):
        Tls(ca="/none")


def test_calls_go_round_the_servers_and_leave_out_those_that_are_down() -> None:
    """Evenly while all are up; a dead one costs no call, and is asked again once it is back."""
    model = FakeModel(echo)
    first, second, third = (FakeServer(model).start() for _ in range(3))
    try:
        with Client([first.address, second.address, third.address], "model", timeout=20) as client:
            for _ in range(30):
                ask(client)
            assert [len(server.calls) for server in (first, second, third)] == [10, 10, 10]
            second.stop()
            for _ in range(30):
                ask(client)
            assert len(second.calls) == 10
            second = FakeServer(model, port=second.port).start()
            end = time.monotonic() + 20
            while not second.calls and time.monotonic() < end:
                ask(client)
                time.sleep(0.02)
            assert second.calls
    finally:
        for server in (first, second, third):
            server.stop()


def test_a_hedged_call_takes_the_first_answer() -> None:
    """A slow server is overtaken by the next; an answer that is in time is asked for once."""
    slow = FakeModel(lambda inputs: (time.sleep(2), {"y": inputs["x"] + 1})[1])
    with FakeServer(slow) as first, FakeServer(FakeModel(echo)) as second:
        with Client([first.address, second.address], "model", hedge=0.1, timeout=20) as client:
            for _ in range(4):
                assert ask(client).item() == 0
        assert len(second.calls) == 4
        before = len(second.calls)
        with Client([second.address, second.address], "model", hedge=5.0, timeout=20) as client:
            ask(client)
        assert len(second.calls) == before + 1

        async def run() -> float:
            async with AsyncClient([first.address, second.address], "model", hedge=0.1, timeout=20) as client:
                answer = await client.predict({"x": np.float32([0])}, check=False)
                return float(answer.array.item())

        assert asyncio.run(run()) == 0


def test_a_hedged_call_survives_a_server_that_is_down_and_tells_real_errors() -> None:
    """The second is asked at once where the first is not there; what a server refuses is refused."""
    with FakeServer(FakeModel(echo)) as up:
        with Client([up.address, "127.0.0.1:1"], "model", hedge=5.0, timeout=20) as client:
            assert [ask(client).item() for _ in range(4)] == [0] * 4
            with pytest.raises(errors.NotFound):
                ask(client, model_name="absent")

        async def run() -> None:
            async with AsyncClient([up.address, "127.0.0.1:1"], "model", hedge=5.0, timeout=20) as client:
                for _ in range(4):
                    await client.predict({"x": np.float32([0])}, check=False)
                with pytest.raises(errors.NotFound):
                    await client.predict({"x": np.float32([0])}, model_name="absent", check=False)

        asyncio.run(run())
    with (
        Client(["127.0.0.1:1", "127.0.0.1:1"], "model", hedge=0.05, retry=NO_RETRY) as client,
        pytest.raises(errors.Unavailable) as caught,
    ):
        ask(client)
    assert caught.value.attempts == 2


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Files: ca, server (for localhost and models.example), client."""
    import trustme

    folder = tmp_path_factory.mktemp("tls")
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    for name, issued in (
        ("server", ca.issue_cert("localhost", "127.0.0.1")),
        ("other", ca.issue_cert("models.example")),
        ("client", ca.issue_cert("me@example.com")),
    ):
        issued.private_key_pem.write_to_path(str(folder / f"{name}.key"))
        issued.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))
    return folder


def secure(server: FakeServer, folder: Path, name: str, *, mutual: bool = False) -> str:
    """A port of the server that speaks TLS."""
    pair = ((folder / f"{name}.key").read_bytes(), (folder / f"{name}.pem").read_bytes())
    ca = (folder / "ca.pem").read_bytes() if mutual else None
    credentials = grpc.ssl_server_credentials([pair], root_certificates=ca, require_client_auth=mutual)
    return f"localhost:{server._server.add_secure_port('localhost:0', credentials)}"


def test_tls_checks_who_answers_and_says_who_asks(authority: Path) -> None:
    """By the scheme or by tls=; a server of another name; a server that wants a certificate."""
    ca = authority / "ca.pem"
    mine = Tls(ca=ca, cert=authority / "client.pem", key=authority / "client.key")
    server = FakeServer(FakeModel(echo))
    plain, other = secure(server, authority, "server"), secure(server, authority, "other")
    mutual = secure(server, authority, "server", mutual=True)
    with server:
        for address, tls in (
            (plain, Tls(ca=ca)),
            (f"grpcs://{plain}", Tls(ca=ca)),
            (other, Tls(ca=ca, server_name="models.example")),
            (mutual, mine),
        ):
            with Client(address, "model", tls=tls, timeout=20) as client:
                assert ask(client).item() == 0
        for address, tls in ((plain, True), (other, Tls(ca=ca)), (mutual, Tls(ca=ca))):
            with (
                Client(address, "model", tls=tls, retry=NO_RETRY, timeout=20) as client,
                pytest.raises(errors.Unavailable, match=address),
            ):
                ask(client)

        async def run() -> float:
            async with AsyncClient(mutual, "model", tls=mine, timeout=20) as client:
                return float((await client.predict({"x": np.float32([3])}, check=False)).array.item())

        assert asyncio.run(run()) == 3


def test_headers_are_asked_for_with_every_attempt() -> None:
    """A token that is renewed meanwhile is the new one."""
    tokens = (f"Bearer {number}" for number in itertools.count())
    with (
        FakeServer(FakeModel(flaky(1))) as server,
        Client(server.address, "model", headers=lambda: {"Authorization": next(tokens)}) as client,
    ):
        ask(client)
        assert [call.headers["authorization"] for call in server.calls] == ["Bearer 0", "Bearer 1"]
        with Client(server.address, "model", headers={"x-team": "blue"}) as other:
            ask(other)
        assert server.calls[-1].headers["x-team"] == "blue"


def test_compressed_requests_are_the_same_requests() -> None:
    """And smaller."""
    for compression in ("gzip", "deflate"):
        with (
            FakeServer(FakeModel(echo)) as server,
            Client(server.address, "model", compression=compression) as client,  # type: ignore[arg-type]
        ):
            assert ask(client, 100_000).shape == (100_000,)


def test_interceptors_are_grpcs_own() -> None:
    """Both clients', each of its kind; they see every attempt."""
    seen: list[str] = []

    class Blocking(grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc]  # grpc has no types
        def intercept_unary_unary(self, continuation: Any, details: Any, request: bytes) -> Any:
            seen.append(details.method)
            return continuation(details, request)

    class Awaiting(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]  # grpc has no types
        async def intercept_unary_unary(self, continuation: Any, details: Any, request: bytes) -> Any:
            seen.append(str(details.method))
            return await continuation(details, request)

    with FakeServer(FakeModel(flaky(1))) as server:
        with Client(server.address, "model", interceptors=[Blocking()]) as client:
            ask(client)
        assert seen == ["/tensorflow.serving.PredictionService/Predict"] * 2

        async def run() -> None:
            async with AsyncClient(server.address, "model", interceptors=[Awaiting()]) as client:
                await client.predict({"x": np.float32([0])}, check=False)

        asyncio.run(run())
        assert len(seen) == 4


@pytest.fixture
def spans() -> Iterator[Any]:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider.get_tracer("test"), exporter
    provider.shutdown()


def test_a_traced_call_is_a_span(spans: Any) -> None:
    """With its attempts and its error; the server is told the trace."""
    tracer, exporter = spans
    with FakeServer(FakeModel(flaky(1))) as server:
        with Client(server.address, "model", tracer=tracer) as client:
            ask(client)
            with pytest.raises(errors.NotFound):
                ask(client, model_name="absent")

        async def run() -> None:
            async with AsyncClient(server.address, "model", tracer=tracer) as client:
                await client.predict({"x": np.float32([0])}, check=False)

        asyncio.run(run())
        good, bad, other = exporter.get_finished_spans()
        assert good.name == other.name == "tensorflow.serving.PredictionService/Predict"
        assert good.attributes["server.address"] == server.address
        assert [event.name for event in good.events] == ["retry"]
        assert bad.attributes["rpc.response.status_code"] == "NOT_FOUND"
        trace_id = f"{good.context.trace_id:032x}"
        assert trace_id in server.calls[0].headers["traceparent"]


def test_the_log_tells_of_calls_and_failed_attempts(caplog: pytest.LogCaptureFixture) -> None:
    """Under keraship.client: failed attempts for information, calls for those who look for faults."""
    caplog.set_level(logging.DEBUG, "keraship.client")
    with FakeServer(FakeModel(flaky(1))) as server, Client(server.address, "model") as client:
        ask(client)
    levels = [(record.levelname, record.getMessage().partition(":")[0]) for record in caplog.records]
    assert levels == [("INFO", "Predict of model"), ("DEBUG", "Predict of model")]
