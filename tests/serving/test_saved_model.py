"""SavedModels as TensorFlow's C++ loader has them: what is loaded, what is not, and in which words."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format

from keraship.errors import StatusError
from keraship.serving import config, tfrecord
from keraship.serving.backend import BackendOptions, open_backend
from keraship.serving.prediction import PredictCall, predict
from keraship.serving.servable import Servable
from keraship.serving.text_proto import BadTextProto
from keraship.serving.warmup import WarmupOptions, warm_up
from keraship.wire.messages import ClassificationRequest, Example, MultiInferenceRequest, PredictionLog

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # TensorFlow's own, at its import

VERSION = "00000123"


def opened(folder: Path, **options: Any) -> Servable:
    return Servable("m", 1, open_backend(folder, BackendOptions(kind="tensorflow", **options)))


def ask(servable: Servable, inputs: dict[str, Any], **call: Any) -> dict[str, Any]:
    return predict(servable, PredictCall(inputs=inputs, read=np.float32, **call)).outputs


def refused(run: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(StatusError) as caught:
        run()
    return caught.value.code, caught.value.details


@pytest.fixture
def half_plus_two(saved_models: Path, tmp_path: Path) -> Path:
    """A copy to be broken."""
    return Path(shutil.copytree(saved_models / "half_plus_two" / VERSION, tmp_path / "1"))


def saved_model(folder: Path) -> Any:
    from tensorflow.core.protobuf import saved_model_pb2

    return saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())


# What is loaded.


def test_files_of_the_version_are_found(half_plus_two: Path) -> None:
    """The graph was told of them as it started; the file that it was made with is gone."""
    contents = ask(opened(half_plus_two), {"x": [1]}, signature_name="asset")["contents"]
    assert contents.tolist() == b"asset-file-contents"


def test_a_model_in_text_form(half_plus_two: Path) -> None:
    (half_plus_two / "saved_model.pbtxt").write_text(text_format.MessageToString(saved_model(half_plus_two)))
    (half_plus_two / "saved_model.pb").unlink()
    assert ask(opened(half_plus_two), {"x": [2]})["y"].tolist() == [3.0]


@pytest.mark.parametrize(("tags", "answer"), [(("serve",), 0.0), (("serve", "gpu"), 1.0), (("gpu", "serve"), 1.0)])
def test_tags_choose_the_graph(saved_models: Path, tags: tuple[str, ...], answer: float) -> None:
    """All of a graph's tags, in whatever order."""
    assert ask(opened(saved_models / "tagged" / VERSION, tags=tags), {})["y"].tolist() == [answer]


def test_a_model_keeps_its_state(saved_models: Path) -> None:
    """And each load has one of its own."""
    counter = opened(saved_models / "counter" / VERSION)
    said = [
        ask(counter, inputs, signature_name=name)["output"].item()
        for name, inputs in (
            ("get_counter", {}),
            ("incr_counter", {}),
            ("incr_counter_by", {"delta": 3.0}),
            ("incr_counter", {}),
            ("reset_counter", {}),
            ("incr_counter", {}),
        )
    ]
    assert said == [0.0, 1.0, 4.0, 5.0, 0.0, 1.0]
    assert ask(opened(saved_models / "counter" / VERSION), {}, signature_name="get_counter")["output"].item() == 0


NO_DEFAULT = (
    "Signature input alias: x(feed name: other:0) not found in request and no default value provided. "
    "Inputs expected to be in the request {%s}, or default input alias set: {k}"
)
DEFAULTS: list[tuple[dict[str, Any], list[float] | str]] = [
    ({"x": [1]}, [11.0]),
    ({"x": [1], "k": [2]}, [3.0]),
    ({"k": [2]}, NO_DEFAULT % "k"),
    ({}, NO_DEFAULT % ""),
    ({"x": [1], "z": [1]}, "Inputs contains invalid name. Used request inputs: {x}, request input: {x,z}"),
    (
        {"x": [1], "k": [1], "z": [1]},
        "input size does not match signature: 3!=2 len({k,x,z}) != len({k,x}). Sent extra: {z}. "
        "Missing but required: {}.",
    ),
]


