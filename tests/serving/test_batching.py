"""Batching: who shares a run, what a run that fails does to the others, deadlines in the queue, sizes learned."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from keraship.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    ResourceExhausted,
    StatusError,
    Unavailable,
)
from keraship.serving.batch_session import BatchingOptions, BatchSession, read_batching
from keraship.serving.batch_while_busy import BatchWhileBusy, Sizes
from keraship.serving.grpc_server import GrpcServer, GrpcServerOptions
from keraship.serving.request_metrics import REGISTRY
from keraship.signature import Signature, TensorSpec

Array = np.ndarray[Any, Any]


class Doubling:
    """A fake model, y = 2x, that takes as long as it is told, knows what it was run on, and fails on negative rows."""

    def __init__(self, seconds: float = 0.0, *, gate: threading.Event | None = None) -> None:
        spec = TensorSpec("x", "float32", None)
        self.signatures = {"serving_default": Signature((spec,), (TensorSpec("y", "float32", None),))}
        self.defaults: Mapping[str, Mapping[str, Array]] = {}
        self.signature_defs = None
        self.runs: list[Array] = []
        self.closed = False
        self._seconds = seconds
        self._gate = gate

    def run(
        self, signature_name: str, inputs: Mapping[str, Array], output_names: Sequence[str], *, timeout: Any = None
    ) -> list[Array]:
        self.runs.append(inputs["x"])
        if self._gate is not None:
            assert self._gate.wait(30)
        if self._seconds:
            time.sleep(self._seconds)
        if (inputs["x"] < 0).any():
            raise InvalidArgument("negative")
        return [2 * inputs["x"]]

    def close(self) -> None:
        self.closed = True


def rows(*values: float, width: int = 1) -> dict[str, Array]:
    return {"x": np.repeat(np.float32(values)[:, None], width, axis=1)}


def ask(backend: Any, inputs: Mapping[str, Array], timeout: float | None = 30) -> Any:
    """The answer as a list, or the error."""
    try:
        return backend.run("serving_default", inputs, ["y"], timeout=timeout)[0].tolist()
    except StatusError as error:
        return error


def ask_at_once(backend: Any, asked: Sequence[Mapping[str, Array]], timeout: float | None = 30) -> list[Any]:
    with ThreadPoolExecutor(len(asked)) as pool:
        return list(pool.map(lambda inputs: ask(backend, inputs, timeout), asked))


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.001)


def held(model: Doubling, **options: Any) -> Any:
    """A backend that runs one batch at a time, and has learned that many rows cost no more than one."""
    backend = BatchWhileBusy(model, together=True, slots=1, **options)
    for size in [1, 2, 4, 8] * Sizes.ENOUGH:
        backend._sizes.setdefault("serving_default", Sizes()).add(size, 1)
    return backend


def run_behind_one(
    gate: threading.Event, backend: Any, asked: Sequence[Any], *, queued: int | None = None
) -> list[Any]:
    """Ask while one request holds the model, which goes on once all are in the queue."""
    with ThreadPoolExecutor(len(asked) + 1) as pool:
        first = pool.submit(ask, backend, rows(1))
        wait_until(lambda: bool(backend._backend.runs))
        others = [pool.submit(ask, backend, inputs) for inputs in asked]
        wait_until(lambda: len(backend._queue) == (len(asked) if queued is None else queued))
        gate.set()
        assert first.result(30) == [[2]]
        return [other.result(30) for other in others]


def test_what_arrives_during_a_run_goes_together_into_the_next() -> None:
    gate = threading.Event()
    model = Doubling(gate=gate)
    seen: list[int] = []
    backend = held(model, observer=lambda size, _: seen.append(size))
    assert run_behind_one(gate, backend, [rows(2), rows(3, 4), rows(5)]) == [[[4]], [[6], [8]], [[10]]]
    assert [len(run) for run in model.runs] == seen == [1, 4]


def test_a_request_that_fails_fails_alone() -> None:
    gate = threading.Event()
    backend = held(Doubling(gate=gate))
    good, bad, other = run_behind_one(gate, backend, [rows(2), rows(-1), rows(3)])
    assert (good, other) == ([[4]], [[6]])
    assert isinstance(bad, InvalidArgument)


def test_requests_of_other_shapes_are_not_put_together() -> None:
    gate = threading.Event()
    model = Doubling(gate=gate)
    assert run_behind_one(gate, held(model), [rows(2), rows(3, width=2)]) == [[[4]], [[6, 6]]]
    assert [run.shape for run in model.runs] == [(1, 1), (1, 1), (1, 2)]


def test_a_deadline_that_passes_in_the_queue_ends_that_request_only() -> None:
    gate = threading.Event()
    backend = held(Doubling(gate=gate))
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(ask, backend, rows(1))
        wait_until(lambda: backend._free == 0)
        patient = pool.submit(ask, backend, rows(2))
        assert isinstance(ask(backend, rows(3), 0.01), DeadlineExceeded)
        gate.set()
        assert (first.result(30), patient.result(30)) == ([[2]], [[4]])


class Asking:
    """Fake methods: the request is a number, the answer that of the backend."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def unary(self, _method: str, request: bytes, *, deadline: float | None, **_: Any) -> bytes:
        return str(ask(self._backend, rows(float(request)), deadline)).encode()


