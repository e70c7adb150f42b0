"""A server of tensorflow-serving-api's own classes: what TensorFlow reads is what came, what it writes is what we get.

Run as a process, so that the tests' own stays free of TensorFlow: prints its port, serves until its stdin ends. The
model's name says how it behaves; the model "control" counts the calls and sets the version of the model "switch".
"""

from __future__ import annotations

import collections
import sys
import threading
import time
from concurrent import futures
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow.python.framework import tensor_util
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

Spec = tuple[int, "list[int] | None"]  # DataType and sizes; None for unknown rank
SignatureDef = meta_graph_pb2.SignatureDef

FLOAT, INT32, STRING = 1, 3, 7
SIGNATURES: dict[str, tuple[dict[str, Spec], dict[str, Spec]]] = {
    "echo": ({"x": (FLOAT, None)}, {"y": (FLOAT, None)}),
    "two": ({"a": (INT32, [-1]), "b": (FLOAT, [-1, 2])}, {"sum": (FLOAT, [-1, 2]), "texts": (STRING, [-1])}),
    "digits": ({"images": (FLOAT, [-1, 4])}, {"scores": (FLOAT, [-1, 4])}),
    "photos": ({"x": (FLOAT, [-1, 4, 4, 1])}, {"y": (FLOAT, [-1, 4, 4, 1])}),
    "whole": ({"x": (FLOAT, [-1, 2])}, {"mean": (FLOAT, [])}),
    "nested": ({"x": (FLOAT, [-1, 2])}, {"boxes": (FLOAT, [-1, 2, 2]), "count": (INT32, [-1])}),
}

state = {"version": 1}
calls: collections.Counter[str] = collections.Counter()
headers: dict[str, str] = {}
reloaded: list[str] = []


class Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):  # type: ignore[misc]  # it has no types
    def Predict(self, request: Any, context: Any) -> Any:  # noqa: N802  # gRPC's name
        name = request.model_spec.name
        calls[f"predict:{name}"] += 1
        headers.update({key: value for key, value in context.invocation_metadata() if isinstance(value, str)})
        response = predict_pb2.PredictResponse()
        response.model_spec.CopyFrom(request.model_spec)
        response.model_spec.version.value = version_of(request.model_spec)
        answer(name, request, response, context)
        for unwanted in set(response.outputs) - set(request.output_filter or response.outputs):
            del response.outputs[unwanted]
        return response

    def GetModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802  # gRPC's name
        name = request.model_spec.name
        calls[f"metadata:{name}"] += 1
        if name == "no-metadata":
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "not here")
        if name == "absent":
            context.abort(grpc.StatusCode.NOT_FOUND, "Servable not found for request: Latest(absent)")
        if name == "slow-metadata":
            time.sleep(0.3)
        assert list(request.metadata_field) == ["signature_def"]
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = name
        response.model_spec.version.value = version_of(request.model_spec)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        write_signatures(name, signatures.signature_def)
        response.metadata["signature_def"].Pack(signatures)
        return response

    def Classify(self, request: Any, context: Any) -> Any:  # noqa: N802  # gRPC's name
        response = classification_pb2.ClassificationResponse(model_spec=resolved(request.model_spec))
        classify(request.input, response.result)
        return response

    def Regress(self, request: Any, context: Any) -> Any:  # noqa: N802  # gRPC's name
        response = regression_pb2.RegressionResponse(model_spec=resolved(request.model_spec))
        regress(request.input, response.result)
        return response

    def MultiInference(self, request: Any, context: Any) -> Any:  # noqa: N802  # gRPC's name
        response = inference_pb2.MultiInferenceResponse()
        for task in request.tasks:
            result = response.results.add(model_spec=resolved(task.model_spec))
            if task.method_name == "tensorflow/serving/classify":
                classify(request.input, result.classification_result)
            else:
                assert task.method_name == "tensorflow/serving/regress"
                regress(request.input, result.regression_result)
        return response


