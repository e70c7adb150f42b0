"""--enable_batching: batching as tensorflow_model_server does it, with its parameters, its timer and its errors.

Source: tensorflow_serving/batching/batching_session.cc; the scheduler's defaults are SharedBatchScheduler's.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from keraship.errors import FailedPrecondition, InvalidArgument, ResourceExhausted, Unavailable
from keraship.serving.backend import Array, Backend
from keraship.serving.batching import InFront, Outputs, Task, make_task, run_together
from keraship.serving.request_metrics import count_batch, count_batched_call
from keraship.serving.text_proto import read_text_proto
from keraship.wire.messages import BatchingParameters

PARAMETERS_FILE = "batching_params.pbtxt"
"""In a version's folder, for --enable_per_model_batching_parameters."""

_IDLE_SECONDS = 1.0  # how long a thread sleeps at most before it looks whether it is needed


@dataclass(frozen=True)
class BatchingOptions:
    """BatchingParameters, with defaults where the file says nothing. timeout: seconds that a batch waits for more."""

    max_rows: int = 1000
    timeout: float = 0
    max_batches: int = 10
    threads: int = os.cpu_count() or 1
    allowed_rows: tuple[int, ...] = ()
    pad: bool = False
    split: bool = False
    max_run_rows: int = 0
    thread_pool: str = ""

    @property
    def run_rows(self) -> int:
        """The most rows of one run."""
        return self.max_run_rows if self.split and self.max_run_rows else self.max_rows


def read_batching(path: str | Path) -> BatchingOptions:
    """The options in a BatchingParameters file; raises StatusError for a file that is none or contradicts itself."""
    message = read_text_proto(path, BatchingParameters)
    default = BatchingOptions()

    def value(field: str, otherwise: int) -> int:
        return int(getattr(message, field).value) if message.HasField(field) else otherwise

    return BatchingOptions(
        max_rows=value("max_batch_size", default.max_rows),
        timeout=value("batch_timeout_micros", 0) / 1e6,
        max_batches=value("max_enqueued_batches", default.max_batches),
        threads=max(value("num_batch_threads", default.threads), 1),
        allowed_rows=tuple(message.allowed_batch_sizes),
        pad=message.pad_variable_length_inputs,
        split=bool(value("enable_large_batch_splitting", 0)),
        max_run_rows=value("max_execution_batch_size", 0),
        thread_pool=message.thread_pool_name.value,
    )


def check_batching(options: BatchingOptions) -> None:
    """Raise InvalidArgument for allowed_batch_sizes that are not what they must be: an error of the load."""
    allowed = options.allowed_rows
    if any(low >= high for low, high in pairwise(allowed)):
        raise InvalidArgument("allowed_batch_sizes entries must be monotonically increasing")
    if allowed and allowed[-1] != options.run_rows:
        raise InvalidArgument(
            f"Last entry in allowed_batch_sizes must match max_batch_size; last entry was {allowed[-1]}; "
            f"expected {options.run_rows}"
        )


