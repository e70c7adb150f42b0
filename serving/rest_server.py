"""HTTP by uvicorn: an event loop reads and writes, so that slow clients hold no threads; a WSGI application answers.

The application runs in as many threads as it is given; for requests that are answered at once, quicker than a thread
would be woken, it runs in the loop itself.
"""

from __future__ import annotations

import asyncio
import io
import logging
import socket
import ssl
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from keraship.errors import ServerError

_LOG = logging.getLogger(__name__)

_BACKLOG = 1024
_IDLE_SECONDS = 60  # how long a connection may be silent, between requests or within one
_SENDING_SECONDS = 5  # how long the end waits for requests that are not all here; the others are answered

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class RestServer:
    """A WSGI application on a port, over IPv6 and IPv4, or IPv4 alone where that is all; answers from `start` on.

    tls: without it, plain HTTP. Raises ServerError where the port cannot be had.
    """

    def __init__(self, app: Application, port: int, *, threads: int, tls: ssl.SSLContext | None = None) -> None:
        self._socket = _listen(port)
        self._pool = ThreadPoolExecutor(threads, "rest")
        self._app = _Asgi(app, self._pool)
        config = uvicorn.Config(
            self._app, http=_Protocol, ws="none", lifespan="off", log_config=None, access_log=False,
            server_header=False, timeout_keep_alive=_IDLE_SECONDS, backlog=_BACKLOG, proxy_headers=False,
        )  # fmt: skip
        config.load()
        config.ssl = tls
        self._server = uvicorn.Server(config)
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # what strangers send is not the log's affair
        self._thread = threading.Thread(target=self._run, name="rest", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more requests and wait for those under way; one that is still being sent has a few seconds."""
        self._app.stop()
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join()
        self._pool.shutdown()
        self._socket.close()

    def _run(self) -> None:
        self._server.run(sockets=[self._socket])


class _Protocol(HttpToolsProtocol):
    """Hands on a request's target as it was sent, whatever it is; uvicorn would take it apart, and refuse some.

    A connection that does not send a request's head in time is closed, which uvicorn leaves open.
    """

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._wait_for_head()

    def on_headers_complete(self) -> None:
        self._head_is_here()
        self.scope["target"] = self.url.decode("latin-1")  # type: ignore[typeddict-unknown-key]
        self.url = b"/"
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_here()
        super().connection_lost(exc)

    def _wait_for_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(_IDLE_SECONDS, self.transport.close)

    def _head_is_here(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class _Gone(Exception):  # noqa: N818 - nobody is told
    """The client left, or is too slow."""


class _Asgi:
    """A WSGI application as an ASGI one."""

    def __init__(self, app: Application, pool: ThreadPoolExecutor) -> None:
        self._app = app
        self._pool = pool
        self._times = _Times()
        self._readers: set[asyncio.Task[Any]] = set()  # those whose bodies are not all here
        self._loop: asyncio.AbstractEventLoop | None = None

    def stop(self) -> None:
        """Wait for bodies that are being sent a little longer, and no more."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.call_later, _SENDING_SECONDS, self._give_up)

    def _give_up(self) -> None:
        for reader in self._readers:
            reader.cancel()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        try:
            body = await self._read(receive)
        except _Gone:
            await _refuse_slow(send)
            return
        environ = _environ(scope, body)
        answer = await self._answer(environ, len(body))
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, environ: dict[str, Any], size: int) -> _Answer:
        key = environ["REQUEST_METHOD"], environ["REQUEST_URI"]
        if size <= _SMALL and self._times.is_quick(key):
            return self._timed(environ, key)
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._timed, environ, key)

    def _timed(self, environ: dict[str, Any], key: tuple[str, str]) -> _Answer:
        begin = time.perf_counter()
        answer = _call(self._app, environ)
        self._times.add(key, time.perf_counter() - begin)
        return answer

    async def _read(self, receive: Receive) -> bytes:
        self._loop = asyncio.get_running_loop()
        reader = asyncio.current_task()
        if reader is None:
            raise RuntimeError("requests are read in tasks")
        self._readers.add(reader)
        try:
            parts = [part async for part in _parts(self._loop, reader, receive)]
        except asyncio.CancelledError as error:  # by the timer, or by the end
            raise _Gone from error
        finally:
            self._readers.discard(reader)
        return parts[0] if len(parts) == 1 else b"".join(parts)


