"""HTTP connections: kept open, shared by threads, and never waited for longer than a call may take."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import io
import json
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from keraship.client.address import Address
from keraship.client.aio_channel import async_race
from keraship.client.channel import CLOSED
from keraship.client.failures import failure
from keraship.client.options import Options, Tls
from keraship.client.race import run_race
from keraship.client.steps import Attempt, Race
from keraship.errors import BY_CODE, StatusError

CODES = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED", 409: "ABORTED", 413: "RESOURCE_EXHAUSTED", 429: "RESOURCE_EXHAUSTED", 499: "CANCELLED",
    500: "INTERNAL", 501: "UNIMPLEMENTED", 502: "UNAVAILABLE", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED",
}  # fmt: skip
"""The code that an HTTP status stands for; where TensorFlow Serving has one status for several, the likeliest."""

_IDLE_CONNECTIONS = 64
_CHUNK = 2**20


class RestTransport:
    """Connections to each server, as many as calls are under way; each process has its own."""

    def __init__(self, addresses: Sequence[Address], options: Options) -> None:
        if options.compression == "deflate":
            raise ValueError("expected a compression of 'gzip' over REST; TensorFlow Serving reads no 'deflate' there")
        self._addresses = addresses
        self._options = options
        self._context = _ssl_context(options.tls) if options.tls else None
        self._idle: dict[tuple[int, int], deque[_Connection]] = {}
        self._busy: set[_Connection] = set()
        self._closed = False

    def send(self, attempt: Attempt, token: _Token | None = None) -> bytes:
        """The answer's body; raises the StatusError of its status, and ValueError once the client is closed."""
        if self._closed:
            raise ValueError(CLOSED)
        end = None if attempt.timeout is None else time.monotonic() + attempt.timeout
        token = token or _Token()
        while True:
            connection, is_used = self._take(attempt.server)
            self._busy.add(connection)
            try:
                token.attach(connection)
                status, body = connection.ask(attempt, end, self._headers(attempt), self._body(attempt))
            except _STALE as error:
                connection.close()
                if is_used and connection.is_unanswered and not (self._closed or token.is_cancelled):
                    continue  # a connection that the server had closed while nobody used it
                raise self._failure(attempt, error, token) from error
            except (OSError, http.client.HTTPException, ValueError) as error:
                connection.close()
                raise self._failure(attempt, error, token) from error
            except BaseException:
                connection.close()
                raise
            finally:
                self._busy.discard(connection)
            self._give_back(attempt.server, connection)
            if status != 200:
                raise self._refusal(attempt, status, body)
            return body

    def race(self, race: Race) -> bytes:
        """The first answer of several servers."""
        return run_race(race, self._start)

    def close(self) -> None:
        """Close the connections; calls that are under way end as Cancelled."""
        self._closed = True
        for connection in list(self._busy):
            connection.abort()
        for (pid, _), idle in list(self._idle.items()):
            while idle and pid == os.getpid():
                idle.pop().close()

    def _start(self, attempt: Attempt) -> _Started:
        return _Started(self, attempt)

    def _take(self, server: int) -> tuple[_Connection, bool]:
        idle = self._idle.setdefault((os.getpid(), server), deque())
        try:
            return idle.pop(), True
        except IndexError:
            return _Connection(self._addresses[server], self._context, self._options.tls), False

    def _give_back(self, server: int, connection: _Connection) -> None:
        idle = self._idle.setdefault((os.getpid(), server), deque())
        if connection.is_open and len(idle) < _IDLE_CONNECTIONS and not self._closed:
            idle.append(connection)
        else:
            connection.close()

    def _headers(self, attempt: Attempt) -> dict[str, str]:
        headers = {"content-type": "application/json"} if attempt.call.body else {}
        if self._options.compression and attempt.call.body:
            headers["content-encoding"] = self._options.compression
        return headers | dict(self._options.metadata(attempt.headers) or ())

    def _body(self, attempt: Attempt) -> bytes:
        return gzip.compress(attempt.call.body, 1) if self._options.compression else attempt.call.body

    def _failure(self, attempt: Attempt, error: BaseException, token: _Token) -> StatusError:
        code, details = "UNAVAILABLE", _details(error)
        if self._closed or token.is_cancelled:
            code, details = "CANCELLED", "the client was closed" if self._closed else "cancelled"
        elif isinstance(error, TimeoutError):
            code, details = "DEADLINE_EXCEEDED", f"no answer within {attempt.timeout or 0:g} s"
        address = self._addresses[attempt.server].text
        return failure(code, details, address=address, method=attempt.call.method, protocol="REST")

    def _refusal(self, attempt: Attempt, status: int, body: bytes) -> StatusError:
        code = CODES.get(status, "INTERNAL" if status >= 500 else "UNKNOWN")
        details = _error_text(body) or f"HTTP status {status}"
        address = self._addresses[attempt.server].text
        message = f"{address} answered {attempt.call.name} with {code}: {details}"
        return BY_CODE[code](details, attempts=1, message=message)


class AioRestTransport:
    """The same for asyncio: each call waits in a thread of its own."""

    _THREADS = 64

    def __init__(self, addresses: Sequence[Address], options: Options) -> None:
        self._transport = RestTransport(addresses, options)
        self._pools: dict[int, ThreadPoolExecutor] = {}

    async def send(self, attempt: Attempt) -> bytes:
        """As RestTransport.send; where the task is cancelled, the connection is closed."""
        token = _Token()
        pool = self._pools.setdefault(os.getpid(), ThreadPoolExecutor(self._THREADS, "keraship-rest"))
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, self._transport.send, attempt, token)
        except asyncio.CancelledError:
            token.cancel()
            raise

    async def race(self, race: Race) -> bytes:
        """The first answer of several servers."""
        return await async_race(race, self.send)

    async def close(self) -> None:
        """Close the connections; calls that are under way end as Cancelled."""
        self._transport.close()
        for pool in self._pools.values():
            pool.shutdown(wait=False)


