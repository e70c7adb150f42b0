"""predict_many for threads: requests cut or put together, several in flight, answers in order."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from typing import Any

from keraship.client import pieces
from keraship.client.pieces import Outcome, Piece
from keraship.client.results import Prediction
from keraship.errors import StatusError

Ask = Callable[[Any], Prediction]


def predict_many(
    ask: Ask, inputs: Any, *, batch_size: int | None, in_flight: int, errors: str, progress: bool
) -> Predictions:
    """The answers of `ask` to many inputs; Client.predict_many says what the arguments mean."""
    pieces.check_arguments(batch_size, in_flight, errors)
    if pieces.is_arrays(inputs):
        todo = pieces.cut(inputs, batch_size or pieces.BATCH_SIZE)
        total: int | None = pieces.count_rows(inputs)
    else:
        todo = pieces.whole(inputs) if batch_size is None else pieces.stacked(inputs, batch_size)
        total = None
    is_stacked = total is None and batch_size is not None
    run = _run(ask, todo, in_flight=in_flight, errors=errors, total=total, progress=progress)
    return Predictions(run, is_stacked=is_stacked)


class Predictions(Iterator[Any]):
    """Answers as they come, in the order of what was asked: Predictions, and StatusErrors where those are returned.

    received: what `join` has collected so far; all of it, also after an error or Ctrl-C.
    """

    def __init__(self, run: Generator[tuple[Outcome, int], None, None], *, is_stacked: bool) -> None:
        self._run = run
        self._is_stacked = is_stacked
        self._rows: list[int] = []
        self.received: list[Outcome] = []

    def __next__(self) -> Any:
        return next(self._run)[0]

    def join(self) -> Prediction:
        """All answers that are left as one, row upon row; after an interruption, those that had come.

        Raises the first StatusError among them, ValueError for none.
        """
        for outcome, rows in self._run:
            self.received.append(outcome)
            self._rows.append(rows)
        return pieces.join(self.received, rows=None if self._is_stacked else self._rows)

    def close(self) -> None:
        """Ask nothing more."""
        self._run.close()


def solve(ask: Ask, piece: Piece, errors: str) -> list[Outcome]:
    """The answers to a piece's items; raises StatusError unless those are to be returned."""
    try:
        return pieces.answers_of(piece, ask(pieces.inputs_of(piece)))
    except StatusError as error:
        if errors == "raise":
            raise
        if pieces.is_divisible(piece, error):
            return [outcome for each in pieces.alone(piece) for outcome in solve(ask, each, errors)]
        return pieces.errors_of(piece, error)


def _run(
    ask: Ask, todo: Iterator[Piece], *, in_flight: int, errors: str, total: int | None, progress: bool
) -> Generator[tuple[Outcome, int], None, None]:
    """Each answer, and the rows that it is for. The window holds what is asked for and not yet given out."""
    window: deque[tuple[Piece, Future[list[Outcome]]]] = deque()
    failure: Exception | None = None
    is_over = False
    with pieces.progress_bar(total, shown=progress) as advance, _Workers(ask, in_flight, errors) as workers:
        while window or not is_over:
            if not is_over and len(window) < 2 * in_flight and not (window and window[0][1].done()):
                try:
                    piece = next(todo)
                except StopIteration:
                    is_over = True
                except Exception as error:  # of the caller's iterator: what was asked before is answered first
                    failure, is_over = error, True
                else:
                    window.append((piece, workers.submit(piece)))
                continue
            piece, future = window.popleft()
            outcomes = future.result()
            advance(piece.rows)
            for outcome in outcomes:
                yield outcome, piece.rows
    if failure is not None:
        raise failure


class _Workers:
    """Threads that ask; daemons, so that who stops waiting, by Ctrl-C or a break, is not held by what they wait for."""

    def __init__(self, ask: Ask, count: int, errors: str) -> None:
        self._ask, self._errors = ask, errors
        self._jobs: queue.SimpleQueue[tuple[Piece, Future[list[Outcome]]] | None] = queue.SimpleQueue()
        self._count = count
        self._started = 0
        self._is_over = False

    def submit(self, piece: Piece) -> Future[list[Outcome]]:
        future: Future[list[Outcome]] = Future()
        self._jobs.put((piece, future))
        if self._started < self._count:
            self._started += 1
            threading.Thread(target=self._work, daemon=True, name="keraship-predict-many").start()
        return future

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        for _each in range(self._started):
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None and not self._is_over:
            piece, future = job
            try:
                future.set_result(solve(self._ask, piece, self._errors))
            except BaseException as error:  # handed to whoever waits for the answer
                future.set_exception(error)
