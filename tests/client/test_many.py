"""predict_many: cut or put together, several in flight, in order, in bounded memory."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest

from keraship import errors
from keraship.client import AsyncClient, Client, InvalidInput, Prediction
from keraship.client.testing import FakeModel, FakeServer
from keraship.signature import Signature, TensorSpec

SIGNATURE = Signature((TensorSpec("x", "float32", (None, 2)),), (TensorSpec("y", "float32", (None,)),))


def total(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if (inputs["x"] < 0).any():
        raise errors.InvalidArgument("negative")
    return {"y": inputs["x"].sum(axis=1)}


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    models = {
        "sum": FakeModel(total, signatures={"serving_default": SIGNATURE}),
        "mean": FakeModel(lambda inputs: {"m": inputs["x"].mean()}),
        "down": FakeModel(lambda _: (_ for _ in ()).throw(errors.Unavailable("down"))),
    }
    with FakeServer(models) as server:
        yield server


@pytest.fixture
def many(server: FakeServer) -> Iterator[Client]:
    server.calls.clear()
    with Client(server.address, "sum", timeout=20) as client:
        yield client


def batches(server: FakeServer) -> list[int]:
    return [len(call.inputs["x"]) for call in server.calls if call.method == "Predict"]


ROWS = np.arange(50, dtype=np.float32).reshape(25, 2)


def test_arrays_are_cut_and_joined(many: Client, server: FakeServer) -> None:
    """A Prediction for each batch; join has them all, in order."""
    import pandas as pd

    for inputs in (ROWS, {"x": ROWS}, pd.DataFrame(ROWS)):
        server.calls.clear()
        joined = many.predict_many(inputs, batch_size=10).join()
        assert joined.array.tolist() == ROWS.sum(1).tolist()
        assert joined.model_spec.version == 1
        assert sorted(batches(server)) == [5, 10, 10]
    sizes = [len(each.array) for each in many.predict_many(ROWS, batch_size=10)]
    assert sizes == [10, 10, 5]
    assert many.predict_many(ROWS[:0]).join().array.shape == (0,)


def test_items_without_a_batch_size_are_requests(many: Client, server: FakeServer) -> None:
    """Whatever an iterator gives is sent as predict would send it."""
    answers = list(many.predict_many({"x": ROWS[:count]} for count in (3, 1, 2)))
    assert [len(answer.array) for answer in answers] == [3, 1, 2]
    assert sorted(batches(server)) == [1, 2, 3]


def test_rows_are_put_together_and_answered_one_by_one(many: Client, server: FakeServer) -> None:
    """batch_size of them in a request."""
    for items in (iter(ROWS), ({"x": row} for row in ROWS), (row.tolist() for row in ROWS)):
        server.calls.clear()
        answers = list(many.predict_many(items, batch_size=10))
        assert [answer.array.item() for answer in answers] == ROWS.sum(1).tolist()
        assert all(isinstance(answer.array, np.ndarray) and answer.array.shape == () for answer in answers)
        assert sorted(batches(server)) == [5, 10, 10]
    assert many.predict_many(iter(ROWS), batch_size=10).join().array.tolist() == ROWS.sum(1).tolist()


def test_errors_are_raised_or_returned_in_their_place(many: Client) -> None:
    """Of rows that share a request, only those that are wrong fail: refused by the client, by the server, or ragged."""
    items: list[Any] = list(ROWS[:8])
    items[1], items[4], items[6] = np.float32([-1, 0]), np.float64([1, 2]), np.float32([1])
    answers = list(many.predict_many(iter(items), batch_size=4, errors="return"))
    assert [type(answer).__name__ for answer in answers] == [
        "Prediction", "InvalidArgument", "Prediction", "Prediction", "InvalidInput", "Prediction", "InvalidInput",
        "Prediction",
    ]  # fmt: skip
    assert [a.array.item() for a in answers if isinstance(a, Prediction)] == [ROWS[i].sum() for i in (0, 2, 3, 5, 7)]
    with pytest.raises(errors.InvalidArgument, match="negative"):
        list(many.predict_many(iter(items[:2]), batch_size=2))
    down = many.predict_many(iter(ROWS[:3]), batch_size=3, errors="return", model_name="down", check=False)
    with pytest.raises(InvalidInput, match="arrays by name"):
        next(many.predict_many(iter(ROWS), model_name="down"))
    assert [answer.code for answer in down] == ["INVALID_ARGUMENT"] * 3


def test_what_was_asked_before_a_failing_iterator_is_answered(many: Client) -> None:
    """Then its own error comes."""

    def items() -> Iterator[np.ndarray]:
        yield ROWS[:1]
        yield ROWS[1:2]
        raise OSError("disk")

    answers = many.predict_many(items())
    assert next(answers).array.item() == 1
    assert next(answers).array.item() == 5
    with pytest.raises(OSError, match="disk"):
        next(answers)


def test_an_endless_iterator_is_read_only_so_far(many: Client) -> None:
    """Never more than twice the requests in flight ahead of what is taken; a break ends it."""
    taken = itertools.count()
    read = 0

    def items() -> Iterator[np.ndarray]:
        nonlocal read
        for read in taken:
            yield np.float32([[read, 0]])

    answers = many.predict_many(items(), in_flight=3)
    for index in range(200):
        assert next(answers).array.item() == index
        assert read <= index + 6
    answers.close()
    assert threading.active_count() < 50


def test_some_are_in_flight_at_a_time() -> None:
    """As many as were asked for, and no more."""
    running, most, lock = 0, 0, threading.Lock()

    def slow(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1
        return {"y": inputs["x"]}

    with FakeServer(FakeModel(slow)) as server, Client(server.address, "model") as client:
        list(client.predict_many(({"x": ROWS} for _ in range(40)), in_flight=5, check=False))
    assert most == 5


def test_outputs_without_rows_cannot_be_joined(many: Client) -> None:
    """A single batch can."""
    options: dict[str, Any] = {"model_name": "mean", "check": False}
    assert many.predict_many({"x": ROWS}, **options).join().array == ROWS.mean()
    with pytest.raises(errors.DataError, match="a row for each of 10 rows"):
        many.predict_many({"x": ROWS}, batch_size=10, **options).join()


@pytest.mark.parametrize(
    ("inputs", "options", "says"),
    [
        (ROWS, {"batch_size": 0}, "batch_size of 1 or more"),
        (ROWS, {"in_flight": 0}, "1 or more requests"),
        (ROWS, {"errors": "ignore"}, "'raise' or 'return'"),
        ({"x": ROWS, "z": ROWS[:1]}, {}, "one number of rows"),
        (np.float32(1), {}, "a row for each input"),
    ],
)
def test_wrong_arguments_are_refused_at_once(many: Client, inputs: Any, options: dict[str, Any], says: str) -> None:
    """Before anything is asked."""
    with pytest.raises(ValueError, match=says):
        many.predict_many(inputs, **options)


def test_a_bar_shows_on_stderr(many: Client, capsys: pytest.CaptureFixture[str]) -> None:
    """And nothing on stdout."""
    many.predict_many(ROWS, batch_size=5, progress=True).join()
    out, _ = capsys.readouterr()
    assert out == ""


def test_ctrl_c_stops_at_once_and_keeps_what_came(server: FakeServer) -> None:
    """Calls that are under way are not waited for."""
    script = f"""
