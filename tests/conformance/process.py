"""A server as a process, on free ports, with its output kept."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from .ask import Server

KERASHIP = (sys.executable, "-m", "keraship", "serve")
START_SECONDS = 120.0


class ServerProcess:
    """Started at once; `server` says where it is, once `wait_until_ready` has returned."""

    def __init__(self, command: Sequence[str], flags: Sequence[str]) -> None:
        self.port, self.rest_port = free_port(), free_port()
        self.server = Server(f"http://127.0.0.1:{self.rest_port}", f"127.0.0.1:{self.port}")
        self._files = {name: tempfile.NamedTemporaryFile(prefix=f"{name}-") for name in ("stdout", "stderr")}  # noqa: SIM115 - closed by `end`
        self._process = subprocess.Popen(
            [*command, *_with_ports(flags, self.port, self.rest_port)],
            stdout=self._files["stdout"],
            stderr=self._files["stderr"],
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "1"},
        )

    def wait_until_ready(self, seconds: float = START_SECONDS) -> None:
        """Return once its ports are open; raises OSError where it ends or takes too long."""
        end = time.monotonic() + seconds
        while not (self.listens(self.port) and self.listens(self.rest_port)):
            if self._process.poll() is not None or time.monotonic() > end:
                raise OSError(f"the server did not come up: {self.output('stdout')}{self.output('stderr')}")
            time.sleep(0.05)

    def listens(self, port: int) -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return False
        return True

    def output(self, stream: str) -> str:
        """What it has written to stdout or stderr until now."""
        return Path(self._files[stream].name).read_text("utf-8", "replace")

    def exit_status(self, seconds: float) -> int | None:
        """How it ended; None where it still runs after so many seconds."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def signal(self, name: str) -> None:
        self._process.send_signal(signal.Signals[f"SIG{name}"])

    def end(self) -> None:
        self.server.close()
        self._process.kill()
        self._process.wait()
        for file in self._files.values():
            file.close()


def _with_ports(flags: Sequence[str], port: int, rest_port: int) -> list[str]:
    given = {flag.partition("=")[0] for flag in flags}
    own = {"--port": port, "--rest_api_port": rest_port}
    return [f"{name}={value}" for name, value in own.items() if name not in given] + list(flags)


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
