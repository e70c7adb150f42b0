"""TensorFlow's chatter is held back, its errors are not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = "import sys; from keraship.quiet import import_tensorflow; import_tensorflow(); print('after', file=sys.stderr)"


def run(tmp_path: Path, tensorflow: str, *, level: str | None = None) -> subprocess.CompletedProcess[str]:
    """A process that imports a stand-in for TensorFlow, which writes to the descriptor as C++ does."""
    (tmp_path / "tensorflow.py").write_text(f"import os\nos.write(2, b'chatter\\n')\n{tensorflow}\n")
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    if level:
        environment["TF_CPP_MIN_LOG_LEVEL"] = level
    return subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=False)


def test_held_back(tmp_path: Path) -> None:
    """What the import prints is not seen, what comes after it is."""
    assert run(tmp_path, "").stderr == "after\n"


@pytest.mark.parametrize(("level", "stderr"), [("0", "chatter\nafter\n"), ("2", "after\n")])
def test_on_request(level: str, stderr: str, tmp_path: Path) -> None:
    """TF_CPP_MIN_LOG_LEVEL=0 asks for all of it."""
    assert run(tmp_path, "", level=level).stderr == stderr


def test_failed_import(tmp_path: Path) -> None:
    """Where the import fails, what it printed is given out with the error."""
    done = run(tmp_path, "raise OSError('no such library')")
    assert done.stderr.startswith("chatter\n")
    assert "no such library" in done.stderr
