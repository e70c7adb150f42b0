"""grpc.health.v1.Health: which services answer, for load balancers. SERVING from the start until the end begins.

Its two messages are so small that no generated code is worth its dependency: a request is a string, its field 1, as
the name of a ModelSpec is; an answer is a number, its field 1.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from keraship.wire.messages import ModelSpec

_SERVICES = ("", "ModelService", "PredictionService")
_SERVING, _NOT_SERVING, _SERVICE_UNKNOWN = b"\x08\x01", b"\x08\x02", b"\x08\x03"
_LOOK_SECONDS = 1  # how often a watcher that went away is noticed


class HealthHandler(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc ships no types
    """Check, and Watch up to a few watchers: each holds one of the server's threads."""

    def __init__(self, watchers: int) -> None:
        self._ending = threading.Event()
        self._free = threading.BoundedSemaphore(max(watchers, 1))

    def end(self) -> None:
        """From now on NOT_SERVING."""
        self._ending.set()

    def service(self, handler_call_details: Any) -> Any:
        if handler_call_details.method == "/grpc.health.v1.Health/Check":
            return grpc.unary_unary_rpc_method_handler(self._check)
        if handler_call_details.method == "/grpc.health.v1.Health/Watch":
            return grpc.unary_stream_rpc_method_handler(self._watch)
        return None

    def _check(self, request: bytes, context: Any) -> bytes:
        if _service(request, context) not in _SERVICES:
            context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return self._state()

    def _watch(self, request: bytes, context: Any) -> Iterator[bytes]:
        if not self._free.acquire(blocking=False):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls of Watch at once; use Check")
        try:
            known = _service(request, context) in _SERVICES
            yield self._state() if known else _SERVICE_UNKNOWN
            while context.is_active() and not self._ending.wait(_LOOK_SECONDS):
                pass
            if known and context.is_active():
                yield self._state()
        finally:
            self._free.release()

    def _state(self) -> bytes:
        return _NOT_SERVING if self._ending.is_set() else _SERVING


def _service(request: bytes, context: Any) -> str:
    try:
        return str(ModelSpec.FromString(request).name)
    except DecodeError:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "expected a grpc.health.v1.HealthCheckRequest")
        raise