class Models(model_service_pb2_grpc.ModelServiceServicer):  # type: ignore[misc]  # it has no types
    def HandleReloadConfigRequest(self, request: Any, context: Any) -> Any:  # noqa: N802  # gRPC's name
        reloaded[:] = [str(request.config.model_config_list)]
        response = model_management_pb2.ReloadConfigResponse()
        if any(not model.base_path for model in request.config.model_config_list.config):
            response.status.error_code = 3
            response.status.error_message = "Expected model to have an absolute path"
        return response

    def GetModelStatus(self, request: Any, context: Any) -> Any:  # noqa: N802  # gRPC's name
        name = request.model_spec.name
        calls[f"status:{name}"] += 1
        if name == "absent":
            context.abort(grpc.StatusCode.NOT_FOUND, "Could not find any versions of model absent")
        response = get_model_status_pb2.GetModelStatusResponse()
        if name == "broken":
            entry = response.model_version_status.add(version=3, state=50)
            entry.status.error_code = 5
            entry.status.error_message = "no saved_model.pb"
            return response
        for version in (3, 1, 2) if name == "several" else (1,):
            ready = name != "loading" or calls["status:loading"] > 2
            response.model_version_status.add(version=version, state=30 if ready else 20)
        return response


def resolved(spec: Any) -> Any:
    """The spec with the version that answers."""
    spec.version.value = version_of(spec)
    return spec


def examples_of(message: Any) -> Any:
    """Each example, over the context where there is one."""
    if message.WhichOneof("kind") == "example_list":
        return message.example_list.examples
    listed = message.example_list_with_context
    merged = [tf.train.Example.FromString(listed.context.SerializeToString()) for _ in listed.examples]
    for example, own in zip(merged, listed.examples, strict=True):
        example.MergeFromString(own.SerializeToString())
    return merged


def classify(message: Any, result: Any) -> None:
    """A class for each feature: its name and kind, and the number of its values or its first one."""
    for example in examples_of(message):
        classes = result.classifications.add()
        for name, feature in sorted(example.features.feature.items()):
            kind = feature.WhichOneof("kind")
            values = getattr(feature, kind).value if kind else []
            score = values[0] if kind in ("float_list", "int64_list") else len(values)
            classes.classes.add(label=f"{name}:{kind}", score=score)


def regress(message: Any, result: Any) -> None:
    """The sum of the feature x."""
    for example in examples_of(message):
        result.regressions.add(value=sum(example.features.feature["x"].float_list.value))


def version_of(spec: Any) -> int:
    if spec.version_label:
        return {"stable": 7, "canary": 8}[spec.version_label]
    if spec.HasField("version"):
        return int(spec.version.value)
    return state["version"] if spec.name == "switch" else 1


def answer(name: str, request: Any, response: Any, context: Any) -> None:
    outputs = response.outputs
    if name == "control":
        control(request, outputs)
    elif name.startswith("dtype-"):
        echo(name.rpartition("-")[2], request.inputs["x"], outputs["y"])
    elif name.startswith("fails-"):
        context.abort(grpc.StatusCode[name.removeprefix("fails-")], f"{name} on purpose")
    elif name == "slow":
        time.sleep(1.5)
    elif name == "malformed":
        outputs["y"].dtype = FLOAT
        outputs["y"].tensor_shape.dim.add().size = -3
    elif name == "two":
        a, b = (tf.make_ndarray(request.inputs[key]) for key in "ab")
        outputs["sum"].CopyFrom(tf.make_tensor_proto(a[:, None] + b, tf.float32))
        outputs["texts"].CopyFrom(tf.make_tensor_proto([f"row {i}".encode() for i in a]))
    elif name == "whole":
        outputs["mean"].CopyFrom(tf.make_tensor_proto(tf.make_ndarray(request.inputs["x"]).mean(), tf.float32))
    elif name == "nested":
        x = tf.make_ndarray(request.inputs["x"])
        outputs["boxes"].CopyFrom(tf.make_tensor_proto(np.stack([x, x], 1)))
        outputs["count"].CopyFrom(tf.make_tensor_proto(np.full(len(x), 2, np.int32)))
    else:  # the inputs, as they came
        for key, tensor in request.inputs.items():
            outputs[{"x": "y", "images": "scores"}.get(key, key)].CopyFrom(tensor)


