"""The text that Prometheus reads is that of tensorflow_model_server, and nothing that is counted is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keraship.serving.metrics import Registry, exponential, prometheus_name
from keraship.wire import to_tensor
from keraship.wire.messages import PredictRequest


def test_counters_and_gauges() -> None:
    """A type line without cells, braces without labels, order of names and of labels, escapes."""
    registry = Registry()
    registry.counter("/test/none", "name")
    total = registry.counter("/test/a-total", "my-name+1", "status")
    total.add(("b", "OK"), 2)
    total.add(('\\"\n', "OK"))
    registry.gauge("/test/gauge").set(5)
    assert registry.text() == (
        "# TYPE :test:a:total counter\n"
        ':test:a:total{my_name_1="\\\\\\"\\n",status="OK"} 1\n'
        ':test:a:total{my_name_1="b",status="OK"} 2\n'
        "# TYPE :test:gauge gauge\n"
        ":test:gauge{} 5\n"
        "# TYPE :test:none counter\n"
    )
    assert registry.first_value(":test:gauge") == registry.first_value("/test/gauge") == 5
    assert registry.first_value("/test/other") == 0
    assert prometheus_name("0/path") == "_0:path"


def test_histograms() -> None:
    """Buckets add up; a value that is a limit lies above it, as in TensorFlow."""
    registry = Registry()
    histogram = registry.histogram("/h", "status", limits=exponential(1, 2, 3))
    for value in (0.5, 2, 200):
        histogram.add(value, ("good",))
    assert registry.text() == (
        "# TYPE :h histogram\n"
        ':h_bucket{status="good",le="1"} 1\n'
        ':h_bucket{status="good",le="2"} 1\n'
        ':h_bucket{status="good",le="4"} 2\n'
        ':h_bucket{status="good",le="+Inf"} 3\n'
        ':h_sum{status="good"} 202.5\n'
        ':h_count{status="good"} 3\n'
    )


def test_threads_lose_no_count() -> None:
    counter = Registry().counter("/c")
    threads = [threading.Thread(target=lambda: [counter.add() for _ in range(5000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.first() == 20_000


def test_what_strangers_send_takes_no_memory_without_end() -> None:
    counter = Registry().counter("/c", "model")
    for number in range(10_100):
        counter.add((str(number),))
    counter.add(("n" * 5000,))
    cells = counter.cells()
    assert len(cells) == 10_001
    assert cells[("...",)] == 101


def test_a_served_model_is_counted(serve: Any, tmp_path: Path, save_linear: Callable[..., Path]) -> None:
    """Every request over REST, predictions over gRPC; latencies of those that succeeded; the path, and only that."""
    save_linear(tmp_path / "m", 1)
    config = tmp_path / "monitoring"
    config.write_text('prometheus_config { enable: true path: "/v1/counts" }')
    server = serve("--model_name=m", f"--model_base_path={tmp_path}/m", f"--monitoring_config_file={config}")
    server.post("/v1/models/m:predict", {"instances": [[1, 2]]})
    server.ask("POST", "/v1/models/m:predict", "{")
    server.ask("GET", "/v1/nothing")
    request = PredictRequest()
    request.model_spec.name = "m"
    to_tensor(np.float32([[1, 2]]), into=request.inputs["x"])
    server.call("PredictionService/Predict", request)
    page = server.ask("GET", "/v1/counts")
    assert (page.status, page.headers["content-type"]) == (200, "text/plain")
    serving = ":tensorflow:serving:"
    for line in (
        f'{serving}request_count{{model_name="",status="INVALID_ARGUMENT"}} 1',
        f'{serving}request_count{{model_name="m",status="INVALID_ARGUMENT"}} 1',
        f'{serving}request_count{{model_name="m",status="OK"}} 2',
        f'{serving}request_latency_count{{model_name="m",API="predict",entrypoint="REST"}} 1',
        f'{serving}request_latency_count{{model_name="m",API="Predict",entrypoint="GRPC"}} 1',
        f'{serving}runtime_latency_count{{model_name="m",API="Predict",runtime="TF1"}} 2',
        f':tensorflow:cc:saved_model:load_attempt_count{{model_path="{tmp_path}/m/1",status="success"}} 1',
    ):
        assert line in page.body.decode().splitlines()
    other = server.ask("PUT", "/v1/counts?x")
    assert (other.status, other.body) == (400, b"Unexpected path: /v1/counts?x. Should be /v1/counts")
