"""Many inputs as requests, and the answers of requests as the answers to inputs: what both predict_many share."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from keraship.client.results import Prediction
from keraship.errors import DataError, InvalidInput, StatusError

BATCH_SIZE = 256

Outcome = Prediction | StatusError


@dataclass(frozen=True)
class Piece:
    """The inputs of one request. items: those that it was put together of, each to get its own answer; or None."""

    inputs: Any
    rows: int
    items: tuple[Any, ...] | None = None


def check_arguments(batch_size: int | None, in_flight: int, errors: str) -> None:
    """Raise ValueError for what makes no sense."""
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"expected a batch_size of 1 or more; got {batch_size}")
    if in_flight < 1:
        raise ValueError(f"expected 1 or more requests in flight; got {in_flight}")
    if errors not in ("raise", "return"):
        raise ValueError(f"expected errors to be 'raise' or 'return'; got {errors!r}")


def is_arrays(inputs: Any) -> bool:
    """Whether `inputs` are rows that are all there: arrays by name, one array, or a pandas DataFrame or Series."""
    return isinstance(inputs, Mapping | np.ndarray | np.generic) or hasattr(inputs, "iloc")


def cut(inputs: Any, batch_size: int) -> Iterator[Piece]:
    """Pieces of at most batch_size rows; raises InvalidInput for arrays that differ in their number of rows."""
    count = count_rows(inputs)
    for start in range(0, max(count, 1), batch_size):
        rows = slice(start, min(start + batch_size, count))
        yield Piece(_rows_of(inputs, rows), rows.stop - rows.start)


def count_rows(inputs: Any) -> int:
    """How many rows arrays have; raises InvalidInput where they differ."""
    if not isinstance(inputs, Mapping):
        if np.ndim(inputs) == 0:
            raise InvalidInput("expected an array with a row for each input; got a single value")
        return len(inputs)
    counts = {name: len(value) if np.ndim(value) else None for name, value in inputs.items()}
    if len(set(counts.values())) != 1 or None in counts.values():
        raise InvalidInput(f"expected arrays by name with one number of rows; got {counts or 'none'}")
    return next(count for count in counts.values() if count is not None)


def whole(items: Iterable[Any]) -> Iterator[Piece]:
    """Each item is a request."""
    return (Piece(item, 1) for item in items)


def stacked(items: Iterable[Any], batch_size: int) -> Iterator[Piece]:
    """Each item is a row, batch_size of them are a request."""
    iterator = iter(items)
    while group := tuple(itertools.islice(iterator, batch_size)):
        yield stack(group)


def stack(group: tuple[Any, ...]) -> Piece:
    """The rows as one request; where they do not go together, that is what its inputs say when they are asked."""
    try:
        return Piece(_stack(group), len(group), group)
    except (ValueError, TypeError) as error:
        return Piece(InvalidInput(f"expected rows that go into one batch: {error}"), len(group), group)


def alone(piece: Piece) -> list[Piece]:
    """The rows of a piece, each as a request of its own."""
    return [stack((item,)) for item in piece.items or ()]


def inputs_of(piece: Piece) -> Any:
    """What to ask; raises InvalidInput for rows that did not go together."""
    if isinstance(piece.inputs, StatusError):
        raise piece.inputs
    return piece.inputs


def is_divisible(piece: Piece, error: StatusError) -> bool:
    """Whether to ask row by row, to find those that an answer to all of them failed for."""
    return piece.items is not None and len(piece.items) > 1 and error.code == "INVALID_ARGUMENT"


def answers_of(piece: Piece, prediction: Prediction) -> list[Outcome]:
    """An answer for each item of the piece; raises DataError where an output has no row for each."""
    if piece.items is None:
        return [prediction]
    for name, array in prediction.items():
        _check_rows(name, array, piece.rows)
    spec = prediction.model_spec
    return [
        Prediction({name: array[row, ...] for name, array in prediction.items()}, spec) for row in range(piece.rows)
    ]


def errors_of(piece: Piece, error: StatusError) -> list[Outcome]:
    """The same error for each item."""
    return [error] * (1 if piece.items is None else len(piece.items))


def join(outcomes: Sequence[Outcome], *, rows: Sequence[int] | None) -> Prediction:
    """All answers as one: row upon row, or, without `rows`, each a row.

    rows: how many each answer is for. Raises the first StatusError among them, ValueError for none, DataError where an
    output has no row for each row of the data.
    """
    predictions = []
    for outcome in outcomes:
        if isinstance(outcome, StatusError):
            raise outcome
        predictions.append(outcome)
    if not predictions:
        raise ValueError("expected answers to join; there were none")
    if rows is not None and len(predictions) == 1:
        return predictions[0]
    return Prediction({name: _join(name, predictions, rows) for name in predictions[0]}, predictions[-1].model_spec)


@contextmanager
def progress_bar(total: int | None, *, shown: bool) -> Iterator[Any]:
    """A bar on stderr; gives what counts rows."""
    if not shown:
        yield lambda _count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("rows", total=total)
        yield lambda count: progress.advance(task, count)


def _rows_of(inputs: Any, rows: slice) -> Any:
    if isinstance(inputs, Mapping):
        return {name: _rows_of(value, rows) for name, value in inputs.items()}
    return inputs.iloc[rows] if hasattr(inputs, "iloc") else inputs[rows]


def _stack(group: Sequence[Any]) -> Any:
    first = group[0]
    if isinstance(first, Mapping):
        if any(not isinstance(item, Mapping) or item.keys() != first.keys() for item in group):
            raise ValueError(f"each is to have the arrays {', '.join(first)}")
        return {name: _stack([item[name] for item in group]) for name in first}
    if any(isinstance(item, np.ndarray | np.generic) for item in group):
        return np.stack([np.asarray(item) for item in group])
    return list(group)


def _join(name: str, predictions: Sequence[Prediction], rows: Sequence[int] | None) -> np.ndarray[Any, Any]:
    arrays = [prediction[name] for prediction in predictions]
    if rows is None:
        return np.stack(arrays)
    for array, count in zip(arrays, rows, strict=False):
        _check_rows(name, array, count)
    return np.concatenate(arrays)


def _check_rows(name: str, array: np.ndarray[Any, Any], count: int) -> None:
    if array.shape[:1] != (count,):
        raise DataError(
            f"expected output '{name}' to have a row for each of {count} rows of data; got shape {list(array.shape)}: "
            "such a model has to be sent all rows at once, with predict or a larger batch size"
        )
