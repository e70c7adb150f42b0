"""gRPC connections for asyncio: one to each server in each event loop, made when first used and kept."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import grpc

from keraship.client.address import Address
from keraship.client.channel import CLOSED, COMPRESSIONS, channel_options, credentials
from keraship.client.failures import failure, grpc_failure
from keraship.client.options import Options
from keraship.client.race import GOES_ON
from keraship.client.steps import Attempt, Race
from keraship.errors import StatusError

_Methods = dict[tuple[int, str], Any]


class AioGrpcTransport:
    """Connections of the running loop: gRPC's belong to the loop, and to the process, that they were made in."""

    def __init__(self, addresses: Sequence[Address], options: Options) -> None:
        self._addresses = addresses
        self._options = options
        self._compression = COMPRESSIONS[options.compression]
        self._by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, _Channels] = WeakKeyDictionary()
        self._closed = False

    async def send(self, attempt: Attempt) -> bytes:
        """The answer; raises the StatusError of its code, and ValueError once the client is closed."""
        call = self._channels().method(attempt.server, attempt.call.method)
        try:
            answer: bytes = await call(
                attempt.call.body,
                timeout=attempt.timeout,
                metadata=self._options.metadata(attempt.headers),
                compression=self._compression,
            )
        except grpc.RpcError as error:
            raise self._failure(error, attempt) from error
        except asyncio.CancelledError:
            if self._closed and not _is_cancelled():
                raise self._failure(None, attempt) from None
            raise
        return answer

    async def race(self, race: Race) -> bytes:
        """The first answer of several servers."""
        return await async_race(race, self.send)

    async def close(self) -> None:
        """Close this loop's connections; calls that are under way end as Cancelled."""
        self._closed = True
        channels = self._by_loop.pop(asyncio.get_running_loop(), None)
        if channels is not None and channels.pid == os.getpid():
            await channels.close()

    def _failure(self, error: Any, attempt: Attempt) -> StatusError:
        address, method = self._addresses[attempt.server].text, attempt.call.method
        if self._closed:
            return failure("CANCELLED", "the client was closed", address=address, method=method)
        return grpc_failure(error, address=address, method=method)

    def _channels(self) -> _Channels:
        if self._closed:
            raise ValueError(CLOSED)
        loop = asyncio.get_running_loop()
        channels = self._by_loop.get(loop)
        if channels is None or channels.pid != os.getpid():
            channels = self._by_loop[loop] = _Channels(self._addresses, self._options)
        return channels


async def async_race(race: Race, send: Any) -> bytes:
    """The first answer; the others are cancelled. Raises the last failure where all fail."""
    waiting = list(race.attempts)
    running: set[asyncio.Task[bytes]] = set()
    try:
        while True:
            if waiting:
                running.add(asyncio.ensure_future(send(waiting.pop(0))))
            done, _ = await asyncio.wait(
                running, timeout=race.delay if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            running -= done
            for task in done:
                error = task.exception()
                if error is None:
                    return task.result()
                if isinstance(error, StatusError):
                    error.attempts = len(race.attempts) - len(waiting)
                if not isinstance(error, GOES_ON) or not (running or waiting):
                    raise error
    finally:
        for task in running:
            task.cancel()


def _is_cancelled() -> bool:
    """Whether the task itself was cancelled, which Python tells since 3.11."""
    task = asyncio.current_task()
    cancelling = getattr(task, "cancelling", None)
    return bool(cancelling is None or cancelling())


class _Channels:
    """One loop's connections, and the methods that were called on them."""

    def __init__(self, addresses: Sequence[Address], options: Options) -> None:
        self.pid = os.getpid()
        self._addresses = addresses
        self._options = options
        self._channels: dict[int, Any] = {}
        self._methods: _Methods = {}

    def method(self, server: int, name: str) -> Any:
        method = self._methods.get((server, name))
        if method is None:
            if server not in self._channels:
                self._channels[server] = self._open(self._addresses[server])
            method = self._methods[server, name] = self._channels[server].unary_unary(name)
        return method

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close()

    def _open(self, address: Address) -> Any:
        tls, interceptors = self._options.tls, list(self._options.interceptors)
        options = channel_options(address, tls)
        if tls is None:
            return grpc.aio.insecure_channel(address.target, options=options, interceptors=interceptors)
        return grpc.aio.secure_channel(address.target, credentials(tls), options=options, interceptors=interceptors)