@pytest.mark.parametrize(("inputs", "answer"), DEFAULTS)
def test_inputs_with_defaults_may_be_left_out(odd: Servable, inputs: dict[str, Any], answer: list[float] | str) -> None:
    if isinstance(answer, str):
        assert refused(lambda: ask(odd, inputs)) == ("INVALID_ARGUMENT", answer)
    else:
        assert ask(odd, inputs)["y"].tolist() == answer


@pytest.fixture(scope="module")
def odd(saved_models: Path) -> Iterator[Servable]:
    servable = opened(saved_models / "odd" / VERSION)
    yield servable
    servable.backend.close()


def test_a_timeout_ends_a_run_in_tensorflows_words(odd: Servable) -> None:
    found = refused(lambda: ask(odd, {"x": [1]}, signature_name="slow", timeout=0.2))
    assert found == ("DEADLINE_EXCEEDED", "Timed out waiting for notification")


# What is not.


def test_missing_variables_are_missed_when_they_are_read(half_plus_two: Path) -> None:
    """Not by the load: https://github.com/tensorflow/serving/issues/1086."""
    shutil.rmtree(half_plus_two / "variables")
    servable = opened(half_plus_two)
    code, details = refused(lambda: ask(servable, {"x": [2]}))
    assert code == "FAILED_PRECONDITION"
    assert details.startswith("Could not find variable ")
    assert details.endswith("}}]]")


def test_variables_without_their_data(half_plus_two: Path) -> None:
    (data,) = (half_plus_two / "variables").glob("*.data*")
    data.unlink()
    details = f"{data}; No such file or directory\n\t [[{{{{node save/RestoreV2}}}}]]"
    assert refused(lambda: opened(half_plus_two)) == ("NOT_FOUND", details)


BROKEN = [
    ("saved_model.pb", b"junk", "Can't parse {} as binary proto"),
    ("saved_model.pbtxt", b"no: field", "Can't parse {} as text proto"),
    ("saved_model.pbtxt", b"\xff", "Can't parse {} as text proto"),
]


