"""HTTP by cheroot: the one file of the serving that knows cheroot."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from typing import Any

from cheroot import wsgi

from keraship.errors import ServerError

_LOG = logging.getLogger(__name__)

_BACKLOG = 1024
_IDLE_SECONDS = 60  # how long a connection may be silent, between requests or within one
_SENDING_SECONDS = 5  # how long the end waits for requests that are not all here; the others are answered


class RestServer:
    """A WSGI application on a port, over IPv6 and IPv4, or IPv4 alone where that is all; answers from `start` on.

    Raises ServerError where the port cannot be had.
    """

    def __init__(self, app: Callable[..., Any], port: int, *, threads: int) -> None:
        host = "::" if _has_ipv6() else "0.0.0.0"  # noqa: S104 - a server is there to be reached
        self._server = wsgi.Server(
            (host, port), app, numthreads=threads, request_queue_size=_BACKLOG, timeout=_IDLE_SECONDS,
            shutdown_timeout=_SENDING_SECONDS,
        )  # fmt: skip
        self._server.keep_alive_conn_limit = None  # type: ignore[assignment]  # None is "no limit", says its documentation
        self._server.error_log = _log  # type: ignore[method-assign]  # as its documentation tells to
        self._thread = threading.Thread(target=self._server.serve, name="rest", daemon=True)
        try:
            self._server.prepare()
        except OSError as error:
            raise ServerError(
                f"cannot serve REST at port {port}: is another server listening there? Choose another one"
            ) from error
        _wait_for_data(self._server.socket)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more requests and wait for those under way; one that is still being sent has a few seconds."""
        self._server.stop()
        self._thread.join()


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True


def _wait_for_data(listener: socket.socket) -> None:
    """Let the kernel keep connections on which nothing was said: each would hold a thread that could answer others."""
    if hasattr(socket, "TCP_DEFER_ACCEPT"):  # Linux has it
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, _IDLE_SECONDS)


def _log(msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:
    _LOG.log(level, "%s", msg, exc_info=traceback)
