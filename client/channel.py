"""One gRPC connection: an address, bytes to a method and back, and what went wrong in words that help."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc

from keraship.errors import BY_CODE

GRPC_PORT = 8500
"""TensorFlow Serving's port for gRPC; 8501 is its port for REST."""

_OPTIONS = (
    # A batch of images is larger than gRPC's 4 MB, and the server decides what is too large.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # Only while a call waits, and just slower than the five minutes below which servers hang up on pings.
    ("grpc.keepalive_time_ms", 310_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # A server that restarts is found again within seconds; gRPC's own pauses grow to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Connections of its own: closed with the client, and never those of the process that this one was forked from.
    ("grpc.use_local_subchannel_pool", 1),
)

_LOOPBACK = re.compile(r"localhost|127(\.\d+){3}|\[::1\]")
_HOST = re.compile(r"\[[0-9A-Fa-f:.%]+\]|[^\s:/\[\]]+")
_HOST_PORT = re.compile(rf"(?:{_HOST.pattern}):(?P<port>[0-9]{{1,5}})")

# What gRPC reports, and what it means to someone who wants a prediction. The first that is found says it.
_UNREACHABLE = (
    (
        r"Failed parsing HTTP/2|http1\.x server",
        "what answers at {address} does not speak gRPC: is that the REST port? Servers usually have gRPC on port 8500",
    ),
    (
        r"Connection refused|No such file or directory|Connection reset|Socket closed|[Nn]etwork is unreachable"
        r"|No route to host|failed to connect",
        "no server answers at {address} ({reason}): is it running, and is this its gRPC port (usually 8500)?",
    ),
    (
        r"errors resolving|DNS resolution failed|[Nn]ame resolution",
        "expected the address of a server; no host is known by the name in {address}",
    ),
)
_REASONS = re.compile(
    r"Connection refused|No such file or directory|Connection reset|Socket closed|[Nn]etwork is unreachable"
    r"|No route to host"
)


@dataclass(frozen=True)
class Address:
    """Where a server is. text: as people write it. target: as gRPC does."""

    text: str
    target: str

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine, where no proxy leads."""
        return self.target.startswith("unix:") or _LOOPBACK.match(self.target) is not None


def parse_address(text: str) -> Address:
    """The address in `host:port`, `[::1]:port`, `grpc://host:port` or `unix:/path`; raises ValueError for others."""
    if text.startswith("unix:"):
        return _socket(text)
    if text.startswith(("http://", "https://")):
        host = re.split(r"[/:]", text.partition("://")[2])[0] or "localhost"
        raise ValueError(
            f"expected the address of a gRPC server; got {text!r}: this client speaks gRPC, "
            f"usually on port {GRPC_PORT}: {host}:{GRPC_PORT}"
        )
    bare = text.removeprefix("grpc://").removesuffix("/")
    match = _HOST_PORT.fullmatch(bare)
    if match and 0 < int(match["port"]) < 65536:
        return Address(text, bare)
    host = bare if _HOST.fullmatch(bare) else "localhost"
    raise ValueError(f"expected an address with a port, as in {host}:{GRPC_PORT} or unix:/path; got {text!r}")


def _socket(text: str) -> Address:
    path = text.removeprefix("unix:")
    if path.startswith("//"):  # the form with an authority, which is empty
        path = path.removeprefix("//") if path.startswith("///") else ""
    if not path.strip("/"):
        raise ValueError(f"expected the path of a socket, as in unix:/run/server.sock; got {text!r}")
    return Address(text, f"unix:{path}")


class Channel:
    """A connection that is made when first used and kept; one for each process, since gRPC's do not survive a fork."""

    def __init__(self, address: str) -> None:
        self._address = parse_address(address)
        self._by_process: dict[int, grpc.Channel] = {}
        self._closed = False

    def call(self, method: str, request: bytes, *, timeout: float | None) -> bytes:
        """The answer to one call; timeout in seconds, None for no limit.

        Raises the StatusError of the answer's code, and ValueError once the channel is closed.
        """
        call = self._channel().unary_unary(method)
        try:
            answer: bytes = call(request, timeout=timeout)
        except grpc.RpcError as error:
            self._fail(error, method)
        return answer

    def close(self) -> None:
        """Close this process's connection; calls that are under way end as Cancelled."""
        self._closed = True
        channel = self._by_process.pop(os.getpid(), None)
        if channel is not None:
            channel.close()

    def _channel(self) -> grpc.Channel:
        if self._closed:
            raise ValueError("expected an open client; this one is closed: make a new one")
        channel = self._by_process.get(os.getpid())
        return self._open() if channel is None else channel

    def _open(self) -> grpc.Channel:
        """Without a lock, which a fork would copy in whatever state it is: of two threads, one's channel is kept."""
        options = (*_OPTIONS, ("grpc.enable_http_proxy", 0)) if self._address.is_local else _OPTIONS
        mine = grpc.insecure_channel(self._address.target, options=options)
        kept = self._by_process.setdefault(os.getpid(), mine)
        if kept is not mine:
            mine.close()
        return kept

    def _fail(self, error: Any, method: str) -> NoReturn:
        code, details = error.code().name, error.details() or ""
        raise BY_CODE[code](details, attempts=1, message=self._explain(code, details, method)) from error

    def _explain(self, code: str, details: str, method: str) -> str:
        address = self._address.text
        if code == "UNAVAILABLE":
            for pattern, sentence in _UNREACHABLE:
                if re.search(pattern, details):
                    reason = _REASONS.search(details)
                    return sentence.format(address=address, reason=reason[0].lower() if reason else details)
        name = method.rpartition("/")[2]
        if code == "DEADLINE_EXCEEDED":
            return f"{address} did not answer {name} within the time given: {details}"
        return f"{address} answered {name} with {code}: {details}"
