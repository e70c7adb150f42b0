"""Processes whose models change while they run: by the config file, by a call, and at the end."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import hot_swaps
import numpy as np
import pytest
from google.protobuf import text_format

from keraship import bundle
from keraship.serving.tfrecord import record
from keraship.wire import to_tensor
from keraship.wire.messages import PredictionLog, PredictRequest, ReloadConfigRequest

RELOAD = "ModelService/HandleReloadConfigRequest"
POLL = "--file_system_poll_wait_seconds=1"


def entry(path: Path, more: str = "") -> str:
    return f'config {{ name: "{path.name}" base_path: "{path}" model_platform: "tensorflow" {more} }}'


def write(file: Path, *entries: str) -> Path:
    """At once, as whoever polls it may look at any moment."""
    new = file.with_suffix(".new")
    new.write_text(f"model_config_list {{ {' '.join(entries)} }}")
    return new.rename(file)


def reload_request(*entries: str) -> Any:
    text = f"config {{ model_config_list {{ {' '.join(entries)} }} }}"
    return text_format.Parse(text, ReloadConfigRequest())


def refused(server: Any, request: Any, timeout: float = 30) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        server.call(RELOAD, request, timeout)
    return caught.value.code().name, caught.value.details()


def predict(model: str, **spec: Any) -> Any:
    request = PredictRequest()
    request.model_spec.name = model
    for field, value in spec.items():
        setattr(request.model_spec, field, value)
    to_tensor(np.zeros((1, 2), np.float32), into=request.inputs["x"])
    return request


def answer(server: Any, model: str, **spec: Any) -> float:
    response = server.call("PredictionService/Predict", predict(model, **spec))
    value: float = response.outputs["y"].float_val[0]
    assert value == response.model_spec.version.value
    return value


def states(server: Any, model: str) -> dict[str, str]:
    body = server.ask("GET", f"/v1/models/{model}").json
    return {each["version"]: each["state"] for each in body.get("model_version_status", [])}


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)


def test_models_change_by_a_call(serve: Any, tmp_path: Path, save_linear: Callable[..., Path]) -> None:
    """A server that starts with none: the answer comes when the new ones can be asked."""
    for name, version in (("a", 1), ("b", 2), ("b", 3)):
        save_linear(tmp_path / name, version)
    (tmp_path / "config").write_text("")
    server = serve(f"--model_config_file={tmp_path / 'config'}", "--max_num_load_retries=0")
    assert server.ask("GET", "/v1/models/a").status == 404
    assert refused(server, ReloadConfigRequest()) == (
        "INVALID_ARGUMENT",
        "ServerModelConfig type not supported by HandleReloadConfigRequest. "
        "Only ModelConfigList is currently supported",
    )
    request = reload_request(entry(tmp_path / "a"))
    request.metric_names.append(":no:such:metric")
    response = server.call(RELOAD, request)
    assert (response.status.error_code, response.status.error_message) == (0, "")
    assert [(each.name, each.int64_value_increase) for each in response.metric] == [(":no:such:metric", 0)]
    assert answer(server, "a") == 1
    all_ = "model_version_policy { all {} }"
    server.call(RELOAD, reload_request(entry(tmp_path / "a"), entry(tmp_path / "b", all_)))
    wait_for(lambda: states(server, "b") == {"3": "AVAILABLE", "2": "AVAILABLE"})
    labels = 'version_labels { key: "stable" value: 2 } version_labels { key: "canary" value: 3 }'
    server.call(RELOAD, reload_request(entry(tmp_path / "b", all_ + labels)))
    wait_for(lambda: states(server, "a") == {"1": "END"})
    assert answer(server, "b", version_label="stable") == 2
    assert server.post("/v1/models/b/labels/canary:predict", {"instances": [[0, 0]]}).json == {"predictions": [[3.0]]}
    metadata = server.ask("GET", "/v1/models/b/labels/stable/metadata").json
    assert metadata["model_spec"]["version"] == "2"
    bad = tmp_path / "bad" / "1"
    bad.mkdir(parents=True)
    (bad / "model.onnx").write_bytes(b"junk")
    code, details = refused(server, reload_request(entry(tmp_path / "b", all_), entry(tmp_path / "bad")))
    assert code == "UNKNOWN"
    assert details.startswith(
        "1 model(s) did not become available: {{name: bad version: 1} due to error: FAILED_PRECONDITION: "
    )
    moved = 'version_labels { key: "stable" value: 9 }'
    assert refused(server, reload_request(entry(tmp_path / "b", all_ + moved))) == (
        "FAILED_PRECONDITION",
        "Request to assign label to version 9 of model b, which is not currently available for inference",
    )


def test_the_config_file_is_read_again(serve: Any, tmp_path: Path, save_linear: Callable[..., Path]) -> None:
    """With a mistake in it the log says where, and the models stay."""
    for name in "ab":
        save_linear(tmp_path / name, 1)
    file = write(tmp_path / "models.config", entry(tmp_path / "a"))
    server = serve(f"--model_config_file={file}", "--model_config_file_poll_wait_seconds=1")
    write(file, entry(tmp_path / "b"))
    wait_for(lambda: states(server, "b") == {"1": "AVAILABLE"} and states(server, "a") == {"1": "END"})
    file.write_text("model_config_list {\n  config { nme: 1 } }")
    server.wait_for_log("Error parsing text-format tensorflow.serving.ModelServerConfig: 2:12: Message type")
    server.wait_for_log(f"Failed to read ModelServerConfig file: Invalid protobuf file: '{file}'")
    write(file, entry(tmp_path / "b"), entry(tmp_path / "b"))
    words = "PollFilesystemAndReloadConfig failed to ReloadConfig: "
    server.wait_for_log(words + "Illegal to list model b multiple times in config list")
    write(file, entry(tmp_path / "b"), entry(tmp_path / "a", 'version_labels { key: "x" value: 7 }'))
    server.wait_for_log(words + "Request to assign label to version 7 of model a")
    assert answer(server, "b") == 1
    assert states(server, "a") == {"1": "END"}


MISTAKES = [
    ("model_config_list { config { nme: 1 } }", "1:30: Message type "),
    ('model_config_list {\n config { name: "a" base_path: "/a" model_platform: 1 }\n}', "2:53: Expected string"),
]


@pytest.mark.parametrize(("text", "where"), MISTAKES)
def test_a_mistake_in_a_config_file_ends_the_start(run_to_end: Any, tmp_path: Path, text: str, where: str) -> None:
    """protobuf's line on stderr, tensorflow_model_server's on stdout, and its status."""
    file = tmp_path / "models.config"
    file.write_text(text)
    ended = run_to_end(f"--model_config_file={file}")
    assert ended.returncode == 255
    assert f"Error parsing text-format tensorflow.serving.ModelServerConfig: {where}" in ended.stderr
    assert ended.stdout == f"Failed to start server. Error: INVALID_ARGUMENT: Invalid protobuf file: '{file}'\n"
    assert "Traceback" not in ended.stderr


def test_a_config_file_that_is_not_there(run_to_end: Any, tmp_path: Path) -> None:
    ended = run_to_end(f"--model_config_file={tmp_path}/no")
    assert ended.returncode == 255
    assert ended.stdout == f"Failed to start server. Error: NOT_FOUND: {tmp_path}/no; No such file or directory\n"


def test_a_label_that_points_nowhere_ends_the_start(
    run_to_end: Any, serve: Any, tmp_path: Path, save_linear: Callable[..., Path], free_port: Callable[[], int]
) -> None:
    save_linear(tmp_path / "m", 4)
    file = write(tmp_path / "models.config", entry(tmp_path / "m", 'version_labels { key: "stable" value: 4 }'))
    ended = run_to_end(f"--model_config_file={file}", f"--port={free_port()}")
    assert ended.returncode == 255
    assert ended.stdout == (
        "Failed to start server. Error: FAILED_PRECONDITION: Request to assign label to version 4 of model m, "
        "which is not currently available for inference\n"
    )
    server = serve(f"--model_config_file={file}", "--allow_version_labels_for_unavailable_models")
    assert answer(server, "m", version_label="stable") == 4


def test_a_grpc_port_in_use_ends_the_start(run_to_end: Any, linear_server: Any, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("")
    ended = run_to_end(f"--model_config_file={tmp_path / 'config'}", f"--port={linear_server.port}")
    assert ended.returncode == 255
    assert ended.stdout == "Failed to start server. Error: INVALID_ARGUMENT: Failed to BuildAndStart gRPC server\n"
    assert f"cannot serve gRPC at 0.0.0.0:{linear_server.port}" in ended.stderr


def test_what_loads_is_served(serve: Any, tmp_path: Path, save_linear: Callable[..., Path]) -> None:
    """The broken model says why, and comes when it is mended; so does the one that was missing."""
    save_linear(tmp_path / "good", 1)
    junk = tmp_path / "bad" / "1" / "model.onnx"
    junk.parent.mkdir(parents=True)
    junk.write_bytes(b"junk")
    file = write(tmp_path / "config", *(entry(tmp_path / name) for name in ("good", "bad", "missing")))
    quick = "--load_retry_interval_micros=100000"
    server = serve(f"--model_config_file={file}", "--serve_what_loads", quick, "--max_num_load_retries=10000", POLL)
    assert answer(server, "good") == 1
    (status,) = server.ask("GET", "/v1/models/bad").json["model_version_status"]
    assert (status["state"], status["status"]["error_code"]) == ("LOADING", "FAILED_PRECONDITION")
    assert "onnxruntime cannot load" in status["status"]["error_message"]
    assert f"Could not find base path {tmp_path}/missing" in server.ask("GET", "/v1/models/missing").json["error"]
    junk.write_bytes((tmp_path / "good" / "1" / "model.onnx").read_bytes())
    save_linear(tmp_path / "missing", 1)
    wait_for(lambda: states(server, "bad") == states(server, "missing") == {"1": "AVAILABLE"})


# Ends.


def test_sigterm_while_it_waits_for_models(serve: Any, tmp_path: Path) -> None:
    """No port is open, and the end is a good one: with nothing there, and in the pause between two tries."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "half" / "1").mkdir(parents=True)
    for name, words in (
        ("empty", "No versions of servable m found under base path"),
        ("missing", "FileSystemStoragePathSource encountered a filesystem access error: Could not find base path"),
        ("half", "Loading servable: {name: m version: 1} failed: NOT_FOUND: Could not find SavedModel .pb or .pbtxt"),
    ):
        server = serve("--model_name=m", f"--model_base_path={tmp_path / name}", wait=False)
        server.wait_for_log(words)
        assert server.end() == 0, name


