"""Addresses, and servers that are not what they were taken for."""

from __future__ import annotations

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from keraship import errors
from keraship.client import Client
from keraship.client.address import Address, parse_address


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("localhost:8500", "localhost:8500"),
        ("my-host.example:1", "my-host.example:1"),
        ("[::1]:8500", "[::1]:8500"),
        ("grpc://host:8500", "host:8500"),
        ("grpc://host:8500/", "host:8500"),
        ("unix:/run/s.sock", "unix:/run/s.sock"),
        ("unix:///run/s.sock", "unix:/run/s.sock"),
        ("unix:s.sock", "unix:s.sock"),
    ],
)
def test_addresses_are_read(text: str, target: str) -> None:
    """Each form that people write, as gRPC writes it."""
    assert parse_address(text) == Address(text, target)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("grpcs://host:443", Address("grpcs://host:443", "host:443", tls=True)),
        ("http://host:8501", Address("http://host:8501", "host:8501", "rest")),
        ("http://host", Address("http://host", "host:80", "rest")),
        ("https://host/a/b/", Address("https://host/a/b/", "host:443", "rest", True, "/a/b")),
        ("http://[::1]:8501", Address("http://[::1]:8501", "[::1]:8501", "rest")),
    ],
)
def test_urls_say_how_a_server_is_reached(text: str, address: Address) -> None:
    """The protocol, TLS, and a path that a gateway wants first."""
    assert parse_address(text) == address


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("localhost", "as in localhost:8500"),
        ("grpc://models.example", "as in models.example:8500"),
        ("[::1]", "as in [::1]:8500"),
        ("::1", "as in localhost:8500"),
        ("localhost:", "as in localhost:8500"),
        ("localhost:99999", "as in localhost:8500"),
        (":8500", "as in localhost:8500"),
        ("", "with a port"),
        ("host:8500/model", "with a port"),
        ("two words:8500", "with a port"),
        ("unix:", "path of a socket"),
        ("unix://host/path", "path of a socket"),
        ("http://", "with a port"),
        ("http://h:8501/v1/models/m", "alone, as in http://h:8501, and the model's name beside it"),
        ("a:1,http://b:2", "reached in one way"),
    ],
)
def test_what_is_no_address_is_refused_at_once(text: str, says: str) -> None:
    """With what to write instead."""
    with pytest.raises(ValueError, match=re.escape(says)):
        Client(text)


def test_a_rest_port_is_recognized() -> None:
    """HTTP/1 on the other side gives itself away."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        says = "does not speak gRPC: is that the REST port"
        with Client(f"127.0.0.1:{server.server_port}", "m") as client, pytest.raises(errors.Unavailable, match=says):
            client.status(timeout=20)
        server.shutdown()


def test_an_unknown_host_is_named() -> None:
    """A name that nobody has is another mistake than a server that is down."""
    says = r"no host is known by the name in no-such-host\.invalid:8500"
    with Client("no-such-host.invalid:8500", "m") as client, pytest.raises(errors.Unavailable, match=says):
        client.status(timeout=20)
