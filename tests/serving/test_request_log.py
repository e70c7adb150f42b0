"""Requests that are kept: what the files hold, that a version can be warmed up with them, that the end loses none."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from keraship.serving.tfrecord import crc32c, read_records
from keraship.wire import to_array, to_tensor
from keraship.wire.messages import PredictionLog, PredictRequest

WARMUP = "assets.extra/tf_serving_warmup_requests"


def predict_request(*rows: list[float]) -> Any:
    request = PredictRequest()
    request.model_spec.name = "linear"
    to_tensor(np.float32(rows), into=request.inputs["x"])
    return request


def logs_in(folder: Path) -> list[Any]:
    files = sorted(folder.glob("linear/*/*.tfrecord"))
    return [PredictionLog.FromString(record) for file in files for record in read_records(file)]


def test_what_is_kept_warms_the_next_version_up(
    serve: Callable[..., Any], save_linear: Callable[..., Path], tmp_path: Path
) -> None:
    """A call over gRPC and one over REST, written by the time that SIGTERM ends the server; a failed one is not."""
    base = tmp_path / "repo" / "linear"
    save_linear(base, 3)
    running = serve(tmp_path / "repo", f"--request_log_dir={tmp_path / 'log'}")
    running.call("PredictionService/Predict", predict_request([1, 2]))
    assert running.post("/v1/models/linear:predict", {"instances": [[3, 4], [5, 6]]}).status == 200
    assert running.post("/v1/models/linear:predict", {"instances": [[3]]}).status == 400
    assert running.end() == 0
    first, second = (log.predict_log for log in logs_in(tmp_path / "log"))
    assert to_array(first.request.inputs["x"]).tolist() == [[1, 2]]
    assert to_array(first.response.outputs["y"]).tolist() == [[11]]
    assert to_array(second.request.inputs["x"]).tolist() == [[3, 4], [5, 6]]
    assert to_array(second.response.outputs["y"]).tolist() == [[21], [31]]
    assert second.response.model_spec.version.value == 3
    (file,) = (tmp_path / "log" / "linear" / "3").iterdir()

    version = save_linear(tmp_path / "next" / "linear", 4)
    (version / WARMUP).parent.mkdir()
    shutil.copy(file, version / WARMUP)
    running = serve(tmp_path / "next")
    assert running.post("/v1/models/linear:predict", {"instances": [[1, 2]]}).json == {"predictions": [[12.0]]}


def test_a_share_of_none_keeps_nothing(
    serve: Callable[..., Any], save_linear: Callable[..., Path], tmp_path: Path
) -> None:
    save_linear(tmp_path / "repo" / "linear", 3)
    running = serve(tmp_path / "repo", f"--request_log_dir={tmp_path / 'log'}", "--request_log_sampling=0")
    running.call("PredictionService/Predict", predict_request([1, 2]))
    assert running.end() == 0
    assert not logs_in(tmp_path / "log")


@given(st.integers(8 * 1024 - 2, 8 * 1024 + 2) | st.integers(9_000, 30_000), st.integers(0, 255))
def test_checksums_of_large_records(size: int, seed: int) -> None:
    """Pieces side by side give what byte after byte gives."""
    data = np.random.default_rng(seed).bytes(size)
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = (state >> 1) ^ (0x82F63B78 if state & 1 else 0)
    assert crc32c(data) == state ^ 0xFFFFFFFF