import signal, sys, time, numpy as np
signal.signal(signal.SIGINT, signal.default_int_handler)
from keraship.client import Client
client = Client({server.address!r}, "sum")
def rows():
    for index in range(10_000_000):
        yield np.float32([[index, 0]])
        if index == 500:
            print("there", flush=True)
answers = client.predict_many(rows())
try:
    answers.join()
except KeyboardInterrupt:
    kept = len(answers.received)
    right = [answer.array.item() for answer in answers.received] == list(range(kept))
    print(kept > 100 and right, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        os.kill(process.pid, signal.SIGINT)
        rest, _ = process.communicate(timeout=30)
    assert rest == "True\n"


def test_a_million_rows_need_no_more_memory_than_a_few(server: FakeServer) -> None:
    """From an iterator whose answers are not kept; measured in a process of its own."""
    script = f"""
import resource, numpy as np
from keraship.client import Client
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
with Client({server.address!r}, "sum", timeout=60) as client:
    def ask(count):
        batches = (np.full((4000, 2), index, np.float32) for index in range(count))
        answers = client.predict_many(batches, in_flight=4)
        return sum(len(answer.array) for answer in answers)
    assert ask(25) == 100_000
    before = peak()
    assert ask(250) == 1_000_000
    print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 20  # MB; the rows and their answers are 12 bytes each


def test_asyncio_has_the_same(server: FakeServer) -> None:
    """Cut, put together, asynchronous iterators, errors in place, endless ones."""

    async def rows() -> AsyncIterator[np.ndarray]:
        for row in ROWS:
            yield row

    async def run() -> None:
        async with AsyncClient(server.address, "sum", timeout=20) as client:
            joined = await client.predict_many(ROWS, batch_size=10).join()
            assert joined.array.tolist() == ROWS.sum(1).tolist()
            for items in (rows(), iter(ROWS)):
                answers = [a.array.item() async for a in client.predict_many(items, batch_size=10)]
                assert answers == ROWS.sum(1).tolist()
            wrong = [np.float32([[1, 2]]), np.float32([[-1, 2]])]
            outcomes = [a async for a in client.predict_many(iter(wrong), errors="return")]
            assert [type(outcome).__name__ for outcome in outcomes] == ["Prediction", "InvalidArgument"]
            with pytest.raises(errors.InvalidArgument):
                await client.predict_many(iter(wrong)).join()
            endless = client.predict_many(np.float32([[i, 0]]) for i in itertools.count())
            assert [(await endless.__anext__()).array.item() for _ in range(50)] == list(range(50))
            await endless.close()

    asyncio.run(run())