def test_a_call_without_a_deadline_waits(free_port: Callable[[], int]) -> None:
    """gRPC says so by a number of seconds that no clock can wait for."""
    gate, port = threading.Event(), free_port()
    backend = held(Doubling(gate=gate))
    server = GrpcServer(Asking(backend), GrpcServerOptions(port))  # type: ignore[arg-type]  # a fake
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        first = call.future(b"1")
        wait_until(lambda: backend._free == 0)
        second = call.future(b"2")
        wait_until(lambda: len(backend._queue) == 1)
        gate.set()
        assert (first.result(30), second.result(30)) == (b"[[2.0]]", b"[[4.0]]")
    server.stop(0)()


@pytest.mark.parametrize("together", [True, False])
def test_many_callers_get_their_own_answers(together: bool) -> None:
    model = Doubling(0.0005)
    backend = BatchWhileBusy(model, together=together, slots=2)
    asked = [rows(*range(index, index + 1 + index % 3)) for index in range(200)]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda inputs: ask(backend, inputs), asked))
    assert answers == [(2 * inputs["x"]).tolist() for inputs in asked]
    assert backend._free == 2
    assert together or len(model.runs) == 200


def test_a_quick_model_runs_where_its_request_is() -> None:
    model = Doubling()
    backend = held(model)
    wait_until(lambda: ask(backend, rows(1)) == [[2]] and backend._best_seconds < 100e-6)
    backend._free = 0  # nobody could pass the queue
    assert ask(backend, rows(2)) == [[4]]


def test_the_size_of_a_run_is_learned() -> None:
    """It grows while rows get cheaper, and stays at one for a model that batches make no faster."""
    gains, loses = Sizes(), Sizes()
    for _ in range(40):
        size = gains.limit()
        gains.add(size, 1 + 0.1 * size)
        loses.add(loses.limit(), float(loses.limit()))
    assert gains.limit() > 16
    assert loses.limit() == 1


# --enable_batching.


def session(model: Any, **options: Any) -> Any:
    return BatchSession(model, BatchingOptions(**options))


def test_a_batch_goes_when_it_is_full() -> None:
    model = Doubling()
    backend = session(model, max_rows=3, timeout=30, threads=1)
    assert ask_at_once(backend, [rows(1), rows(2), rows(3)]) == [[[2]], [[4]], [[6]]]
    assert [len(run) for run in model.runs] == [3]
    backend.close()
    assert model.closed


def test_a_batch_goes_when_its_time_is_up_and_is_rounded_up() -> None:
    """The last task's first row fills it; nobody sees those rows."""
    model = Doubling()
    backend = session(model, max_rows=8, timeout=0.01, allowed_rows=(4, 8), threads=1)
    assert ask(backend, rows(1, 2)) == [[2], [4]]
    assert [run.tolist() for run in model.runs] == [[[1], [2], [1], [1]]]
    backend.close()