class BatchSession(InFront):
    """A backend in front of `backend`: a request waits until its batch is full or its time is up.

    Requests of equal input and output names share a batch. Raises as `check_batching` does.
    """

    def __init__(self, backend: Backend, options: BatchingOptions) -> None:
        check_batching(options)
        super().__init__(backend)
        self._options = options
        self._changed = threading.Condition()
        self._queues: dict[Any, deque[_Batch]] = {}
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"batch-{index}", daemon=True) for index in range(options.threads)
        ]
        for thread in self._threads:
            thread.start()

    def run(
        self,
        signature_name: str,
        inputs: Mapping[str, Array],
        output_names: Sequence[str],
        *,
        timeout: float | None = None,
    ) -> Outputs:
        """See Backend.run. Raises Unavailable where the queue is full, ResourceExhausted where time is up in it."""
        _check(inputs)
        task = make_task(signature_name, inputs, output_names, timeout)
        if task is None:
            raise InvalidArgument("Batching Run() input tensors must have equal 0th-dimension size")
        if task.rows > self._options.max_rows and not self._options.split:
            raise InvalidArgument(
                f"Task size {task.rows} is larger than maximum input batch size {self._options.max_rows}"
            )
        parts = _cut(task, self._options.run_rows)
        for part in parts:
            self._enqueue(part)
        answers = [self._await(part) for part in parts]
        return answers[0] if len(answers) == 1 else [np.concatenate(each) for each in zip(*answers, strict=True)]

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        self._backend.close()

    def _enqueue(self, task: Task) -> None:
        key = (task.signature_name, task.output_names, tuple(sorted(task.inputs)))
        with self._changed:
            queue = self._queues.setdefault(key, deque())
            if queue and queue[-1].rows + task.rows <= self._options.run_rows:
                queue[-1].add(task)
            elif len(queue) >= self._options.max_batches:
                raise Unavailable("The batch scheduling queue to which this task was submitted is full")
            else:
                queue.append(_Batch(task))
            self._changed.notify()

    def _await(self, task: Task) -> Outputs:
        if not task.done.wait(task.left):
            raise ResourceExhausted("Run() timeout exceeded while waiting in batching queue")
        return task.answer()

    def _work(self) -> None:
        while (batch := self._next()) is not None:
            waiting = [task for task in batch.tasks if not task.late]
            if waiting:
                self._run(waiting)

    def _next(self) -> _Batch | None:
        """The oldest batch that is full or whose time is up; None at the end."""
        with self._changed:
            while not self._closed:
                heads = sorted((queue[0] for queue in self._queues.values() if queue), key=lambda batch: batch.begun)
                now = time.monotonic()
                ready = next((batch for batch in heads if self._is_ready(batch, now)), None)
                if ready is not None:
                    self._take(ready)
                    return ready
                waits = [batch.begun + self._options.timeout - now for batch in heads]
                self._changed.wait(min(waits, default=_IDLE_SECONDS))
        return None

    def _is_ready(self, batch: _Batch, now: float) -> bool:
        return batch.rows >= self._options.run_rows or now >= batch.begun + self._options.timeout

    def _take(self, batch: _Batch) -> None:
        for key, queue in list(self._queues.items()):
            if queue and queue[0] is batch:
                queue.popleft()
                if not queue:
                    del self._queues[key]
                return

    def _run(self, tasks: list[Task]) -> None:
        rows = sum(task.rows for task in tasks)
        try:
            together = _padded(tasks) if self._options.pad else _alike(tasks)
        except FailedPrecondition as error:
            for task in tasks:
                task.finish(error=error)
            return
        size = next((allowed for allowed in self._options.allowed_rows if allowed >= rows), rows)
        for task in tasks:
            count_batched_call(self._options.thread_pool, seconds_queued=time.monotonic() - task.queued, rows=task.rows)
        count_batch(size, padding=size - rows)
        run_together(self._backend, tasks, lambda: _rounded_up(together, tasks, size))


class _Batch:
    """Tasks that will run together."""

    def __init__(self, task: Task) -> None:
        self.tasks = [task]
        self.rows = task.rows
        self.begun = time.monotonic()

    def add(self, task: Task) -> None:
        self.tasks.append(task)
        self.rows += task.rows


def _check(inputs: Mapping[str, Array]) -> None:
    if not inputs:
        raise InvalidArgument("Batching Run() must have at least one input tensor")
    if any(not array.ndim for array in inputs.values()):
        raise InvalidArgument("Batching Run() input tensors must have at least one dimension")


def _cut(task: Task, rows: int) -> list[Task]:
    """A task as tasks of at most `rows` rows."""
    if task.rows <= rows:
        return [task]
    return [
        Task(
            task.signature_name,
            {name: array[start : start + rows] for name, array in task.inputs.items()},
            task.output_names,
            min(rows, task.rows - start),
            task.deadline,
        )
        for start in range(0, task.rows, rows)
    ]


def _alike(tasks: Sequence[Task]) -> list[Mapping[str, Array]]:
    """The tasks' inputs, whose rows are of one shape; raises FailedPrecondition."""
    for name in tasks[0].inputs:
        if len({task.inputs[name].shape[1:] for task in tasks}) > 1:
            raise FailedPrecondition(
                f"Tensors with name '{name}' from different tasks have different shapes and padding is turned off. Set "
                "pad_variable_length_inputs to true, or ensure that all tensors with the same name have equal "
                "dimensions starting with the first dim."
            )
    return [task.inputs for task in tasks]


def _padded(tasks: Sequence[Task]) -> list[Mapping[str, Array]]:
    """The tasks' inputs, filled up to the largest row in every axis with zeros or empty strings."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name in tasks[0].inputs:
        arrays = [task.inputs[name] for task in tasks]
        if len({array.ndim for array in arrays}) > 1:
            raise FailedPrecondition(f"Tensors with name '{name}' from different tasks have different ranks")
        shapes[name] = tuple(np.max([array.shape[1:] for array in arrays], axis=0).astype(int).tolist())
    return [{name: _fill(task.inputs[name], shape) for name, shape in shapes.items()} for task in tasks]


def _fill(array: Array, shape: tuple[int, ...]) -> Array:
    if array.shape[1:] == shape:
        return array
    filled = np.full((len(array), *shape), b"" if array.dtype == object else 0, array.dtype)
    filled[tuple(slice(size) for size in array.shape)] = array
    return filled


def _rounded_up(inputs: Sequence[Mapping[str, Array]], tasks: Sequence[Task], size: int) -> dict[str, Array]:
    """All rows, and the last task's first row again and again until there are `size`."""
    missing = size - sum(task.rows for task in tasks)
    return {
        name: np.concatenate([*(each[name] for each in inputs), *([inputs[-1][name][:1]] * missing)])
        if len(inputs) > 1 or missing
        else inputs[0][name]
        for name in inputs[0]
    }
