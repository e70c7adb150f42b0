"""One run of the demo, whose repository every other end-to-end test uses."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Demo:
    """The demo's output, its session id (all its processes have it), and what it made."""

    done: subprocess.CompletedProcess[str]
    session: int
    folder: Path

    @property
    def repository(self) -> Path:
        return self.folder / "build/demo/repo"

    @property
    def test_data(self) -> Path:
        return self.folder / "build/demo/run/test.npz"


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """`make demo`, in a folder of its own."""
    folder = tmp_path_factory.mktemp("demo")
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "examples/demo.py")],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    output, _ = process.communicate(timeout=280)
    done = subprocess.CompletedProcess(process.args, process.returncode, output)
    assert done.returncode == 0, output
    return Demo(done, session=process.pid, folder=folder)
