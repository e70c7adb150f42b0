"""The oracle server as a process, one for all tests of the client, and a client of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keraship.client import Client


@pytest.fixture(scope="session")
def socket_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("oracle") / "s"


@pytest.fixture(scope="session")
def address(socket_path: Path) -> Iterator[str]:
    script = Path(__file__).with_name("oracle.py")
    log = socket_path.with_name("log")
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            [sys.executable, script, socket_path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        assert port, log.read_text()
        yield f"127.0.0.1:{port}"
        process.terminate()


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with Client(address, "echo", timeout=20) as client:
        yield client


@pytest.fixture
def calls(client: Client) -> Callable[[str], int]:
    """How often the server was called, by "predict:MODEL", "metadata:MODEL" or "status:MODEL"."""
    return lambda key: int(client.predict({"count": key}, model_name="control", check=False)["calls"])
