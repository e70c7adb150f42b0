"""The README's Python example, run as it stands."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_example_of_the_whole_path_runs(tmp_path: Path) -> None:
    """In at most 15 lines; pasted into a file, it prints ten predictions, and nearly all are right.

    Only its ports are changed, for the tests must not depend on which ports are free.
    """
    example, _client = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(example.strip().splitlines()) <= 15
    for port in ("8500", "8501"):
        assert port in example
        example = example.replace(port, str(_free_port()))
    (tmp_path / "example.py").write_text(example)
    done = subprocess.run(
        [sys.executable, "example.py"],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    predicted, true = (re.findall(r"\d", part) for part in re.findall(r"\[([\d ]+)\]", done.stdout)[-2:])
    assert len(predicted) == len(true) == 10
    assert sum(a == b for a, b in zip(predicted, true, strict=True)) >= 9


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
