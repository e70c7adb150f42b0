"""Where servers are, as people write it and as a transport wants it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

GRPC_PORT = 8500
REST_PORT = 8501
"""TensorFlow Serving's ports."""

_LOOPBACK = re.compile(r"localhost|127(\.\d+){3}|\[::1\]")
_HOST = re.compile(r"\[[0-9A-Fa-f:.%]+\]|[^\s:/\[\],]+")
_HOST_PORT = re.compile(rf"(?P<host>{_HOST.pattern}):(?P<port>[0-9]{{1,5}})")
_SCHEMES = {"grpc://": ("grpc", False), "grpcs://": ("grpc", True), "http://": ("rest", False),
            "https://": ("rest", True)}  # fmt: skip
_HTTP_PORTS = {"http://": 80, "https://": 443}


@dataclass(frozen=True)
class Address:
    """Where a server is.

    text: as people write it. target: as gRPC does, `host:port` or `unix:/path`. protocol: "grpc" or "rest".
    tls: whether its scheme asks for TLS. prefix: a path that stands before REST's own, as gateways have it.
    """

    text: str
    target: str
    protocol: str = "grpc"
    tls: bool = False
    prefix: str = ""

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine, where no proxy leads."""
        return self.target.startswith("unix:") or _LOOPBACK.match(self.target) is not None

    @property
    def host(self) -> str:
        return self.target.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.target.rpartition(":")[2])


def parse_addresses(given: str | Sequence[str]) -> tuple[Address, ...]:
    """The addresses in a list, or in a text with commas; raises ValueError for none, and for two protocols."""
    texts = given.split(",") if isinstance(given, str) else list(given)
    addresses = tuple(parse_address(text.strip()) for text in texts)
    if not addresses:
        raise ValueError("expected the address of a server, or of several; got none")
    if len({(address.protocol, address.tls) for address in addresses}) > 1:
        raise ValueError(f"expected servers that are reached in one way; got {', '.join(texts)}")
    return addresses


def parse_address(text: str) -> Address:
    """The address in `host:port`, `[::1]:port`, `unix:/path`, or a URL of grpc, grpcs, http or https.

    Raises ValueError for others.
    """
    if text.startswith("unix:"):
        return _socket(text)
    scheme = next((scheme for scheme in _SCHEMES if text.startswith(scheme)), "")
    protocol, tls = _SCHEMES.get(scheme, ("grpc", False))
    rest, prefix = text.removeprefix(scheme).removesuffix("/"), ""
    if protocol == "rest":
        rest, slash, path = rest.partition("/")
        prefix = slash + path
        if "/v1/models" in prefix:
            raise ValueError(
                f"expected the address of a server alone, as in {scheme}{rest}, and the model's name beside it; "
                f"got {text!r}"
            )
        if _HOST.fullmatch(rest):
            rest = f"{rest}:{_HTTP_PORTS[scheme]}"
    match = _HOST_PORT.fullmatch(rest)
    if match and 0 < int(match["port"]) < 65536:
        return Address(text, rest, protocol, tls, prefix)
    host = rest if _HOST.fullmatch(rest) else "localhost"
    raise ValueError(
        f"expected an address with a port, as in {host}:{GRPC_PORT}, http://{host}:{REST_PORT} or unix:/path; "
        f"got {text!r}"
    )


def _socket(text: str) -> Address:
    path = text.removeprefix("unix:")
    if path.startswith("//"):  # the form with an authority, which is empty
        path = path.removeprefix("//") if path.startswith("///") else ""
    if not path.strip("/"):
        raise ValueError(f"expected the path of a socket, as in unix:/run/server.sock; got {text!r}")
    return Address(text, f"unix:{path}")
