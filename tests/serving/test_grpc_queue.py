"""Calls that wait for a thread: those whose caller has left are not run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import grpc

from keraship.serving.grpc_server import GrpcServer, GrpcServerOptions

PREDICT = "/tensorflow.serving.PredictionService/Predict"


class Recording:
    """Fake methods: the first call waits until it is let go; all are noted."""

    def __init__(self) -> None:
        self.ran: list[bytes] = []
        self.go = threading.Event()

    def unary(self, method: str, request: bytes, **_: Any) -> bytes:
        self.ran.append(request)
        assert self.go.wait(30)
        return request


def test_a_call_whose_caller_has_left_is_not_run(free_port: Callable[[], int]) -> None:
    port, methods = free_port(), Recording()
    server = GrpcServer(methods, GrpcServerOptions(port, threads=1))  # type: ignore[arg-type]  # a fake
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(PREDICT)
        first = call.future(b"first", timeout=30)
        while not methods.ran:
            time.sleep(0.001)
        left = call.future(b"left", timeout=30)
        waits = call.future(b"waits", timeout=30)
        time.sleep(0.3)  # both are in the server's queue
        left.cancel()
        time.sleep(0.3)
        methods.go.set()
        assert (first.result(), waits.result()) == (b"first", b"waits")
    server.stop(0)()
    assert methods.ran == [b"first", b"waits"]
