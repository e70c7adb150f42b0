"""Times one artifact in a process of its own, on one core: prints milliseconds by number of rows, as JSON.

python benchmarks/time_artifact.py saved_model repo/digits/1 1,8,32
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from keraship import bundle
from keraship.exporter import golden, runtime_check


def timed(format_: str, version: Path, rows: list[int], *, core: int = 0) -> dict[str, float]:
    """What a fresh process measures: load_seconds, and the median of a call by number of rows, in milliseconds."""
    done = subprocess.run(
        [sys.executable, __file__, format_, str(version), ",".join(map(str, rows)), str(core)],
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def main(format_: str, version: str, rows: str, core: str = "0") -> None:
    os.sched_setaffinity(0, {int(core)})  # before the runtime counts the cores
    load = runtime_check.RUNTIMES[format_]()
    seconds, runner = runtime_check.loaded(load, Path(version))
    inputs, _ = bundle.read_golden(Path(version))
    times = {size: runtime_check.latency(runner, golden.cycled(inputs, int(size))) for size in rows.split(",")}
    print(json.dumps({"load_seconds": seconds, **times}))


if __name__ == "__main__":
    main(*sys.argv[1:])
