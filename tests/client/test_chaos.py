"""While servers die and connections break: benchmarks/chaos.py, with fewer calls (`make chaos` makes 10,000)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks/chaos.py"


def test_calls_survive_kills_delays_resets_and_truncation() -> None:
    """Every call that has time succeeds, each is answered once and rightly; there was something to survive."""
    done = subprocess.run(
        [sys.executable, BENCHMARK, "--calls", "400", "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    assert found["calls"] == 400
    assert found["failed"] == found["wrong"] == []
    assert found["answered"] + found["hurried"] == 400
    assert sum(found["faults"].get(name, 0) for name in ("kill", "reset", "truncate", "delay")) > 10
