"""TensorFlow Serving's metrics, under its names, and what adds to them.

The names, the labels and the buckets are those of tensorflow_serving/servables/tensorflow/util.cc,
saved_model_warmup_util.cc, batching/batching_session.cc and tensorflow/cc/saved_model/loader.cc. A process has one set,
as there: whoever has something to count imports it from here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from keraship.errors import StatusError
from keraship.serving.metrics import Registry, exponential

REGISTRY = Registry()

_LATENCY = exponential(10, 1.8, 33)  # microseconds; to about twenty minutes
_SERVING = "/tensorflow/serving"
_BATCHING = f"{_SERVING}/batching_session"
_SAVED_MODEL = "/tensorflow/cc/saved_model"

_requests = REGISTRY.counter(f"{_SERVING}/request_count", "model_name", "status")
_request_latency = REGISTRY.histogram(f"{_SERVING}/request_latency", "model_name", "API", "entrypoint", limits=_LATENCY)
_runtime_latency = REGISTRY.histogram(f"{_SERVING}/runtime_latency", "model_name", "API", "runtime", limits=_LATENCY)
_examples = REGISTRY.histogram(f"{_SERVING}/request_example_counts", "model", limits=exponential(1, 2, 15))
_examples_total = REGISTRY.counter(f"{_SERVING}/request_example_count_total", "model")
_logged = REGISTRY.counter(f"{_SERVING}/request_log_count", "model_name", "status_code")
_warm_up_latency = REGISTRY.histogram(f"{_SERVING}/model_warmup_latency", "model_path", "status", limits=_LATENCY)
_warm_up_records = REGISTRY.counter(f"{_SERVING}/model_warmup_records_read", "model_path", "status")
REGISTRY.gauge(f"{_SERVING}/mlmd_map", "model_name", "version")  # nothing sets it here; its name stands on the page
_queuing_latency = REGISTRY.histogram(
    f"{_BATCHING}/queuing_latency", "thread_pool_name", limits=exponential(100, 1.2, 52)
)
_input_batch_size = REGISTRY.histogram(f"{_BATCHING}/input_batch_size", limits=exponential(1, 2, 15))
_processed_batch_size = REGISTRY.histogram(f"{_BATCHING}/processed_batch_size", limits=exponential(1, 2, 15))
_padding_size = REGISTRY.histogram(f"{_BATCHING}/padding_size", "execution_batch_size", limits=exponential(1, 2, 15))
_wrapped_runs = REGISTRY.counter(f"{_BATCHING}/wrapped_run_count")
_load_attempts = REGISTRY.counter(f"{_SAVED_MODEL}/load_attempt_count", "model_path", "status")
_load_latency = REGISTRY.counter(f"{_SAVED_MODEL}/load_latency", "model_path")


def count_request(model: str, status: str, *, api: str, entrypoint: str, seconds: float) -> None:
    """A request was answered.

    model: the name it asked for; "" where it named none. status: the code's name. api: "Predict" over gRPC, "predict"
    over REST, "" for what is no inference. entrypoint: "GRPC" or "REST".
    """
    _requests.add((model, status))
    if status == "OK":
        _request_latency.add(seconds * 1e6, (model, api, entrypoint))


def traffic() -> dict[str, Any]:
    """What was answered since the start, as JSON can hold it.

    limits: of the latencies' buckets, in microseconds. models: by name, "answered" with "buckets" (inference alone, the
    last bucket has no limit), and "failed", of whatever kind.
    """
    models: dict[str, dict[str, Any]] = {}

    def of(name: str) -> dict[str, Any]:
        return models.setdefault(name, {"answered": 0, "failed": 0, "buckets": [0] * (len(_LATENCY) + 1)})

    for (name, api, _), (counts, _) in _request_latency.cells().items():
        if api:
            entry = of(name)
            entry["answered"] += sum(counts)
            entry["buckets"] = [old + new for old, new in zip(entry["buckets"], counts, strict=True)]
    for (name, status), count in _requests.cells().items():
        if status != "OK":
            of(name)["failed"] += count
    return {"limits": list(_LATENCY), "models": models}


def count_call(model: str, api: str, run: Callable[[], Any]) -> Any:
    """What `run` returns, counted as a call over gRPC."""
    status, begin = "OK", time.perf_counter()
    try:
        return run()
    except StatusError as error:
        status = error.code
        raise
    except BaseException:
        status = "INTERNAL"
        raise
    finally:
        count_request(model, status, api=api, entrypoint="GRPC", seconds=time.perf_counter() - begin)


def counted(api: str, handler: Callable[[Any, float | None], Any]) -> Callable[[Any, float | None], Any]:
    """An RPC's handler, counted: for requests that have a model_spec."""

    def handle(request: Any, deadline: float | None) -> Any:
        return count_call(request.model_spec.name, api, lambda: handler(request, deadline))

    return handle


def count_run(model: str, api: str, seconds: float) -> None:
    """A model ran, and did not fail. api: "Predict", "Classify" or "Regress", whatever the entry point."""
    _runtime_latency.add(seconds * 1e6, (model, api, "TF1"))


def count_examples(model: str, examples: int) -> None:
    """A MultiInference request had so many examples."""
    _examples.add(examples, (model,))
    _examples_total.add((model,), examples)


def count_logged(model: str, status: str) -> None:
    """A request was logged, or could not be; status: the code's name."""
    _logged.add((model, status))


def count_warm_up(model_path: str, status: str, *, seconds: float, records: int) -> None:
    """A version's warm-up requests were run; status: the code's name."""
    _warm_up_latency.add(seconds * 1e6, (model_path, status))
    _warm_up_records.add((model_path, status), records)


@contextmanager
def counted_load(model_path: str) -> Iterator[None]:
    """The block is one attempt to load a version."""
    begin = time.perf_counter()
    try:
        yield
    except BaseException:
        _load_attempts.add((model_path, "fail"))
        raise
    _load_attempts.add((model_path, "success"))
    _load_latency.add((model_path,), round((time.perf_counter() - begin) * 1e6))


def count_batched_call(thread_pool: str, *, seconds_queued: float, rows: int) -> None:
    """A call went into a batch. Nothing but --enable_batching calls this: these metrics are its."""
    _queuing_latency.add(seconds_queued * 1e6, (thread_pool,))
    _input_batch_size.add(rows)


def count_batch(rows: int, *, padding: int) -> None:
    """A batch ran. rows: with the padding."""
    _processed_batch_size.add(rows)
    _padding_size.add(padding, (str(rows),))
    _wrapped_runs.add()
