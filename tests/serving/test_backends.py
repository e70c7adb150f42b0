"""Both runtimes behind the engine: numbers, and the errors that each gives for arrays that do not fit.

Cases are data and run against every backend that they name; the TensorFlow models are made and loaded as a server
would find them.
"""

# ruff: noqa: E501 - a case of a table is a line
from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto

from keraship import bundle
from keraship.errors import NotFound, StatusError
from keraship.serving.backend import BackendOptions, open_backend
from keraship.serving.prediction import PredictCall, predict
from keraship.serving.servable import Servable
from keraship.serving.tfrecord import crc32c, masked_crc32c
from keraship.serving.warmup import WarmupOptions, warm_up
from keraship.signature import Signature, TensorSpec
from keraship.wire import to_tensor
from keraship.wire.messages import PredictionLog

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # TensorFlow's own, at its import

X = np.array([[1, 2], [3, 4.5]], np.float32)


@pytest.fixture(scope="module", params=["onnx", "tensorflow"])
def linear(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    saved_models: Path,
    save_linear: Callable[..., Path],
) -> Iterator[Servable]:
    """y = x @ [[2],[3]] + 3, by either runtime."""
    onnx = request.param == "onnx"
    folder = save_linear(tmp_path_factory.mktemp("linear"), 3) if onnx else saved_models / "tf2" / "3"
    backend = open_backend(folder, BackendOptions(kind=request.param))
    yield Servable("linear", 3, backend)
    backend.close()


def ask(servable: Servable, inputs: dict[str, Any], **call: Any) -> dict[str, Any]:
    return predict(servable, PredictCall(inputs=inputs, read=np.asarray, **call)).outputs


def test_numbers(linear: Servable) -> None:
    outputs = ask(linear, {"x": X})
    np.testing.assert_array_equal(outputs["y"], np.array([[11], [22.5]], np.float32))


def test_a_batch_of_nothing(linear: Servable) -> None:
    assert ask(linear, {"x": np.zeros((0, 2), np.float32)})["y"].shape == (0, 1)


def test_many_callers_at_once(linear: Servable) -> None:
    """Each gets the answer to its own question."""

    def run(number: int) -> float:
        answer: float = ask(linear, {"x": np.float32([[number, 0]])})["y"].item()
        return answer

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(run, range(200))) == [2 * number + 3 for number in range(200)]


SIZES = "input size does not match signature: {} len({{{}}}) != len({{x}}). Sent extra: {{{}}}. Missing but required: {{{}}}."
REFUSED: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    ({"x": X}, {"signature_name": "no"}, "FAILED_PRECONDITION", 'Serving signature key "no" not found.'),
    ({}, {}, "INVALID_ARGUMENT", SIZES.format("0!=1", "", "", "x")),
    ({"b": X, "a": X}, {}, "INVALID_ARGUMENT", SIZES.format("2!=1", "a,b", "a,b", "x")),
    ({"x": X}, {"output_names": ("z",)}, "INVALID_ARGUMENT", "output tensor alias not found in signature: z Outputs expected to be in the set {y}."),
    ({"x": X}, {"output_names": ("y", "y")}, "INVALID_ARGUMENT", "duplicate output tensor alias: y"),
]  # fmt: skip


@pytest.mark.parametrize(("inputs", "call", "code", "details"), REFUSED)
def test_names_are_refused_alike(
    linear: Servable, inputs: dict[str, Any], call: dict[str, Any], code: str, details: str
) -> None:
    with pytest.raises(StatusError) as caught:
        ask(linear, inputs, **call)
    assert (caught.value.code, caught.value.details) == (code, details)


def test_a_wrong_name_names_the_feed(linear: Servable) -> None:
    with pytest.raises(StatusError) as caught:
        ask(linear, {"z": X})
    feed = linear.backend.signatures["serving_default"].inputs[0].tensor
    assert caught.value.details == (
        f"Signature input alias: x(feed name: {feed}) not found in request and no default value provided. "
        "Inputs expected to be in the request {z}, or default input alias set: {}"
    )


def test_a_wrong_dtype_is_named(linear: Servable) -> None:
    """TensorFlow may add the node that stumbled; which argument it counts differs."""
    with pytest.raises(StatusError) as caught:
        ask(linear, {"x": X.astype(np.int32)})
    assert caught.value.code == "INVALID_ARGUMENT"
    assert "to be float but int32 is provided" in caught.value.details


