"""Batching without a timer: what arrives while the model runs goes together into the next run.

Only for models whose rows were proven to be independent. A model that takes less than a queue costs runs where its
request is. As many runs go on at once as there are cores; how many rows a run takes is learned from the runs
themselves, for some models gain from batches (a small network 3.4 times) and others lose.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keraship.errors import DeadlineExceeded
from keraship.serving.backend import Array, Backend
from keraship.serving.batching import InFront, Outputs, Task, concatenated, kinds, make_task, run_together
from keraship.signature import Signature

_QUICK_SECONDS = 100e-6  # what passing a request from thread to thread costs, at least
MAX_ROWS = 64

Observer = Callable[[int, float], None]
"""Told of every run: how many rows, and how many seconds its first request waited."""


class BatchWhileBusy(InFront):
    """A backend in front of `backend`, for threads that ask at once.

    together: whether requests may share a run; otherwise only the number of runs at once is limited.
    """

    def __init__(self, backend: Backend, *, together: bool, slots: int = 0, observer: Observer | None = None) -> None:
        super().__init__(backend)
        self._together = together
        self._observer = observer
        self._free = slots or cores()
        self._lock = threading.Lock()
        self._queue: deque[_Waiting] = deque()
        self._sizes: dict[Any, Sizes] = {}
        self._best_seconds = float("inf")
        self._fixed = {name for name, each in backend.signatures.items() if not _takes_any_rows(each)}

    def run(
        self,
        signature_name: str,
        inputs: Mapping[str, Array],
        output_names: Sequence[str],
        *,
        timeout: float | None = None,
    ) -> Outputs:
        """See Backend.run. Raises DeadlineExceeded where the turn does not come within `timeout`."""
        if self._best_seconds < _QUICK_SECONDS:
            return self._backend.run(signature_name, inputs, output_names, timeout=timeout)
        task = make_task(signature_name, inputs, output_names, timeout)
        if task is None:
            return self._backend.run(signature_name, inputs, output_names, timeout=timeout)
        alone = not self._together or signature_name in self._fixed
        self._pass(_Waiting(task, None if alone else (signature_name, task.output_names, kinds(inputs))))
        return task.answer()

    def close(self) -> None:
        self._backend.close()

    def _pass(self, mine: _Waiting) -> None:
        """Through the queue: run it now, or wait until somebody ran it, or until it is this thread's turn to run."""
        with self._lock:
            if self._free:
                self._free -= 1
                mine.batch = [mine.task]
            else:
                self._queue.append(mine)
        if mine.batch is None:
            self._wait(mine)
        if mine.batch is not None:
            try:
                self._lead(mine, mine.batch)
            finally:
                self._hand_over()

    def _wait(self, mine: _Waiting) -> None:
        """Until somebody ran it, or until it is to be run here."""
        if not mine.task.done.wait(mine.task.left) and self._withdraw(mine):
            raise DeadlineExceeded("the deadline passed before the model could run")
        mine.task.done.wait()  # it is in a run already

    def _withdraw(self, mine: _Waiting) -> bool:
        """Out of the queue, if it is still there."""
        with self._lock:
            found = mine in self._queue
            if found:
                self._queue.remove(mine)
            return found

    def _lead(self, mine: _Waiting, batch: list[Task]) -> None:
        begin = time.monotonic()
        rows = sum(task.rows for task in batch)
        mine.task.done.clear()
        run_together(self._backend, batch, lambda: concatenated(batch))
        if mine.task.error is None:
            self._learn(mine.key, rows, time.monotonic() - begin)
        if self._observer is not None:
            self._observer(rows, begin - min(task.queued for task in batch))

    def _learn(self, key: Any, rows: int, seconds: float) -> None:
        if rows:
            self._best_seconds = min(self._best_seconds, seconds)
        if key is not None and rows:
            with self._lock:
                self._sizes.setdefault(key[0], Sizes()).add(rows, seconds)

    def _hand_over(self) -> None:
        """The slot goes to whoever has waited longest, with those that may share its run; or is free."""
        with self._lock:
            while self._queue:
                head = self._queue.popleft()
                if head.task.late:
                    head.task.finish(error=DeadlineExceeded("the deadline passed before the model could run"))
                    continue
                head.batch = [head.task, *self._companions(head)]
                head.task.done.set()
                return
            self._free += 1

    def _companions(self, head: _Waiting) -> list[Task]:
        if head.key is None:
            return []
        room = self._sizes.setdefault(head.key[0], Sizes()).limit() - head.task.rows
        taken = []
        for each in self._queue:
            if each.key == head.key and each.task.rows <= room and not each.task.late:
                room -= each.task.rows
                taken.append(each)
        for each in taken:
            self._queue.remove(each)
        return [each.task for each in taken]


class _Waiting:
    """A task in the queue. key: those of the same may share a run; None for nobody. batch: set where it is to lead."""

    def __init__(self, task: Task, key: Any) -> None:
        self.task = task
        self.key = key
        self.batch: list[Task] | None = None


class Sizes:
    """How many rows a run had best have: the size is doubled as long as a row gets cheaper by it.

    Seconds a row are kept by powers of two, as moving averages; an old finding is tried again now and then.
    """

    ENOUGH = 3
    _GAIN = 0.97
    _AGAIN = 1000

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}
        self._counts: dict[int, int] = {}
        self._runs = 0

    def add(self, rows: int, seconds: float) -> None:
        """Learn from a run."""
        level = rows.bit_length() - 1
        count = self._counts[level] = self._counts.get(level, 0) + 1
        old, new = self._seconds.get(level, 0.0), seconds / rows
        self._seconds[level] = new if count == 1 else old + (new - old) * max(1 / count, 0.1)
        self._runs += 1
        if self._runs % self._AGAIN == 0:
            self._counts = {level: min(count, self.ENOUGH - 1) for level, count in self._counts.items()}

    def limit(self) -> int:
        """The most rows that the next run is to have."""
        level = 0
        while self._is_known(level) and 2 ** (level + 1) <= MAX_ROWS and self._is_worth(level + 1):
            level += 1
        return min(int(2 ** (level + 1)) - 1, MAX_ROWS)

    def _is_known(self, level: int) -> bool:
        return self._counts.get(level, 0) >= self.ENOUGH

    def _is_worth(self, level: int) -> bool:
        """Whether it is to be tried, or was found to be better than all below it."""
        known = [self._seconds[each] for each in range(level) if each in self._seconds]
        return not self._is_known(level) or self._seconds[level] < min(known) * self._GAIN


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _takes_any_rows(signature: Signature) -> bool:
    return all(spec.shape is None or (spec.shape and spec.shape[0] is None) for spec in signature.inputs)
