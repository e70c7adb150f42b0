"""Hedged requests: the same call to one server after another, until the first answer comes."""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Any, Protocol

from keraship.client.steps import Attempt, Race
from keraship.errors import Cancelled, DeadlineExceeded, StatusError, Unavailable


class Started(Protocol):
    """A call that is under way."""

    def add_done_callback(self, callback: Callable[[Any], None]) -> None: ...
    def cancel(self) -> None: ...
    def result(self) -> bytes: ...


GOES_ON = (Unavailable, DeadlineExceeded, Cancelled)
"""Failures of one server that do not end a race; any other is an answer."""


def run_race(race: Race, start: Callable[[Attempt], Started]) -> bytes:
    """The first answer; the others are cancelled. Raises the last failure where all fail."""
    done: queue.SimpleQueue[Started] = queue.SimpleQueue()
    waiting = list(race.attempts)
    running: list[Started] = []

    def launch() -> None:
        call = start(waiting.pop(0))
        running.append(call)
        call.add_done_callback(done.put)

    try:
        launch()
        while True:
            try:
                call = done.get(timeout=race.delay if waiting else None)
            except queue.Empty:
                launch()
                continue
            running.remove(call)
            try:
                return call.result()
            except StatusError as error:
                error.attempts = len(race.attempts) - len(waiting)
                if not isinstance(error, GOES_ON) or not (running or waiting):
                    raise
                if not running:
                    launch()
    finally:
        for call in running:
            call.cancel()