class _Token:
    """What ends a call from outside."""

    def __init__(self) -> None:
        self.is_cancelled = False
        self._connection: _Connection | None = None

    def attach(self, connection: _Connection) -> None:
        self._connection = connection

    def cancel(self) -> None:
        self.is_cancelled = True
        if self._connection is not None:
            self._connection.abort()


class _Started:
    """A call that is under way, in a thread."""

    def __init__(self, transport: RestTransport, attempt: Attempt) -> None:
        self._token = _Token()
        self._future: Future[bytes] = Future()
        self._transport, self._attempt = transport, attempt
        threading.Thread(target=self._work, daemon=True, name="keraship-rest").start()

    def add_done_callback(self, callback: Any) -> None:
        self._future.add_done_callback(lambda _future: callback(self))

    def cancel(self) -> None:
        self._token.cancel()

    def result(self) -> bytes:
        return self._future.result()

    def _work(self) -> None:
        try:
            self._future.set_result(self._transport.send(self._attempt, self._token))
        except BaseException as error:  # handed to whoever waits for the answer
            self._future.set_exception(error)


class _Connection(http.client.HTTPConnection):
    """A connection each of whose waits ends when the call's time does; http.client's own limit is for each wait."""

    def __init__(self, address: Address, context: Any, tls: Tls | None) -> None:
        super().__init__(address.host, address.port)
        self._address = address
        self._context = context
        self._server_name = tls.server_name if tls and tls.server_name else address.host
        self._socket: socket.socket | None = None
        self._end: float | None = None
        self.is_unanswered = True

    def ask(self, attempt: Attempt, end: float | None, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        """The status and the body of the answer; end: the moment of time.monotonic at which to give up."""
        self._end = end
        self.is_unanswered = True
        self.request(attempt.call.verb, self._address.prefix + attempt.call.path, body or None, headers)
        response = self.getresponse()
        self.is_unanswered = False
        data = response.read()
        if response.will_close:
            self.close()
        return response.status, data

    @property
    def is_open(self) -> bool:
        return self.sock is not None

    def abort(self) -> None:
        """End what waits on it, from another thread."""
        if self._socket is not None:
            try:
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # it is closed, which is what was wanted

    def left(self) -> float | None:
        """Seconds that a wait may take; raises TimeoutError where the time is over."""
        if self._end is None:
            return None
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left

    def connect(self) -> None:
        plain = self._connected()
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = plain
        if self._context is not None:
            try:
                plain.settimeout(self.left())
                self._socket = self._context.wrap_socket(plain, server_hostname=self._server_name)
            except OSError:
                plain.close()
                raise
        self.sock = _Timed(self._socket, self)

    def _connected(self) -> socket.socket:
        failed: OSError | None = None
        for family, kind, protocol, _, where in socket.getaddrinfo(self.host, self.port, 0, socket.SOCK_STREAM):
            one = socket.socket(family, kind, protocol)
            try:
                one.settimeout(self.left())
                one.connect(where)
            except OSError as error:
                one.close()
                failed = error
            else:
                return one
        raise failed or OSError(f"no host is known by the name {self.host}")


class _Timed(io.RawIOBase):
    """A socket, as http.client uses one, whose every wait is within the call's time."""

    def __init__(self, inner: socket.socket, connection: _Connection) -> None:
        super().__init__()
        self._inner, self._connection = inner, connection

    def sendall(self, data: Any) -> None:
        view = memoryview(data).cast("B")
        for start in range(0, len(view), _CHUNK):
            self._inner.settimeout(self._connection.left())
            self._inner.sendall(view[start : start + _CHUNK])

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self._inner, self._connection), _CHUNK // 8)

    def close(self) -> None:
        self._inner.close()
        super().close()


class _Reader(io.RawIOBase):
    """What comes from the socket; closing it leaves the socket open, for the next answer."""

    def __init__(self, inner: socket.socket, connection: _Connection) -> None:
        super().__init__()
        self._inner, self._connection = inner, connection

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._inner.settimeout(self._connection.left())
        return self._inner.recv_into(buffer)


_STALE = (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError, ConnectionAbortedError)


def _details(error: BaseException) -> str:
    if isinstance(error, http.client.HTTPException) and not isinstance(error, http.client.RemoteDisconnected):
        return f"the server closed the connection within its answer, or does not speak HTTP ({error!r})"
    if isinstance(error, http.client.RemoteDisconnected):
        return "the server closed the connection without an answer"
    return getattr(error, "strerror", None) or str(error) or repr(error)


def _error_text(body: bytes) -> str:
    """TensorFlow Serving's own words, or the start of what a gateway said."""
    text = body.decode(errors="replace")
    try:
        error = json.loads(text)["error"]
    except (ValueError, KeyError, TypeError):
        return " ".join(text.split())[:200]
    return str(error)


def _ssl_context(tls: Tls) -> Any:
    import ssl

    context = ssl.create_default_context(cafile=None if tls.ca is None else str(tls.ca))
    if tls.cert is not None:
        context.load_cert_chain(str(tls.cert), None if tls.key is None else str(tls.key))
    return context
