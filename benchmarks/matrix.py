"""Every model of the zoo as every kind of artifact: `python benchmarks/matrix.py [--only NAME] [--columns ONNX,int8]`.

A process of its own makes the artifacts, one model after the other; where it crashes or hangs, one cell fails and the
next process goes on. What is done stands in build/matrix/cells.jsonl, so that a run that was interrupted continues;
--again NAME runs a model once more. At the end docs/matrix.md is written from that file.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from matrix_cells import COLUMNS, STATE, Cell, latest
from matrix_page import summary, write_page

LIMIT = 900.0
"""Seconds that one step (a model's tracing, one cell) may take."""

_ROOT = Path(__file__).parent.parent
_PAGE = _ROOT / "docs/matrix.md"


def main() -> None:
    options = _options()
    columns = options.columns.split(",") if options.columns else list(COLUMNS)
    unknown = [column for column in columns if column not in COLUMNS]
    if unknown:
        sys.exit(f"expected columns out of {', '.join(COLUMNS)}; got {', '.join(unknown)}")
    STATE.parent.mkdir(parents=True, exist_ok=True)
    with Worker() as worker:
        names = worker.names(all_members=options.all_members)
        chosen = [name for name in names if not options.only or name in options.only]
        done = {key for key, cell in latest().items() if not options.red or cell.verdict == "green"}
        todo = (
            {}
            if options.page
            else {
                name: [column for column in columns if options.only or options.again or (name, column) not in done]
                for name in chosen
            }
        )
        with contextlib.suppress(KeyboardInterrupt):  # what is done is kept, and shown
            run(worker, {name: missing for name, missing in todo.items() if missing})
    cells = [cell for (name, _), cell in latest().items() if name in names]
    if not options.only:
        write_page(_PAGE, names, cells)
    if options.json:
        print(json.dumps([asdict(cell) for cell in cells if cell.model in chosen]))
    else:
        print(summary(cells))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", metavar="NAME", help="run this model, again if need be")
    parser.add_argument("--columns", help=f"out of {','.join(COLUMNS)}")
    parser.add_argument("--again", action="store_true", help="run everything, whatever was done")
    parser.add_argument("--red", action="store_true", help="run what is not green once more")
    parser.add_argument("--page", action="store_true", help="run nothing, write the page of what was done")
    parser.add_argument("--all-members", action="store_true", help="every member of the families of applications")
    parser.add_argument("--json", action="store_true", help="print the cells")
    return parser.parse_args()


def run(worker: Worker, todo: dict[str, list[str]]) -> None:
    """Run what is to be done, a line of progress for each cell."""
    begun = time.monotonic()
    with STATE.open("a") as state:
        for number, (name, columns) in enumerate(todo.items(), 1):
            for cell in worker.cells(name, columns):
                print(json.dumps(asdict(cell)), file=state, flush=True)
                said = f"[{number}/{len(todo)} {time.monotonic() - begun:5.0f} s] {cell.model:24} {cell.column:12}"
                print(f"{said} {cell.verdict:8} {cell.short()}"[:200], file=sys.stderr, flush=True)


class Worker:
    """The process that makes and checks artifacts; a new one where it died."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str | None] = queue.Queue()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._end()

    def names(self, *, all_members: bool) -> list[str]:
        """The models of the zoo."""
        self._ask({"names": True, "all_members": all_members})
        names: list[str] = (self._answer() or {})["names"]
        return names

    def cells(self, name: str, columns: list[str]) -> Iterator[Cell]:
        """The cells of a model as they are done."""
        left = list(columns)
        while left:
            self._ask({"model": name, "columns": left})
            said = None
            while left and (said := self._answer()) is not None:
                left.remove(said["column"])
                yield Cell(**said)
            if said is None and left:
                yield Cell(name, left.pop(0), "FAILED", reason=self._end())

    def _ask(self, request: dict[str, Any]) -> None:
        if self._process is None:
            self._start()
        assert self._process is not None
        assert self._process.stdin is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)

    def _answer(self) -> dict[str, Any] | None:
        """The next line; None where the process died or hangs."""
        try:
            line = self._lines.get(timeout=LIMIT)
        except queue.Empty:
            return None
        answer: dict[str, Any] | None = json.loads(line) if line else None
        return answer

    def _start(self) -> None:
        log = (STATE.parent / "worker.log").open("a")
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("matrix_worker.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        self._lines = queue.Queue()
        threading.Thread(target=_pump, args=(self._process.stdout, self._lines), daemon=True).start()

    def _end(self) -> str:
        """Ends the process; how it had ended."""
        if self._process is None:
            return ""
        code = self._process.poll()
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
        return f"took more than {LIMIT:.0f} s" if code is None else f"the process ended with {code}"


def _pump(pipe: IO[str], lines: queue.Queue[str | None]) -> None:
    for line in pipe:
        lines.put(line)
    lines.put(None)


if __name__ == "__main__":
    main()
