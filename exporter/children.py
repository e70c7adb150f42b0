"""Fresh processes, one for each artifact, that load it where Keras and the model's own code can't be imported.

They start early and import their runtimes side by side, while the exporter has work of its own; then they are asked
one after the other, so that what one measures is not disturbed by another. One that dies takes no other with it.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from keraship.errors import VerificationError
from keraship.exporter import findings
from keraship.exporter.findings import DONE, READY, Findings, Request

PROGRAM = "keraship.exporter.runtime_check"
TIMEOUT = 900.0
"""Seconds after which a runtime that says nothing is taken for hung."""


class Child:
    """One process with one runtime."""

    def __init__(self, format_: str, blocked: Sequence[str], said: IO[bytes]) -> None:
        self._format = format_
        self._said = said
        self._ready = False
        self._process = subprocess.Popen(
            [sys.executable, "-m", PROGRAM, format_, ",".join(blocked)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        )

    def wait_ready(self) -> None:
        """Wait until the runtime is imported; raises VerificationError."""
        if not self._ready:
            self._wait_for(READY)
            self._ready = True

    def ask(self, request: Request) -> Findings:
        """What the runtime found; raises VerificationError for one that crashed, was killed, or hung."""
        with contextlib.suppress(BrokenPipeError):  # it died before it could be asked; its exit status says how
            print(findings.encode(request), file=self._process.stdin, flush=True)
        self._wait_for(DONE)
        return findings.read_findings(Path(request.answer))

    def _wait_for(self, word: str) -> None:
        with self._limited():
            for line in self._process.stdout or ():
                if line.strip() == word:
                    return
        raise self._failure()

    def close(self) -> None:
        """End the process if it is still there."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self._said.close()

    @contextlib.contextmanager
    def _limited(self) -> Iterator[None]:
        """Kill the process when the time is up: reading from it then ends by itself."""
        timer = threading.Timer(TIMEOUT, self._process.kill)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _failure(self) -> VerificationError:
        code = self._process.wait()
        self._said.seek(0)
        said = self._said.read().decode(errors="replace").strip().splitlines()[-3:]
        how = f"was ended by signal {-code}, or ran for more than {TIMEOUT:.0f} s" if code < 0 else f"ended with {code}"
        return VerificationError(
            f"the process that checked {self._format} {how}: {' | '.join(said) or 'it said nothing'}"
        )


class Children:
    """A child for each format, each started anew after it died; a `with` block ends them.

    blocked: modules that must not be importable there.
    """

    def __init__(self, formats: Sequence[str], blocked: Sequence[str]) -> None:
        self._blocked = blocked
        self._children: dict[str, Child | None] = {format_: self._start(format_) for format_ in formats}

    def __enter__(self) -> Children:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for child in self._children.values():
            if child is not None:
                child.close()

    def ask(self, format_: str, request: Request) -> Findings:
        """What the format's runtime found; raises VerificationError, after which the format gets a new child."""
        child = self._children[format_] or self._start(format_)
        self._children[format_] = child
        try:
            child.wait_ready()
            return child.ask(request)
        except VerificationError:
            child.close()
            self._children[format_] = None
            raise

    def _start(self, format_: str) -> Child:
        return Child(format_, self._blocked, tempfile.TemporaryFile())  # closed with the child
