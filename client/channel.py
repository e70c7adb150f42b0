"""gRPC connections for threads: one to each server, made when first used and kept."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import grpc

from keraship.client.address import Address
from keraship.client.failures import failure, grpc_failure
from keraship.client.options import Options, Tls, read_pem
from keraship.client.race import run_race
from keraship.client.steps import Attempt, Race
from keraship.errors import StatusError

_OPTIONS: tuple[tuple[str, Any], ...] = (
    # A batch of images is larger than gRPC's 4 MB, and the server decides what is too large.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # Retries are made here: gRPC's own do nothing for requests that are larger than its retry buffer, and say nothing.
    ("grpc.enable_retries", 0),
    # Only while a call waits, and just slower than the five minutes below which servers hang up on pings.
    ("grpc.keepalive_time_ms", 310_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # A server that restarts is found again within seconds; gRPC's own pauses grow to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Connections of its own: closed with the client, and never those of the process that this one was forked from.
    ("grpc.use_local_subchannel_pool", 1),
)

COMPRESSIONS = {None: None, "gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}

CLOSED = "expected an open client; this one is closed: make a new one"


def channel_options(address: Address, tls: Tls | None) -> list[tuple[str, Any]]:
    """gRPC's channel arguments."""
    options = list(_OPTIONS)
    if address.is_local:
        options.append(("grpc.enable_http_proxy", 0))
    if tls is not None and tls.server_name:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    return options


def credentials(tls: Tls) -> Any:
    """gRPC's credentials, read anew, for certificates are renewed."""
    return grpc.ssl_channel_credentials(read_pem(tls.ca), read_pem(tls.key), read_pem(tls.cert))


class GrpcTransport:
    """Connections that are made when first used; each process has its own, since gRPC's do not survive a fork."""

    def __init__(self, addresses: Sequence[Address], options: Options) -> None:
        self._addresses = addresses
        self._options = options
        self._compression = COMPRESSIONS[options.compression]
        self._by_process: dict[int, _Channels] = {}
        self._closed = False

    def send(self, attempt: Attempt) -> bytes:
        """The answer; raises the StatusError of its code, and ValueError once the client is closed."""
        call = self._channels().method(attempt.server, attempt.call.method)
        try:
            answer: bytes = call(
                attempt.call.body,
                timeout=attempt.timeout,
                metadata=self._options.metadata(attempt.headers),
                compression=self._compression,
            )
        except grpc.RpcError as error:
            raise self._failure(error, attempt) from error
        return answer

    def race(self, race: Race) -> bytes:
        """The first answer of several servers."""
        return run_race(race, self._start)

    def close(self) -> None:
        """Close this process's connections; calls that are under way end as Cancelled."""
        self._closed = True
        channels = self._by_process.pop(os.getpid(), None)
        if channels is not None:
            channels.close()

    def _start(self, attempt: Attempt) -> _Started:
        call = self._channels().method(attempt.server, attempt.call.method)
        future = call.future(
            attempt.call.body,
            timeout=attempt.timeout,
            metadata=self._options.metadata(attempt.headers),
            compression=self._compression,
        )
        return _Started(future, attempt, self)

    def _failure(self, error: Any, attempt: Attempt) -> StatusError:
        address, method = self._addresses[attempt.server].text, attempt.call.method
        if self._closed:
            return failure("CANCELLED", "the client was closed", address=address, method=method)
        return grpc_failure(error, address=address, method=method)

    def _channels(self) -> _Channels:
        if self._closed:
            raise ValueError(CLOSED)
        channels = self._by_process.get(os.getpid())
        if channels is None:
            # Without a lock, which a fork would copy in whatever state it is: of two threads, one's are kept.
            channels = self._by_process.setdefault(os.getpid(), _Channels(self._addresses, self._options))
        return channels


class _Channels:
    """One process's connections, and the methods that were called on them."""

    def __init__(self, addresses: Sequence[Address], options: Options) -> None:
        self._addresses = addresses
        self._options = options
        self._channels: dict[int, grpc.Channel] = {}
        self._methods: dict[tuple[int, str], Any] = {}

    def method(self, server: int, name: str) -> Any:
        method = self._methods.get((server, name))
        if method is None:
            method = self._methods.setdefault((server, name), self._channel(server).unary_unary(name))
        return method

    def close(self) -> None:
        for channel in list(self._channels.values()):
            channel.close()

    def _channel(self, server: int) -> grpc.Channel:
        channel = self._channels.get(server)
        if channel is not None:
            return channel
        mine = self._open(self._addresses[server])
        kept = self._channels.setdefault(server, mine)
        if kept is not mine:
            mine.close()
        if self._options.interceptors:
            kept = grpc.intercept_channel(kept, *self._options.interceptors)
        return kept

    def _open(self, address: Address) -> grpc.Channel:
        tls = self._options.tls
        options = channel_options(address, tls)
        if tls is None:
            return grpc.insecure_channel(address.target, options=options)
        return grpc.secure_channel(address.target, credentials(tls), options=options)


class _Started:
    """A call that is under way."""

    def __init__(self, future: Any, attempt: Attempt, transport: GrpcTransport) -> None:
        self._future, self._attempt, self._transport = future, attempt, transport

    def add_done_callback(self, callback: Any) -> None:
        self._future.add_done_callback(lambda _future: callback(self))

    def cancel(self) -> None:
        self._future.cancel()

    def result(self) -> bytes:
        try:
            answer: bytes = self._future.result()
        except grpc.RpcError as error:
            raise self._transport._failure(error, self._attempt) from error
        return answer
