"""What an operation of the client consists of, without saying how it is done.

An operation is a generator: it yields a step (send this, wait so long), is sent what came of it, and returns a result.
Client performs the steps by blocking, AsyncClient by awaiting; everything else stands here and in core, once.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from keraship.errors import DeadlineExceeded

Result = TypeVar("Result")


class Call(NamedTuple):
    """One question to a server.

    method: gRPC's path, which also names it in errors and spans. body: the request's bytes. model: which one is asked.
    path, verb: REST's.
    """

    method: str
    body: bytes
    model: str
    path: str = ""
    verb: str = "POST"

    @property
    def name(self) -> str:
        """Such as Predict."""
        return self.method.rpartition("/")[2]


class Attempt(NamedTuple):
    """A step: send `call` to a server, by number; timeout in seconds, None for no limit. Gives the answer's bytes."""

    server: int
    call: Call
    timeout: float | None
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Race:
    """A step: send the same call to one server after another, `delay` seconds apart, until the first answer comes."""

    attempts: tuple[Attempt, ...]
    delay: float


@dataclass(frozen=True)
class Pause:
    """A step: wait."""

    seconds: float


Steps = Generator[Attempt | Race | Pause, Any, Result]


class Clock(NamedTuple):
    """A budget of seconds, and the moment at which it is spent."""

    seconds: float
    end: float

    @classmethod
    def start(cls, seconds: float) -> Clock:
        return cls(seconds, time.monotonic() + seconds)

    def left(self) -> float:
        return self.end - time.monotonic()

    def remaining(self, longest: float | None = None) -> float | None:
        """Seconds for one attempt, None for no limit; raises DeadlineExceeded where nothing is left."""
        left = self.left()
        if left <= 0:
            raise DeadlineExceeded(f"the {self.seconds:g} s that the call may take were over before it was sent")
        if longest is not None:
            return min(left, longest)
        return None if math.isinf(left) else left


class Balancer:
    """Which server is next: all in turn, save those that have just failed. Safe to use from many threads, unlocked."""

    _SHORTEST, _LONGEST = 0.1, 2.0  # seconds for which a server that failed is left alone

    def __init__(self, count: int) -> None:
        self._count = count
        self._turn = itertools.count()
        self._failures = [0] * count
        self._shunned_until = [0.0] * count

    def order(self) -> Iterator[int]:
        """All servers: the one whose turn it is first, those that have just failed last."""
        if self._count == 1:
            return iter((0,))
        first, now = next(self._turn), time.monotonic()
        turn = [(first + index) % self._count for index in range(self._count)]
        return iter(sorted(turn, key=lambda server: max(self._shunned_until[server] - now, 0.0)))

    def failed(self, server: int) -> None:
        seconds = min(self._SHORTEST * 2.0 ** min(self._failures[server], 30), self._LONGEST)
        self._failures[server] += 1
        self._shunned_until[server] = time.monotonic() + seconds

    def succeeded(self, server: int) -> None:
        self._failures[server] = 0
        self._shunned_until[server] = 0.0
