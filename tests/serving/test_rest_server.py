"""HTTP as such: what slow and silent clients cost, and what the end does to them."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import Any

import pytest

from keraship.serving import rest_server
from keraship.serving.rest_server import RestServer


def echo(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Says how long the body was, and what the target."""
    body = environ["wsgi.input"].read()
    if environ["REQUEST_URI"] == "/slow":
        time.sleep(0.5)
    text = f"{len(body)} {environ['REQUEST_METHOD']} {environ['REQUEST_URI']}".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))])
    return [text]


@pytest.fixture
def port(free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A server with two threads, whose patience is short."""
    monkeypatch.setattr(rest_server, "_IDLE_SECONDS", 1)
    monkeypatch.setattr(rest_server, "_SENDING_SECONDS", 0.2)
    number = free_port()
    server = RestServer(echo, number, threads=2)
    server.start()
    yield number
    server.stop()


def ask(port: int, target: str = "/x", body: bytes = b"") -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with closing(connection):
        connection.request("POST", target, body)
        return connection.getresponse().read().decode()


@pytest.mark.parametrize("target", ["/v1/models/a?b=c#d", "//a", "/%2F", "/a b".replace(" ", "%20")])
def test_the_target_is_handed_on_as_it_was_sent(port: int, target: str) -> None:
    assert ask(port, target) == f"0 POST {target}"


def test_many_halves_of_requests_hold_nobody_up(port: int) -> None:
    """Twenty clients for two threads: heads that do not end, bodies that do not come."""
    halves = [b"POST /x HTTP/1.1\r\nHost: a\r\n", b"POST /x HTTP/1.1\r\nContent-Length: 9\r\n\r\nab", b""]
    slow = [socket.create_connection(("127.0.0.1", port), 20) for _ in range(20)]
    for index, each in enumerate(slow):
        each.sendall(halves[index % 3])
    assert ask(port, body=b"abc") == "3 POST /x"
    for index, each in enumerate(slow):
        answer = each.recv(1000)
        assert answer == b"" or (index % 3 == 1 and answer.startswith(b"HTTP/1.1 408 ")), answer
        each.close()


def test_large_bodies_and_kept_connections(port: int) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        for size in (0, 1, 20_000_000, 5):
            connection.request("POST", "/x", bytes(size))
            assert connection.getresponse().read().decode() == f"{size} POST /x"


def test_the_end_waits_for_answers_and_not_for_halves(free_port: Callable[[], int], monkeypatch: Any) -> None:
    monkeypatch.setattr(rest_server, "_SENDING_SECONDS", 0.2)
    number = free_port()
    server = RestServer(echo, number, threads=2)
    server.start()
    half = socket.create_connection(("127.0.0.1", number), 20)
    half.sendall(b"POST /x HTTP/1.1\r\nContent-Length: 9\r\n\r\nab")
    answers: list[str] = []
    asking = threading.Thread(target=lambda: answers.append(ask(number, "/slow")))
    asking.start()
    time.sleep(0.2)
    server.stop()
    asking.join()
    assert answers == ["0 POST /slow"]
    half.close()
