"""Fresh processes, one for each artifact, that load it where Keras and the model's own code can't be imported.

They start early and import their runtimes side by side, while the exporter has work of its own; then they are asked
one after the other, so that what one measures is not disturbed by another.
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
from keraship.exporter.findings import Findings, Request

PROGRAM = "keraship.exporter.runtime_check"
TIMEOUT = 900.0
"""Seconds after which a runtime that says nothing is taken for hung."""


class Child:
    """One process with one runtime."""

    def __init__(self, format_: str, blocked: Sequence[str], said: IO[bytes]) -> None:
        self._format = format_
        self._said = said
        self._process = subprocess.Popen(
            [sys.executable, "-m", PROGRAM, format_, ",".join(blocked)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        )

    def wait_ready(self) -> None:
        """Wait until the runtime is imported; raises VerificationError."""
        with self._limited():
            for line in self._process.stdout or ():
                if line.strip() == "ready":
                    return
        raise self._failure()

    def ask(self, request: Request) -> Findings:
        """What the runtime found; raises VerificationError for one that crashed, was killed, or hung."""
        with self._limited():
            self._process.communicate(findings.encode(request) + "\n")
        if self._process.returncode != 0:
            raise self._failure()
        return findings.read_findings(Path(request.answer))

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
        except BrokenPipeError:
            pass  # it died before it could be asked; its exit status says how
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


@contextlib.contextmanager
def started(formats: Sequence[str], blocked: Sequence[str]) -> Iterator[dict[str, Child]]:
    """A child for each format; those still running at the end are killed.

    blocked: modules that must not be importable there.
    """
    with contextlib.ExitStack() as stack:
        children = {}
        for format_ in formats:
            child = Child(format_, blocked, tempfile.TemporaryFile())  # noqa: SIM115  # closed with the child
            stack.callback(child.close)
            children[format_] = child
        yield children
