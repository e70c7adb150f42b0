"""tensorflow-serving-api's own stubs and messages, TensorFlow's own codecs: what they ask, our server answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from onnx import TensorProto

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # TensorFlow's own, at its import

DTYPES = ("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool",
          "string", "float16", "bfloat16")  # fmt: skip
ONNX_TYPES = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}


@pytest.fixture(scope="module")
def api() -> Any:
    """TensorFlow and the stubs."""
    import tensorflow as tf
    from tensorflow_serving.apis import (
        classification_pb2,
        get_model_metadata_pb2,
        get_model_status_pb2,
        inference_pb2,
        model_service_pb2_grpc,
        predict_pb2,
        prediction_service_pb2_grpc,
        regression_pb2,
    )

    class Api:
        predict = predict_pb2
        metadata = get_model_metadata_pb2
        status = get_model_status_pb2
        classification = classification_pb2
        regression = regression_pb2
        inference = inference_pb2
        prediction_stub = prediction_service_pb2_grpc.PredictionServiceStub
        model_stub = model_service_pb2_grpc.ModelServiceStub
        tensorflow = tf

    return Api


def value_of(dtype: str, tf: Any) -> np.ndarray[Any, Any]:
    if dtype == "string":
        return np.array([b"abc", "é".encode()], object)
    if dtype.startswith(("int", "uint")):
        return np.array([np.iinfo(dtype).min, np.iinfo(dtype).max], dtype)
    return np.array([0, 1.5], tf.as_dtype(dtype).as_numpy_dtype)


@pytest.fixture(scope="module")
def identity_port(
    tmp_path_factory: pytest.TempPathFactory, save_identity: Callable[..., Path], start_server: Callable[..., Any]
) -> Iterator[int]:
    """A server of one identity model a dtype."""
    repository = tmp_path_factory.mktemp("identity")
    for dtype in DTYPES:
        save_identity(repository / dtype, {"x": ONNX_TYPES.get(dtype) or getattr(TensorProto, dtype.upper())})
    running = start_server([str(repository)])
    yield running.port
    assert running.end() == 0


@pytest.mark.parametrize("content", [True, False], ids=["tensor_content", "values"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_comes_back(api: Any, identity_port: int, dtype: str, content: bool) -> None:
    """Sent either way; the answer has every element spelled out in its `*_val` field."""
    tf = api.tensorflow
    sent = value_of(dtype, tf)
    request = api.predict.PredictRequest()
    request.model_spec.name = dtype
    tensor = tf.make_tensor_proto(sent)
    if content and dtype != "string":
        tensor = type(tensor)(dtype=tensor.dtype, tensor_shape=tensor.tensor_shape, tensor_content=sent.tobytes())
    request.inputs["x"].CopyFrom(tensor)
    with grpc.insecure_channel(f"127.0.0.1:{identity_port}") as channel:
        response = api.prediction_stub(channel).Predict(request, timeout=30)
    answer = response.outputs["x_out"]
    assert not answer.tensor_content
    assert answer.dtype == tf.as_dtype(dtype).as_datatype_enum
    assert tf.make_ndarray(answer).tolist() == sent.tolist()
    assert (response.model_spec.name, response.model_spec.version.value) == (dtype, 1)
    assert response.model_spec.signature_name == "serving_default"


def test_metadata_and_status_read_as_tensorflows_messages(api: Any, linear_server: Any) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{linear_server.port}") as channel:
        request = api.metadata.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = "linear"
        metadata = api.prediction_stub(channel).GetModelMetadata(request, timeout=30)
        signatures = api.metadata.SignatureDefMap()
        assert metadata.metadata["signature_def"].Unpack(signatures)
        x = signatures.signature_def["serving_default"].inputs["x"]
        assert [dim.size for dim in x.tensor_shape.dim] == [-1, 2]
        assert metadata.model_spec.version.value == 3
        status_request = api.status.GetModelStatusRequest()
        status_request.model_spec.name = "linear"
        status = api.model_stub(channel).GetModelStatus(status_request, timeout=30)
        (entry,) = status.model_version_status
        assert (entry.version, entry.state) == (3, api.status.ModelVersionStatus.AVAILABLE)


def examples(api: Any, *values: float) -> list[Any]:
    """tf.train.Examples with the feature x."""
    train = api.tensorflow.train
    return [
        train.Example(features=train.Features(feature={"x": train.Feature(float_list=train.FloatList(value=[value]))}))
        for value in values
    ]


def test_examples_are_classified(api: Any, tf_server: Any) -> None:
    request = api.classification.ClassificationRequest()
    request.model_spec.name, request.model_spec.signature_name = "half_plus_two", "classify_both"
    request.input.example_list.examples.extend(examples(api, 2, 5))
    with grpc.insecure_channel(f"127.0.0.1:{tf_server.port}") as channel:
        response = api.prediction_stub(channel).Classify(request, timeout=30)
    found = [[(each.label, each.score) for each in row.classes] for row in response.result.classifications]
    assert found == [[("c2.0", 3.0)], [("c5.0", 4.5)]]


def test_examples_with_a_context_are_regressed(api: Any, tf_server: Any) -> None:
    request = api.regression.RegressionRequest()
    request.model_spec.name, request.model_spec.signature_name = "half_plus_two", "regress_x_to_y"
    (context,) = examples(api, 4)
    request.input.example_list_with_context.context.CopyFrom(context)
    request.input.example_list_with_context.examples.extend([api.tensorflow.train.Example(), *examples(api, 8)])
    with grpc.insecure_channel(f"127.0.0.1:{tf_server.port}") as channel:
        response = api.prediction_stub(channel).Regress(request, timeout=30)
    assert [each.value for each in response.result.regressions] == [4.0, 6.0]


def test_examples_go_through_several_signatures(api: Any, tf_server: Any) -> None:
    request = api.inference.MultiInferenceRequest()
    for name, method in (("regress_x_to_y2", "regress"), ("classify_x_to_y", "classify")):
        task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name, task.model_spec.signature_name = "half_plus_two", name
    request.input.example_list.examples.extend(examples(api, 2))
    with grpc.insecure_channel(f"127.0.0.1:{tf_server.port}") as channel:
        response = api.prediction_stub(channel).MultiInference(request, timeout=30)
    first, second = response.results
    assert [each.value for each in first.regression_result.regressions] == [4.0]
    assert [each.score for each in second.classification_result.classifications[0].classes] == [3.0]


def test_metadata_says_what_a_variable_is(api: Any, tf_server: Any) -> None:
    """TensorFlow 1's own kind is a reference."""
    request = api.metadata.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "counter"
    with grpc.insecure_channel(f"127.0.0.1:{tf_server.port}") as channel:
        metadata = api.prediction_stub(channel).GetModelMetadata(request, timeout=30)
    signatures = api.metadata.SignatureDefMap()
    assert metadata.metadata["signature_def"].Unpack(signatures)
    output = signatures.signature_def["get_counter"].outputs["output"]
    assert output.dtype == api.tensorflow.float32._as_ref.as_datatype_enum
    answer = tf_server.ask("GET", "/v1/models/counter/metadata").json
    shown = answer["metadata"]["signature_def"]["signature_def"]["get_counter"]["outputs"]["output"]
    assert shown["dtype"] == "DT_FLOAT_REF"


