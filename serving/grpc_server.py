"""gRPC by grpcio: the one file of the serving that knows grpc."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its C core would say in its own way what we say in one sentence
import grpc

from keraship.errors import ServerError, StatusError
from keraship.serving.grpc_health import HealthHandler
from keraship.serving.grpc_methods import GrpcMethods
from keraship.serving.status import CODES, grpc_details
from keraship.wire.messages import METHODS

_ENDLESS_SECONDS = 1e6
_CODES = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True)
class GrpcTls:
    """PEM, as bytes. custom_ca: who signs clients' certificates, which are asked for with client_verify."""

    server_key: bytes
    server_cert: bytes
    custom_ca: bytes = b""
    client_verify: bool = False


@dataclass(frozen=True)
class GrpcServerOptions:
    """Where and how to listen.

    port: on all of IPv4; 0 for none. socket_path: a unix socket too. threads: how many calls run at once.
    channel_arguments: gRPC's own, over ours. health: whether grpc.health.v1.Health is there.
    tls: without it, plain text.
    """

    port: int = 8500
    socket_path: str = ""
    threads: int = 8
    channel_arguments: Mapping[str, int | str] = field(default_factory=dict)
    health: bool = False
    tls: GrpcTls | None = None


class GrpcServer:
    """A grpcio server in front of the methods; listens once made, answers from `start` on.

    Raises ServerError where an address cannot be had.
    """

    def __init__(self, methods: GrpcMethods, options: GrpcServerOptions) -> None:
        self._health = HealthHandler(options.threads // 4) if options.health else None
        self._server = grpc.server(
            ThreadPoolExecutor(options.threads, "grpc"),
            handlers=(_Handler(methods), *([self._health] if self._health else [])),
            options=_channel_arguments(options.channel_arguments),
        )
        self._credentials = _credentials(options.tls) if options.tls else None
        if options.port:
            self._listen(f"0.0.0.0:{options.port}")
        if options.socket_path:
            self._listen(f"unix:{options.socket_path}")

    def start(self) -> None:
        """Begin to answer."""
        self._server.start()

    def stop(self, grace: float) -> Callable[[], Any]:
        """Take no more calls; returns at once, with a function that waits for those under way, `grace` seconds."""
        if self._health:
            self._health.end()
        stopped = self._server.stop(grace)
        wait: Callable[[], Any] = stopped.wait
        return wait

    def _listen(self, address: str) -> None:
        try:
            bound = (
                self._server.add_secure_port(address, self._credentials)
                if self._credentials
                else self._server.add_insecure_port(address)
            )
        except RuntimeError as error:
            raise _cannot_listen(address) from error
        if not bound:  # grpcio before 1.60 returned 0 instead
            raise _cannot_listen(address)


class _Handler(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc ships no types
    """Every method of TensorFlow Serving's API; for others None, which grpcio answers with UNIMPLEMENTED."""

    def __init__(self, methods: GrpcMethods) -> None:
        self._methods = methods

    def service(self, handler_call_details: Any) -> Any:
        method = handler_call_details.method
        if method not in METHODS:
            return None

        def answer(request: bytes, context: Any) -> bytes:
            if not context.is_active():  # the caller left while the call waited for a thread
                return b""
            try:
                return self._methods.unary(
                    method, request, metadata=context.invocation_metadata(), deadline=_seconds_left(context)
                )
            except StatusError as error:
                context.set_code(_CODES[CODES[error.code].number])
                context.set_details(grpc_details(error.details))
                return b""

        return grpc.unary_unary_rpc_method_handler(answer)


def _credentials(tls: GrpcTls) -> Any:
    return grpc.ssl_server_credentials(
        [(tls.server_key, tls.server_cert)], tls.custom_ca or None, require_client_auth=tls.client_verify
    )


def _seconds_left(context: Any) -> float | None:
    """Until the call's deadline; None where it has none: gRPC says so by one in centuries, for which no clock waits."""
    seconds: float | None = context.time_remaining()
    return None if seconds is None or seconds > _ENDLESS_SECONDS else seconds


def _channel_arguments(given: Mapping[str, int | str]) -> list[tuple[str, int | str]]:
    arguments: dict[str, int | str] = {
        "grpc.so_reuseport": 0,  # or a second server on the port would start, and get half of the calls
        "grpc.max_receive_message_length": -1,
        "grpc.max_send_message_length": -1,
    }
    return list((arguments | dict(given)).items())


def _cannot_listen(address: str) -> ServerError:
    return ServerError(f"cannot serve gRPC at {address}: is another server listening there? Choose another one")
