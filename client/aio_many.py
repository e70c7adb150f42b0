"""predict_many for asyncio: as many.py, with tasks instead of threads."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

from keraship.client import pieces
from keraship.client.pieces import Outcome, Piece
from keraship.client.results import Prediction
from keraship.errors import StatusError

Ask = Callable[[Any], Awaitable[Prediction]]


def predict_many(
    ask: Ask, inputs: Any, *, batch_size: int | None, in_flight: int, errors: str, progress: bool
) -> AsyncPredictions:
    """The answers of `ask` to many inputs; Client.predict_many says what the arguments mean."""
    pieces.check_arguments(batch_size, in_flight, errors)
    total: int | None = None
    if pieces.is_arrays(inputs):
        todo = _as_async(pieces.cut(inputs, batch_size or pieces.BATCH_SIZE))
        total = pieces.count_rows(inputs)
    elif isinstance(inputs, AsyncIterable):
        todo = _async_pieces(inputs, batch_size)
    else:
        todo = _as_async(pieces.whole(inputs) if batch_size is None else pieces.stacked(inputs, batch_size))
    is_stacked = total is None and batch_size is not None
    run = _run(ask, todo, in_flight=in_flight, errors=errors, total=total, progress=progress)
    return AsyncPredictions(run, is_stacked=is_stacked)


class AsyncPredictions(AsyncIterator[Any]):
    """Predictions, for `async for`."""

    def __init__(self, run: AsyncGenerator[tuple[Outcome, int], None], *, is_stacked: bool) -> None:
        self._run = run
        self._is_stacked = is_stacked
        self._rows: list[int] = []
        self.received: list[Outcome] = []

    async def __anext__(self) -> Any:
        return (await self._run.__anext__())[0]

    async def join(self) -> Prediction:
        """As Predictions.join."""
        async for outcome, rows in self._run:
            self.received.append(outcome)
            self._rows.append(rows)
        return pieces.join(self.received, rows=None if self._is_stacked else self._rows)

    async def close(self) -> None:
        """Ask nothing more, and cancel what is under way."""
        await self._run.aclose()


async def _solve(ask: Ask, piece: Piece, errors: str) -> list[Outcome]:
    try:
        return pieces.answers_of(piece, await ask(pieces.inputs_of(piece)))
    except StatusError as error:
        if errors == "raise":
            raise
        if pieces.is_divisible(piece, error):
            return [outcome for each in pieces.alone(piece) for outcome in await _solve(ask, each, errors)]
        return pieces.errors_of(piece, error)


async def _run(
    ask: Ask, todo: AsyncIterator[Piece], *, in_flight: int, errors: str, total: int | None, progress: bool
) -> AsyncGenerator[tuple[Outcome, int], None]:
    window: deque[tuple[Piece, asyncio.Task[list[Outcome]]]] = deque()
    failure: Exception | None = None
    is_over = False
    turn = asyncio.Semaphore(in_flight)

    async def solve(piece: Piece) -> list[Outcome]:
        async with turn:
            return await _solve(ask, piece, errors)

    try:
        with pieces.progress_bar(total, shown=progress) as advance:
            while window or not is_over:
                if not is_over and len(window) < 2 * in_flight and not (window and window[0][1].done()):
                    try:
                        piece = await todo.__anext__()
                    except StopAsyncIteration:
                        is_over = True
                    except Exception as error:  # of the caller's iterator: what was asked before is answered first
                        failure, is_over = error, True
                    else:
                        window.append((piece, asyncio.ensure_future(solve(piece))))
                        await asyncio.sleep(0)  # a synchronous iterator would let no task start
                    continue
                piece, task = window[0]
                outcomes = await task
                window.popleft()
                advance(piece.rows)
                for outcome in outcomes:
                    yield outcome, piece.rows
    finally:
        for _, task in window:
            task.cancel()
        await asyncio.gather(*(task for _, task in window), return_exceptions=True)
    if failure is not None:
        raise failure


async def _as_async(items: Iterator[Piece]) -> AsyncIterator[Piece]:
    for item in items:
        yield item


async def _async_pieces(items: AsyncIterable[Any], batch_size: int | None) -> AsyncIterator[Piece]:
    group: list[Any] = []
    async for item in items:
        if batch_size is None:
            yield Piece(item, 1)
            continue
        group.append(item)
        if len(group) == batch_size:
            yield pieces.stack(tuple(group))
            group = []
    if group:
        yield pieces.stack(tuple(group))