ERRORS = [
    ("no", None, "", "x", "float32", "NOT_FOUND", "Servable not found for request: Latest(no)"),
    ("linear", 9, "", "x", "float32", "NOT_FOUND", "Servable not found for request: Specific(linear, 9)"),
    ("linear", None, "no", "x", "float32", "FAILED_PRECONDITION", 'Serving signature key "no" not found.'),
    ("linear", None, "", "x", "int64", "INVALID_ARGUMENT", "Expects arg[0] to be float but int64 is provided"),
    ("linear", None, "", "x", None, "INVALID_ARGUMENT", "tensor parsing error: x"),
]


@pytest.mark.parametrize(("model", "version", "signature", "name", "dtype", "code", "details"), ERRORS)
def test_errors_through_the_stubs(
    api: Any, linear_server: Any, model: str, version: int | None, signature: str, name: str, dtype: str | None,
    code: str, details: str,
) -> None:  # fmt: skip
    request = api.predict.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    if version is not None:
        request.model_spec.version.value = version
    if dtype is None:
        request.inputs[name].SetInParent()
    else:
        request.inputs[name].CopyFrom(api.tensorflow.make_tensor_proto(np.zeros((1, 2), dtype)))
    address = f"127.0.0.1:{linear_server.port}"
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as caught:
        api.prediction_stub(channel).Predict(request, timeout=30)
    assert (caught.value.code().name, caught.value.details()) == (code, details)


def test_status_errors_through_the_stubs(api: Any, linear_server: Any) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{linear_server.port}") as channel:
        request = api.status.GetModelStatusRequest()
        request.model_spec.name = "no"
        with pytest.raises(grpc.RpcError) as caught:
            api.model_stub(channel).GetModelStatus(request, timeout=30)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == "Could not find any versions of model no"


def test_a_reload_through_the_stubs(api: Any, start_server: Any, tmp_path: Path, save_linear: Any) -> None:
    """ReloadConfigRequest out of tensorflow-serving-api loads a second model."""
    from tensorflow_serving.apis import model_management_pb2

    save_linear(tmp_path / "a", 1)
    save_linear(tmp_path / "b", 2)
    running = start_server(["--model_name=a", f"--model_base_path={tmp_path}/a"])
    request = model_management_pb2.ReloadConfigRequest()
    for name in "ab":
        request.config.model_config_list.config.add(
            name=name, base_path=f"{tmp_path}/{name}", model_platform="tensorflow"
        )
    with grpc.insecure_channel(f"127.0.0.1:{running.port}") as channel:
        response = api.model_stub(channel).HandleReloadConfigRequest(request, timeout=60)
        assert response.status.error_code == 0
        status = api.status.GetModelStatusRequest()
        status.model_spec.name = "b"
        (entry,) = api.model_stub(channel).GetModelStatus(status, timeout=30).model_version_status
    assert (entry.version, entry.state) == (2, api.status.ModelVersionStatus.AVAILABLE)
    assert running.end() == 0