def test_variable_lengths_are_padded_or_refused() -> None:
    asked = [rows(1), rows(2, width=3)]
    backend = session(Doubling(), max_rows=2, timeout=30, pad=True)
    assert ask_at_once(backend, asked) == [[[2, 0, 0]], [[4, 4, 4]]]
    backend.close()
    backend = session(Doubling(), max_rows=2, timeout=30)
    for answer in ask_at_once(backend, asked):
        assert isinstance(answer, FailedPrecondition)
        assert "Tensors with name 'x' from different tasks have different shapes" in answer.details
    backend.close()


def test_a_large_request_is_split_or_refused() -> None:
    model = Doubling()
    backend = session(model, max_rows=4, split=True, max_run_rows=2)
    assert ask(backend, rows(1, 2, 3)) == [[2], [4], [6]]
    assert sorted(len(run) for run in model.runs) == [1, 2]
    backend.close()
    backend = session(model, max_rows=2)
    assert ask(backend, rows(1, 2, 3)).details == "Task size 3 is larger than maximum input batch size 2"
    backend.close()


def test_a_full_queue_and_a_deadline_in_it() -> None:
    gate = threading.Event()
    model = Doubling(gate=gate)
    backend = session(model, max_rows=1, max_batches=1, threads=1)
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(ask, backend, rows(1))
        wait_until(lambda: bool(model.runs))
        late = ask(backend, rows(2), 0.01)
        assert isinstance(late, ResourceExhausted)
        assert late.details == "Run() timeout exceeded while waiting in batching queue"
        assert isinstance(ask(backend, rows(3)), Unavailable)
        gate.set()
        assert running.result(30) == [[2]]
    backend.close()


def test_a_request_in_a_batch_that_fails_fails_alone() -> None:
    backend = session(Doubling(), max_rows=2, timeout=30)
    answers = ask_at_once(backend, [rows(1), rows(-1)])
    assert answers[0] == [[2]]
    assert isinstance(answers[1], InvalidArgument)
    backend.close()


REFUSED = [
    ({}, "Batching Run() must have at least one input tensor"),
    ({"x": np.float32(1)}, "Batching Run() input tensors must have at least one dimension"),
    ({"x": np.zeros(2), "z": np.zeros(3)}, "Batching Run() input tensors must have equal 0th-dimension size"),
]


@pytest.mark.parametrize(("inputs", "text"), REFUSED)
def test_inputs_that_cannot_be_put_together(inputs: Any, text: str) -> None:
    backend = session(Doubling())
    assert ask(backend, {name: np.asarray(array) for name, array in inputs.items()}).details == text
    backend.close()


def test_batches_are_counted() -> None:
    """As TensorFlow Serving's metrics have it: the size with the padding, and the padding by that size."""
    counted = REGISTRY.first_value(":tensorflow:serving:batching_session:wrapped_run_count")
    backend = session(Doubling(), max_rows=8, allowed_rows=(4, 8), thread_pool="pool")
    assert ask(backend, rows(1, 2)) == [[2], [4]]
    backend.close()
    assert REGISTRY.first_value(":tensorflow:serving:batching_session:wrapped_run_count") == counted + 1
    text = REGISTRY.text()
    assert ':batching_session:queuing_latency_count{thread_pool_name="pool"} 1\n' in text
    assert ':batching_session:padding_size_sum{execution_batch_size="4"}' in text


def test_parameters(tmp_path: Path) -> None:
    file = tmp_path / "batching"
    file.write_text(
        "max_batch_size { value: 8 } batch_timeout_micros { value: 2000 } max_enqueued_batches { value: 3 } "
        "num_batch_threads { value: 2 } allowed_batch_sizes: 4 allowed_batch_sizes: 8 pad_variable_length_inputs: true "
        "enable_large_batch_splitting { value: true } max_execution_batch_size { value: 8 }"
    )
    assert read_batching(file) == BatchingOptions(8, 0.002, 3, 2, (4, 8), pad=True, split=True, max_run_rows=8)
    with pytest.raises(InvalidArgument, match="last entry was 4; expected 8"):
        session(Doubling(), max_rows=8, allowed_rows=(4,))
