"""Requests put together to one run, and its answer taken apart: what both ways of batching share.

Source of the checks and of their words: tensorflow_serving/batching/batching_session.cc.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keraship.errors import FailedPrecondition
from keraship.serving.backend import Array, Backend, JointBackend
from keraship.signature import Signature

Outputs = list[Array]


class InFront:
    """What a backend in front of `backend` has of it; several signatures at once are one run that waits for nobody."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        if isinstance(backend, JointBackend):
            self.run_together = backend.run_together

    @property
    def signatures(self) -> Mapping[str, Signature]:
        return self._backend.signatures

    @property
    def defaults(self) -> Mapping[str, Mapping[str, Array]]:
        return self._backend.defaults

    @property
    def signature_defs(self) -> Any:
        return self._backend.signature_defs


@dataclass(eq=False)
class Task:
    """One request on its way through a queue. deadline: by time.monotonic().

    done: set once `outputs` or `error` is there, or once the task has to be run by its own thread.
    """

    signature_name: str
    inputs: Mapping[str, Array]
    output_names: tuple[str, ...]
    rows: int
    deadline: float | None
    queued: float = field(default_factory=time.monotonic)
    done: threading.Event = field(default_factory=threading.Event)
    outputs: Outputs | None = None
    error: BaseException | None = None

    @property
    def left(self) -> float | None:
        """Seconds until the deadline; None for ever."""
        return None if self.deadline is None else self.deadline - time.monotonic()

    @property
    def late(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.left is not None and self.left <= 0

    def answer(self) -> Outputs:
        """What came of it; raises its error."""
        if self.error is not None:
            raise self.error
        if self.outputs is None:
            raise RuntimeError("a task was asked for its answer before it had one")
        return self.outputs

    def finish(self, *, outputs: Outputs | None = None, error: BaseException | None = None) -> None:
        """Wake whoever waits."""
        self.outputs, self.error = outputs, error
        self.done.set()


def make_task(
    signature_name: str, inputs: Mapping[str, Array], output_names: Sequence[str], timeout: float | None
) -> Task | None:
    """A task; None where the inputs have no common number of rows."""
    sizes = {len(array) if array.ndim else None for array in inputs.values()}
    if len(sizes) != 1 or None in sizes:
        return None
    deadline = None if timeout is None else time.monotonic() + timeout
    return Task(signature_name, inputs, tuple(output_names), sizes.pop() or 0, deadline)


def run_together(backend: Backend, tasks: Sequence[Task], make_inputs: Callable[[], Mapping[str, Array]]) -> None:
    """Run tasks as one and finish each; where that fails each is run by itself, so that the fault stays its own.

    make_inputs: the inputs of all, put together; rows after those of the tasks are dropped from the outputs.
    """
    try:
        total = make_inputs()
        first = tasks[0]
        outputs = backend.run(first.signature_name, total, first.output_names, timeout=_longest(tasks))
        parts = split(outputs, tasks, len(next(iter(total.values()))))
    except Exception as error:  # whose it is, each task's own run tells
        if len(tasks) == 1:
            tasks[0].finish(error=error)
        else:
            run_apart(backend, tasks)
        return
    for task, part in zip(tasks, parts, strict=True):
        task.finish(outputs=part)


def run_apart(backend: Backend, tasks: Sequence[Task]) -> None:
    """Run each task by itself, and finish it."""
    for task in tasks:
        try:
            outputs = backend.run(task.signature_name, task.inputs, task.output_names, timeout=task.left)
        except Exception as error:
            task.finish(error=error)
        else:
            task.finish(outputs=outputs)


def concatenated(tasks: Sequence[Task]) -> dict[str, Array]:
    """The inputs of all tasks, row after row."""
    if len(tasks) == 1:
        return dict(tasks[0].inputs)
    return {name: np.concatenate([task.inputs[name] for task in tasks]) for name in tasks[0].inputs}


def split(outputs: Outputs, tasks: Sequence[Task], rows: int) -> list[Outputs]:
    """Each task's rows of the outputs; raises FailedPrecondition for outputs that are not `rows` long."""
    for array in outputs:
        if not array.ndim:
            raise FailedPrecondition("Batched output tensor has 0 dimensions")
        if len(array) != rows:
            raise FailedPrecondition(
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input "
                "tensors"
            )
    if len(tasks) == 1 and tasks[0].rows == rows:
        return [outputs]
    ends = np.cumsum([task.rows for task in tasks]).tolist()
    return [[array[end - task.rows : end] for array in outputs] for task, end in zip(tasks, ends, strict=True)]


def kinds(inputs: Mapping[str, Array]) -> tuple[tuple[str, Any, tuple[int, ...]], ...]:
    """What two requests must have in common to go together: names, dtypes, the shape of a row."""
    return tuple((name, array.dtype, array.shape[1:]) for name, array in sorted(inputs.items()))


def _longest(tasks: Sequence[Task]) -> float | None:
    """The time that the most patient task has left."""
    left = [task.left for task in tasks]
    return None if None in left else max(each for each in left if each is not None)