def test_a_wrong_shape_is_the_callers_fault(linear: Servable) -> None:
    with pytest.raises(StatusError) as caught:
        ask(linear, {"x": np.zeros((3, 3), np.float32)})
    assert caught.value.code == "INVALID_ARGUMENT"
    assert "ONNXRuntimeError" not in caught.value.details


def test_onnx_says_what_shape_it_expects(tmp_path: Path, save_linear: Callable[..., Path]) -> None:
    backend = open_backend(save_linear(tmp_path, 1), BackendOptions())
    with pytest.raises(StatusError) as caught:
        ask(Servable("m", 1, backend), {"x": np.zeros((3, 3), np.float32)})
    assert caught.value.details == "'x' expects float32 [-1,2], got float32 [3,3]"


def test_onnx_takes_the_manifests_signatures(tmp_path: Path, save_linear: Callable[..., Path]) -> None:
    """Those whose tensors the file has; what they are called elsewhere does not matter."""
    folder = save_linear(tmp_path, 1)
    y = TensorSpec("y", "float32", (None, 1), tensor="StatefulPartitionedCall:0")
    signatures = {
        "score": Signature((TensorSpec("x", "float32", (4, 2), tensor="score_x:0"),), (y,)),
        "other": Signature((TensorSpec("z", "float32", (None, 2)),), (y,)),
    }
    source = bundle.Source(file="m.keras", sha256="", model="Model", weights_bytes=0)
    entry = bundle.FileEntry(bytes=0, sha256="")
    bundle.write_manifest(folder, bundle.Manifest(source, signatures, (), golden=entry, tools={}))
    servable = Servable("m", 1, open_backend(folder, BackendOptions()))
    assert list(servable.backend.signatures) == ["score"]
    assert ask(servable, {"x": np.ones((4, 2), np.float32)}, signature_name="score")["y"].shape == (4, 1)
    with pytest.raises(StatusError, match=r"'x' expects float32 \[4,2\], got float32 \[2,2\]"):
        ask(servable, {"x": X}, signature_name="score")


STRINGS = np.array([b"a\0b", "é".encode(), b""], object)
VALUES: dict[str, Any] = {
    "float16": np.float16([1.5, -0.0, np.nan]),
    "bfloat16": np.array([1.5, -3, 1e30], ml_dtypes.bfloat16),
    "float32": np.float32([1.5, np.inf, np.nan]),
    "float64": np.float64([0.1, -1e300]),
    **{f"{u}int{bits}": np.array([np.iinfo(f"{u}int{bits}").min, np.iinfo(f"{u}int{bits}").max], f"{u}int{bits}")
       for u in ("", "u") for bits in (8, 16, 32, 64)},
    "bool": np.array([True, False]),
    "string": STRINGS,
}  # fmt: skip
COMPLEX = {"complex64": np.complex64([1 + 2j, -0.5j]), "complex128": np.complex128([0.1 - 2j])}
ONNX_TYPES = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}


def onnx_type(dtype: str) -> int:
    return ONNX_TYPES.get(dtype) or getattr(TensorProto, dtype.upper())


def assert_same(actual: Any, expected: Any) -> None:
    assert actual.dtype == expected.dtype
    if expected.dtype == object:
        assert actual.tolist() == expected.tolist()
    else:
        assert actual.tobytes() == np.ascontiguousarray(expected).tobytes()


@pytest.mark.parametrize("dtype", VALUES)
def test_every_dtype_goes_through_onnx(tmp_path: Path, save_identity: Callable[..., Path], dtype: str) -> None:
    backend = open_backend(save_identity(tmp_path, {"x": onnx_type(dtype)}), BackendOptions())
    sent = VALUES[dtype]
    assert_same(ask(Servable("m", 1, backend), {"x": sent})["x_out"], sent)


def test_every_dtype_goes_through_tensorflow(saved_models: Path) -> None:
    backend = open_backend(saved_models / "identity" / "1", BackendOptions())
    sent = VALUES | COMPLEX | {"string": np.array([b"\xff\0", b""], object)}
    outputs = ask(Servable("m", 1, backend), sent)
    for dtype, array in sent.items():
        assert_same(outputs[f"{dtype}_out"], array)
    backend.close()


def test_a_model_of_tensorflow_1_is_served(saved_models: Path) -> None:
    """And shapes are the graph's affair: nobody checks them against the signature."""
    servable = Servable("m", 1, open_backend(saved_models / "tf1" / "1", BackendOptions()))
    assert ask(servable, {"x": np.float32([[1], [2]])})["y"].tolist() == [[2.5], [3.0]]
    assert ask(servable, {"x": np.float32([1])})["y"].tolist() == [2.5]