def control(request: Any, outputs: Any) -> None:
    if "version" in request.inputs:
        state["version"] = int(tf.make_ndarray(request.inputs["version"]))
    if "count" in request.inputs:
        key = tf.make_ndarray(request.inputs["count"]).item().decode()
        outputs["calls"].CopyFrom(tf.make_tensor_proto(calls[key], tf.int64))
    if "reloaded" in request.inputs:
        outputs["config"].CopyFrom(tf.make_tensor_proto("".join(reloaded)))
    if "header" in request.inputs:
        outputs["header"].CopyFrom(
            tf.make_tensor_proto(headers.get(tf.make_ndarray(request.inputs["header"]).item().decode(), ""))
        )
    outputs["done"].CopyFrom(tf.make_tensor_proto(True))


def echo(encoding: str, tensor: Any, into: Any) -> None:
    """The tensor, read by TensorFlow into an array and written by TensorFlow from it."""
    if tf.dtypes.as_dtype(tensor.dtype).is_quantized:  # make_tensor_proto cannot write them
        array = tf.make_ndarray(tensor)
        into.dtype = tensor.dtype
        into.tensor_shape.CopyFrom(tensor.tensor_shape)
        into.int_val.extend(array.view(array.dtype[0]).ravel().tolist())
        return
    array = tf.make_ndarray(tensor)
    if encoding == "content":
        into.CopyFrom(tf.make_tensor_proto(array, tf.dtypes.as_dtype(tensor.dtype), shape=array.shape))
    else:
        into.dtype = tensor.dtype
        into.tensor_shape.CopyFrom(tf.TensorShape(array.shape).as_proto())
        if array.dtype == object:
            into.string_val.extend(array.ravel().tolist())
        else:
            tensor_util.GetNumpyAppendFn(array.dtype)(into, array.ravel())


def write_signatures(name: str, signatures: Any) -> None:
    if name.startswith("dtype-"):
        number = int(name.split("-")[1])
        write_signature(signatures["serving_default"], {"x": (number, None)}, {"y": (number, None)})
        return
    if name == "switch":
        key = "x" if state["version"] == 1 else "z"
        write_signature(signatures["serving_default"], {key: (FLOAT, [-1])}, {key: (FLOAT, [-1])})
        return
    write_signature(signatures["serving_default"], *SIGNATURES.get(name, SIGNATURES["echo"]))
    if name == "defaults":
        default = signatures["serving_default"]
        write_signature(default, {"x": (FLOAT, None), "scale": (FLOAT, [])}, {})
        default.defaults["scale"].CopyFrom(tf.make_tensor_proto(2.0))
    if name == "odd":
        signatures["__saved_model_init_op"].outputs["__saved_model_init_op"].tensor_shape.unknown_rank = True
        write_signature(signatures["sparse"], {"s": (FLOAT, [-1])}, {})
        signatures["sparse"].inputs["s"].coo_sparse.values_tensor_name = "v:0"


def write_signature(signature: Any, inputs: dict[str, Spec], outputs: dict[str, Spec]) -> None:
    signature.method_name = "tensorflow/serving/predict"
    for specs, infos in ((inputs, signature.inputs), (outputs, signature.outputs)):
        for key, (number, sizes) in specs.items():
            infos[key].name = f"{key}:0"
            infos[key].dtype = number
            infos[key].tensor_shape.CopyFrom(
                tf.TensorShape(sizes and [s if s >= 0 else None for s in sizes]).as_proto()
            )
            if sizes is None:
                infos[key].tensor_shape.unknown_rank = True


def main() -> None:
    server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.max_receive_message_length", -1)])
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Prediction(), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(Models(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.add_insecure_port(f"unix:{sys.argv[1]}")
    server.start()
    print(port, flush=True)
    threading.Thread(target=lambda: (sys.stdin.read(), server.stop(0)), daemon=True).start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