def test_sigterm_while_a_model_loads(serve: Any, tmp_path: Path, save_slow: Callable[..., Path]) -> None:
    """A load that takes for ever, here by its warm-up, does not keep the process."""
    warmup = save_slow(tmp_path / "m") / bundle.WARMUP
    warmup.parent.mkdir(parents=True)
    log = PredictionLog()
    to_tensor(np.float32(1 / 1024), into=log.predict_log.request.inputs["x"])
    warmup.write_bytes(record(log.SerializeToString()))
    server = serve(
        "--model_name=m",
        f"--model_base_path={tmp_path / 'm'}",
        "--num_request_iterations_for_warmup=100000",
        wait=False,
    )
    server.wait_for_log("Loading servable version {name: m version: 1}")
    time.sleep(0.5)
    assert server.end() == 0


def test_sigterm_while_a_reload_waits(serve: Any, tmp_path: Path, save_linear: Callable[..., Path]) -> None:
    save_linear(tmp_path / "m", 1)
    server = serve("--model_name=m", f"--model_base_path={tmp_path / 'm'}")
    with ThreadPoolExecutor() as pool:
        call = pool.submit(refused, server, reload_request(entry(tmp_path / "m"), entry(tmp_path / "missing")), 60)
        server.wait_for_log("Could not find base path")
        assert answer(server, "m") == 1
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0
        assert call.result() == ("UNAVAILABLE", "the server is shutting down")


# Swaps.


def test_hot_swaps() -> None:
    """The benchmark, in short: no request fails, each answer is that of the version it names."""
    result = hot_swaps.run(swaps=20, callers=4, weights=1000)
    assert result.failed == result.wrong == 0
    assert result.requests > 20
    assert result.versions_seen == 21


def test_memory_is_given_back(serve: Any, tmp_path: Path) -> None:
    """Of a model of 50 MB, once it is unloaded, less than a tenth stays."""
    hot_swaps.save(tmp_path / "big", 1, side=3600)
    (tmp_path / "config").write_text("")
    server = serve(f"--model_config_file={tmp_path / 'config'}")
    load, unload = reload_request(entry(tmp_path / "big")), reload_request()

    def swap() -> float:
        server.call(RELOAD, load)
        loaded = resident_megabytes(server)
        server.call(RELOAD, unload)
        wait_for(lambda: states(server, "big") == {"1": "END"})
        return loaded

    swap()  # what the first load brings beside the model stays: libraries, threads
    before = resident_megabytes(server)
    assert swap() > before + 40
    assert resident_megabytes(server) < before + 5


def resident_megabytes(server: Any) -> float:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1000
