"""What is being done, while it is: stages with their times on a terminal, nothing elsewhere."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator

Report = Callable[[str], None]


@contextlib.contextmanager
def live() -> Iterator[Report]:
    """A function to call with each stage's name: the one under way spins on stderr, those done stand above with a tick.

    Nothing is written where stderr is no terminal.
    """
    if not sys.stderr.isatty():
        yield lambda _stage: None
        return
    from rich.console import Console

    # a copy of stderr: the real one is set aside while TensorFlow is imported
    with os.fdopen(os.dup(2), "w") as stderr:
        console = Console(file=stderr, highlight=False)
        with console.status("start") as status:
            stages = _Stages(console.print, status.update)
            yield stages.begin
            stages.end()


class _Stages:
    """Prints a stage once the next begins."""

    def __init__(self, write: Callable[[str], None], show: Callable[[str], None]) -> None:
        self._write, self._show = write, show
        self._stage, self._start = "", time.monotonic()

    def begin(self, stage: str) -> None:
        from rich.markup import escape

        self.end()
        self._stage, self._start = escape(stage), time.monotonic()
        self._show(f"{self._stage} ...")

    def end(self) -> None:
        if self._stage:
            self._write(f"[green]\u2713[/] {self._stage} [dim]{time.monotonic() - self._start:.1f} s[/]")
        self._stage = ""