def test_strings_that_are_not_utf8_are_refused_by_onnx(tmp_path: Path, save_identity: Callable[..., Path]) -> None:
    backend = open_backend(save_identity(tmp_path, {"x": TensorProto.STRING}), BackendOptions())
    with pytest.raises(StatusError, match=r"'x' expects string \[-1\] in UTF-8") as caught:
        ask(Servable("m", 1, backend), {"x": np.array([b"\xff"], object)})
    assert caught.value.code == "INVALID_ARGUMENT"


def test_an_empty_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        open_backend(tmp_path, BackendOptions())
    assert caught.value.details == (
        f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {tmp_path}. "
        "Check that the directory exists and that you have the right permissions for accessing it."
    )


def test_a_broken_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"junk")
    with pytest.raises(StatusError, match=r"onnxruntime cannot load .*/model\.onnx: .*parsing failed"):
        open_backend(tmp_path, BackendOptions())


def test_a_broken_saved_model_is_said_as_the_server_says_it(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"junk")
    with pytest.raises(StatusError) as caught:
        open_backend(tmp_path, BackendOptions())
    details = f"Can't parse {tmp_path}/saved_model.pb as binary proto"
    assert (caught.value.code, caught.value.details) == ("DATA_LOSS", details)


def test_wrong_tags_are_said_as_the_server_says_it(saved_models: Path) -> None:
    with pytest.raises(NotFound) as caught:
        open_backend(saved_models / "tf2" / "3", BackendOptions(tags=("gpu",)))
    assert caught.value.details == (
        "Could not find meta graph def matching supplied tags: { gpu }. To inspect available tag-sets in the "
        "SavedModel, please use the SavedModel CLI: `saved_model_cli`"
    )


# Warm-up.


def test_crc32c_is_castagnolis() -> None:
    assert crc32c(b"123456789") == 0xE3069283


def record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc32c(length)) + data + struct.pack("<I", masked_crc32c(data))


def warmup_log(*, name: str = "x") -> bytes:
    log = PredictionLog()
    to_tensor(X, into=log.predict_log.request.inputs[name])
    serialized: bytes = log.SerializeToString()
    return serialized


WARMUPS = [
    (record(warmup_log()) * 3, None),
    (b"", None),
    (record(PredictionLog().SerializeToString()), None),
    (record(warmup_log()) + b"cut header", None),
    (
        b"junk" * 9,
        r"DATA_LOSS: ^corrupted record at 0 \(Is this even a TFRecord file\?\). Please verify your warmup data is in TFRecord format.$",
    ),
    (
        record(b"") + b"junk" * 9,
        "DATA_LOSS: ^corrupted record at 16. Please verify your warmup data is in TFRecord format.$",
    ),
    (
        record(warmup_log())[:-1],
        "DATA_LOSS: ^truncated record at 0' failed with Read less bytes than requested. Please",
    ),
    (record(warmup_log())[:-1] + b"\0\0", "DATA_LOSS: ^corrupted record at 12. Please verify"),
    (record(b"\xff\xff"), "INVALID_ARGUMENT: Failed to parse warmup record: .* from .*/tf_serving_warmup_requests$"),
    (record(b"\x2a\x00"), "UNIMPLEMENTED: Unsupported log_type for warmup: 5"),
    (record(warmup_log(name="z")), "INVALID_ARGUMENT: Signature input alias: x.*"),
    (record(b"\x3a\x00"), "UNIMPLEMENTED: Unsupported log_type for warmup: 7"),
    (record(warmup_log()) * 1001, r"INVALID_ARGUMENT: Number of warmup records exceeds the maximum \(1000\) at .*"),
]


@pytest.mark.parametrize(("content", "fault"), WARMUPS)
def test_warm_up_runs_what_was_recorded(
    tmp_path: Path, save_linear: Callable[..., Path], content: bytes, fault: str | None
) -> None:
    """Any fault of the file is a fault of the load; with warm-up off it is not looked at."""
    servable = Servable("m", 1, open_backend(save_linear(tmp_path, 1), BackendOptions()))
    (tmp_path / "assets.extra").mkdir()
    (tmp_path / "assets.extra" / "tf_serving_warmup_requests").write_bytes(content)
    warm_up(servable, tmp_path, WarmupOptions(enabled=False))
    if fault is None:
        warm_up(servable, tmp_path, WarmupOptions())
    else:
        code, _, details = fault.partition(": ")
        with pytest.raises(StatusError, match=details) as caught:
            warm_up(servable, tmp_path, WarmupOptions())
        assert caught.value.code == code