@pytest.mark.parametrize(("name", "content", "details"), BROKEN)
def test_files_that_are_no_model(tmp_path: Path, name: str, content: bytes, details: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert refused(lambda: opened(tmp_path)) == ("DATA_LOSS", details.format(tmp_path / name))


def test_an_empty_file_has_no_graph_with_the_tags(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"")
    assert refused(lambda: opened(tmp_path, tags=("serve", "tpu"))) == (
        "NOT_FOUND",
        "Could not find meta graph def matching supplied tags: { serve tpu }. To inspect available tag-sets in the "
        "SavedModel, please use the SavedModel CLI: `saved_model_cli`",
    )


def test_a_model_in_chunks_is_refused(half_plus_two: Path) -> None:
    (half_plus_two / "saved_model.pb").rename(half_plus_two / "saved_model.cpb")
    assert refused(lambda: opened(half_plus_two))[0] == "UNIMPLEMENTED"


def test_an_operation_that_nobody_has(half_plus_two: Path) -> None:
    message = saved_model(half_plus_two)
    node = next(node for node in message.meta_graphs[0].graph_def.node if node.op.startswith("ParseExample"))
    node.op = "NobodysOp"
    (half_plus_two / "saved_model.pb").write_bytes(message.SerializeToString())
    code, details = refused(lambda: opened(half_plus_two))
    assert code == "NOT_FOUND"
    assert details.startswith("Op type not registered 'NobodysOp' in binary running on ")


def test_tensors_that_are_not_there_are_missed_when_they_are_asked_for(half_plus_two: Path) -> None:
    message = saved_model(half_plus_two)
    signatures = message.meta_graphs[0].signature_def
    signatures["no_output"].CopyFrom(signatures["serving_default"])
    signatures["no_output"].outputs["y"].name = "nowhere:0"
    signatures["no_input"].CopyFrom(signatures["serving_default"])
    signatures["no_input"].inputs["x"].name = "nowhere:0"
    (half_plus_two / "saved_model.pb").write_bytes(message.SerializeToString())
    servable = opened(half_plus_two)
    assert ask(servable, {"x": [2]})["y"].tolist() == [3.0]
    for name, details in (
        ("no_output", "FetchOutputs node nowhere:0: not found"),
        ("no_input", "FeedInputs: unable to find feed output nowhere:0"),
    ):
        assert refused(lambda name=name: ask(servable, {"x": [2]}, signature_name=name)) == ("NOT_FOUND", details)  # type: ignore[misc]


# Warm-up.


def record(log: Any) -> bytes:
    return tfrecord.record(log.SerializeToString())


def example() -> Any:
    message = Example()
    message.features.feature["x"].float_list.value.append(2)
    return message


def log_of(kind: str, signature: str) -> Any:
    """A recorded request to classify or to regress; the model that it names does not count."""
    log = PredictionLog()
    request = getattr(log, f"{kind}_log").request
    request.model_spec.signature_name = signature
    request.model_spec.name = "another"
    request.input.example_list.examples.append(example())
    return log


def multi_log(*signatures: str, model: str = "another") -> Any:
    log = PredictionLog()
    request: Any = log.multi_inference_log.request
    for signature in signatures:
        task = request.tasks.add(method_name="tensorflow/serving/regress")
        task.model_spec.signature_name = signature
        task.model_spec.name = model
    request.input.example_list.examples.append(example())
    return log


WARMUPS = [
    (log_of("classify", "classify_x_to_y"), None),
    (log_of("regress", "regress_x_to_y"), None),
    (multi_log("regress_x_to_y", "regress_x_to_y2"), None),
    (log_of("classify", "no"), "No signature was found with the name: no"),
    (log_of("regress", "classify_both"), "Expected one output Tensor."),
    (multi_log("regress_x_to_y", "no"), "Requested signature not found in model graph: no"),
    (multi_log("regress_x_to_y", model=""), "Found ModelSpec with an empty model name."),
]


@pytest.fixture(scope="module")
def to_warm_up(saved_models: Path) -> Iterator[Servable]:
    servable = opened(saved_models / "half_plus_two" / VERSION)
    yield servable
    servable.backend.close()


@pytest.mark.parametrize(("log", "fault"), WARMUPS)
def test_every_kind_of_request_warms_up(to_warm_up: Servable, tmp_path: Path, log: Any, fault: str | None) -> None:
    write_warmup(tmp_path, record(log))
    if fault is None:
        warm_up(to_warm_up, tmp_path, WarmupOptions())
    else:
        found = refused(lambda: warm_up(to_warm_up, tmp_path, WarmupOptions()))
        assert found == ("INVALID_ARGUMENT", fault)


def test_methods_are_checked_as_for_callers(to_warm_up: Servable, tmp_path: Path) -> None:
    write_warmup(tmp_path, record(multi_log("classify_both")))
    code, details = refused(lambda: warm_up(to_warm_up, tmp_path, WarmupOptions(check_method=True)))
    assert (code, details.partition(". Was")[0]) == (
        "INVALID_ARGUMENT",
        "Expected regression signature method_name to be tensorflow/serving/regress",
    )


def test_records_are_repeated(saved_models: Path, tmp_path: Path) -> None:
    """A counter counts how often."""
    counter = opened(saved_models / "counter" / VERSION)
    log = PredictionLog()
    log.predict_log.request.model_spec.signature_name = "incr_counter"
    write_warmup(tmp_path, record(log) * 2)
    warm_up(counter, tmp_path, WarmupOptions(iterations=5))
    assert ask(counter, {}, signature_name="get_counter")["output"].item() == 10


def write_warmup(folder: Path, content: bytes) -> None:
    (folder / "assets.extra").mkdir()
    (folder / "assets.extra" / "tf_serving_warmup_requests").write_bytes(content)


# Flags.


def test_a_session_configuration_with_a_mistake(tmp_path: Path) -> None:
    path = tmp_path / "session.txt"
    path.write_text("intra_op_parallelism_threads: 1\nno_such_field: 2\n")
    with pytest.raises(BadTextProto) as caught:
        config.session_config(config.parse_flags([f"--tensorflow_session_config_file={path}"]))
    assert caught.value.details == f"Invalid protobuf file: '{path}'"
    assert caught.value.log_line.startswith("Error parsing text-format tensorflow.ConfigProto: 2:1: ")


def test_an_op_library_that_is_not_there(
    run_to_end: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    ended = run_to_end(f"--model_base_path={tmp_path}", "--op_library=/no/ops.so")
    assert (ended.returncode, ended.stdout) == (
        255,
        "Failed to start server. Error: INVALID_ARGUMENT: "
        "expected files with TensorFlow's operations in --op_library; there is no /no/ops.so\n",
    )


def test_an_op_library_that_is_none(half_plus_two: Path, tmp_path: Path) -> None:
    library = tmp_path / "ops.so"
    library.write_bytes(b"junk")
    code, details = refused(lambda: opened(half_plus_two, op_libraries=(str(library),)))
    assert code == "FAILED_PRECONDITION"
    assert details.startswith(f"--op_library: TensorFlow cannot load {library}: ")


@pytest.fixture(scope="module")
def own_op(saved_models: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A library with an operation of its own, and the base path of a model that doubles by it; needs g++."""
    folder = tmp_path_factory.mktemp("own_op")
    spec = find_spec("tensorflow")
    assert spec is not None
    assert spec.origin is not None
    tensorflow, library = Path(spec.origin).parent, folder / "own_op.so"
    source = Path(__file__).with_name("own_op.cc")
    flags = ["-shared", "-fPIC", f"-I{tensorflow / 'include'}", f"-L{tensorflow}", "-l:libtensorflow_framework.so.2"]
    subprocess.run(["g++", source, "-o", library, *flags], check=True, timeout=100)
    version = shutil.copytree(saved_models / "half_plus_two" / VERSION, folder / "doubles" / "1")
    message = saved_model(version)
    (node,) = (node for node in message.meta_graphs[0].graph_def.node if node.name == "y")
    node.op = "KerashipDouble"
    node.attr.clear()
    node.input[:] = ["x"]
    (version / "saved_model.pb").write_bytes(message.SerializeToString())
    return library, folder / "doubles"


def test_operations_that_nobody_loaded(own_op: tuple[Path, Path]) -> None:
    code, details = refused(lambda: opened(own_op[1] / "1"))
    assert code == "NOT_FOUND"
    assert details.startswith("Op type not registered 'KerashipDouble' in binary running on ")


SCRIPT = """
import sys
import numpy as np
from pathlib import Path
from keraship.serving.backend import BackendOptions, open_backend
backend = open_backend(Path(sys.argv[1]), BackendOptions(kind="tensorflow"))
print(backend.run("serving_default", {"x": np.float32(21)}, ["y"])[0])
"""


def test_operations_of_tensorflow_text_are_there_where_it_is_installed(
    own_op: tuple[Path, Path], tmp_path: Path
) -> None:
    """As they are in tensorflow_model_server's binary; here a package of that name brings an operation of our own."""
    library, base = own_op
    (tmp_path / "tensorflow_text.py").write_text(f"import tensorflow as tf\ntf.load_op_library({str(library)!r})\n")
    command = [sys.executable, "-c", SCRIPT, str(base / "1")]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment, check=False)
    assert ended.stdout == "42.0\n", ended.stderr


@pytest.fixture(scope="module")
def flagged(
    saved_models: Path,
    own_op: tuple[Path, Path],
    tmp_path_factory: pytest.TempPathFactory,
    start_server: Callable[..., Any],
) -> Iterator[Any]:
    """A server with all of TensorFlow's flags, of odd, doubles, tflite and tflite_with_sigdef."""
    folder = tmp_path_factory.mktemp("flags")
    (folder / "session.txt").write_text("intra_op_parallelism_threads: 1 graph_options { place_pruned_graph: true }")
    bases = [saved_models / name for name in ("odd", "tflite", "tflite_with_sigdef")] + [own_op[1]]
    entries = "".join(
        f'config {{ name: "{base.name}" base_path: "{base}" model_platform: "tensorflow" }}' for base in bases
    )
    (folder / "models.txt").write_text(f"model_config_list {{ {entries} }}")
    running = start_server(
        [
            f"--model_config_file={folder / 'models.txt'}",
            f"--tensorflow_session_config_file={folder / 'session.txt'}",
            "--tensorflow_inter_op_parallelism=1",
            f"--op_library={own_op[0]}",
            "--rest_api_timeout_in_ms=500",
            "--enable_signature_method_name_check",
            "--prefer_tflite_model",
        ]
    )
    yield running
    assert running.end() == 0


def test_operations_of_a_library(flagged: Any) -> None:
    assert flagged.post("/v1/models/doubles:predict", {"inputs": 21}).json == {"outputs": 42.0}


def test_rests_timeout_is_504(flagged: Any) -> None:
    body = {"signature_name": "slow_regress", "examples": [{}]}
    answer = flagged.post("/v1/models/odd:regress", body)
    assert (answer.status, answer.json) == (504, {"error": "Timed out waiting for notification"})


METHODS = [
    ("classify", "scores", "Expected classification signature method_name to be tensorflow/serving/classify"),
    ("regress", "predicts", "Expected regression signature method_name to be tensorflow/serving/regress"),
]


@pytest.mark.parametrize(("verb", "signature", "words"), METHODS)
def test_methods_are_checked_where_that_is_asked_for(flagged: Any, verb: str, signature: str, words: str) -> None:
    answer = flagged.post(f"/v1/models/odd:{verb}", {"signature_name": signature, "examples": [{}]})
    assert (answer.status, answer.json) == (400, {"error": f"{words}. Was: tensorflow/serving/predict"})


# TFLite, with the flag that prefers it.


def test_tflite_over_rest(flagged: Any) -> None:
    """Without SignatureDefs in the file, its tensors' names without `:0`."""
    answer = flagged.post("/v1/models/tflite:predict", {"instances": [[2], [4]]})
    assert answer.json == {"predictions": [[3.0], [4.0]]}
    answer = flagged.post("/v1/models/tflite:predict", {"inputs": {"serving_default_x": [2, 4, 6]}})
    assert answer.json == {"outputs": [3.0, 4.0, 5.0]}
    answer = flagged.post("/v1/models/tflite_with_sigdef:predict", {"inputs": {"x": [[2]]}})
    assert answer.json == {"outputs": [[3.0]]}


def test_tflites_signatures_are_those_of_its_metadata(flagged: Any) -> None:
    metadata = flagged.ask("GET", "/v1/models/tflite_with_sigdef/metadata").json["metadata"]["signature_def"]
    signatures = metadata["signature_def"]
    assert signatures["serving_default"]["inputs"]["x"]["name"] == "serving_default_x:0"
    assert signatures["regress"]["method_name"] == "tensorflow/serving/regress"


def test_a_tflite_model_for_arrays_takes_no_examples(flagged: Any) -> None:
    request = ClassificationRequest()
    request.model_spec.name = "tflite"
    request.input.example_list.examples.append(example())
    with pytest.raises(Exception, match="Expected classification signature method_name to be"):
        flagged.call("PredictionService/Classify", request)
    multi = MultiInferenceRequest(input=request.input)
    task = multi.tasks.add(method_name="tensorflow/serving/regress")
    task.model_spec.name, task.model_spec.signature_name = "tflite_with_sigdef", "regress"
    with pytest.raises(Exception, match="to be float but string is provided"):
        flagged.call("PredictionService/MultiInference", multi)