async def _parts(loop: asyncio.AbstractEventLoop, reader: asyncio.Task[Any], receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        timer = loop.call_later(_IDLE_SECONDS, reader.cancel)
        try:
            message = await receive()
        finally:
            timer.cancel()
        if message["type"] == "http.disconnect":
            raise _Gone
        yield message.get("body", b"")
        more = message.get("more_body", False)


_SMALL = 2**16  # bytes of a body that is not much work


class _Times:
    """How long requests took lately, by method and target; only those that are always quick are called so."""

    _QUICK_SECONDS = 500e-6
    _SLOW_SECONDS = 0.02
    _MANY = 1000

    def __init__(self) -> None:
        self._seconds: OrderedDict[tuple[str, str], float] = OrderedDict()

    def is_quick(self, key: tuple[str, str]) -> bool:
        return self._seconds.get(key, 1.0) < self._QUICK_SECONDS

    def add(self, key: tuple[str, str], seconds: float) -> None:
        """One that is slow by far counts at once, others by and by."""
        old = self._seconds.get(key, seconds)
        self._seconds[key] = seconds if seconds > self._SLOW_SECONDS else old + (seconds - old) * 0.2
        if len(self._seconds) > self._MANY:
            self._seconds.popitem(last=False)


@dataclass
class _Answer:
    """What an application said."""

    status: int = 500
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""


def _call(app: Application, environ: dict[str, Any]) -> _Answer:
    answer = _Answer()

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:  # noqa: ARG001 - PEP 3333's
        answer.status = int(status.split(" ", 1)[0])
        answer.headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]

    parts = app(environ, start_response)
    try:
        answer.body = b"".join(parts)
    finally:
        close = getattr(parts, "close", None)
        if close is not None:
            close()
    return answer


def _environ(scope: MutableMapping[str, Any], body: bytes) -> dict[str, Any]:
    """A WSGI environment (PEP 3333), and REQUEST_URI: the target as it was sent."""
    target = scope["target"]
    path, _, query = target.partition("?")
    environ = {
        "REQUEST_METHOD": scope["method"], "REQUEST_URI": target, "SCRIPT_NAME": "", "PATH_INFO": path,
        "QUERY_STRING": query, "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}", "SERVER_NAME": "localhost",
        "SERVER_PORT": str((scope.get("server") or ("", 0))[1]), "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"], "wsgi.input": io.BytesIO(body), "wsgi.errors": sys.stderr,
        "wsgi.multithread": True, "wsgi.multiprocess": False, "wsgi.run_once": False,
    }  # fmt: skip
    for name, value in scope["headers"]:
        key = _header_key(name)
        text = value.decode("latin-1")
        environ[key] = f"{environ[key]},{text}" if key in environ else text
    environ["CONTENT_LENGTH"] = str(len(body))
    return environ


def _header_key(name: bytes) -> str:
    key = name.decode("latin-1").upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"


async def _refuse_slow(send: Send) -> None:
    headers = [(b"content-length", b"0"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 408, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def _listen(port: int) -> socket.socket:
    both = socket.has_dualstack_ipv6() and _has_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        return socket.create_server(
            ("::" if both else "0.0.0.0", port),  # noqa: S104 - a server is there to be reached
            family=family, backlog=_BACKLOG, dualstack_ipv6=both,
        )  # fmt: skip
    except OSError as error:
        raise ServerError(
            f"cannot serve REST at port {port}: is another server listening there? Choose another one"
        ) from error


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True
