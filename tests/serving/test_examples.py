"""Classify, Regress and MultiInference on models of TensorFlow, over gRPC and REST: answers, errors, deadlines."""

# ruff: noqa: E501 - a case of a table is a line
from __future__ import annotations

from typing import Any

import grpc
import pytest

from keraship.client import Client
from keraship.wire.messages import (
    ClassificationRequest,
    Example,
    MultiInferenceRequest,
    RegressionRequest,
)

REQUESTS = {"Classify": ClassificationRequest, "Regress": RegressionRequest}


def example(**features: float) -> Any:
    message = Example()
    for name, value in features.items():
        message.features.feature[name].float_list.value.append(value)
    return message


def request(
    method: str, signature: str, *examples: Any, model: str = "half_plus_two", context: Any = None, **spec: Any
) -> Any:
    message = REQUESTS[method]()
    message.model_spec.name = model
    message.model_spec.signature_name = signature
    if "version" in spec:
        message.model_spec.version.value = spec["version"]
    if context is None:
        message.input.example_list.examples.extend(examples)
    else:
        message.input.example_list_with_context.examples.extend(examples)
        message.input.example_list_with_context.context.CopyFrom(context)
    return message


def multi(*tasks: tuple[str, str], models: tuple[str, ...] = (), examples: Any = None) -> Any:
    message = MultiInferenceRequest()
    for index, (signature, method) in enumerate(tasks):
        task = message.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name = models[index] if models else "half_plus_two"
        task.model_spec.signature_name = signature
    message.input.example_list.examples.extend([example(x=2)] if examples is None else examples)
    return message


def call(server: Any, method: str, message: Any, timeout: float | None = 30) -> Any:
    return server.call(f"PredictionService/{method}", message, timeout)


def refused(server: Any, method: str, message: Any, timeout: float | None = 30) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(server, method, message, timeout)
    return caught.value.code().name, caught.value.details()


# gRPC.


def test_classify(tf_server: Any) -> None:
    response = call(tf_server, "Classify", request("Classify", "classify_both", example(x=2), example(x=5)))
    found = [[(entry.label, entry.score) for entry in each.classes] for each in response.result.classifications]
    assert found == [[("c2.0", 3.0)], [("c5.0", 4.5)]]
    spec = response.model_spec
    assert (spec.name, spec.signature_name, spec.version.value) == ("half_plus_two", "classify_both", 123)


@pytest.mark.parametrize(
    ("signature", "entry"), [("classify_x_to_y", ("", 3.0)), ("classes_only", ("2.0", 0.0))], ids=["scores", "classes"]
)
def test_what_a_model_does_not_say_is_empty(tf_server: Any, signature: str, entry: tuple[str, float]) -> None:
    response = call(tf_server, "Classify", request("Classify", signature, example(x=2)))
    (found,) = response.result.classifications[0].classes
    assert (found.label, found.score) == entry


def test_no_classes_are_no_classes(tf_server: Any) -> None:
    response = call(tf_server, "Classify", request("Classify", "no_classes", Example(), Example(), model="odd"))
    assert [len(each.classes) for each in response.result.classifications] == [0, 0]


@pytest.mark.parametrize(("model", "values"), [("half_plus_two", [3.0, 2.0]), ("half_plus_three", [4.0, 3.0])])
def test_regress(tf_server: Any, model: str, values: list[float]) -> None:
    message = request("Regress", "regress_x_to_y", example(x=2), example(x=0), model=model, version=123)
    response = call(tf_server, "Regress", message)
    assert [each.value for each in response.result.regressions] == values
    assert (response.model_spec.signature_name, response.model_spec.version.value) == ("regress_x_to_y", 123)


def test_an_output_of_one_axis_is_a_regression(tf_server: Any) -> None:
    response = call(tf_server, "Regress", request("Regress", "flat", Example(), model="odd"))
    assert [each.value for each in response.result.regressions] == [1.5]


def test_the_context_is_in_every_example_which_has_the_last_word(tf_server: Any) -> None:
    message = request("Regress", "regress_x_to_y", Example(), example(x=8), context=example(x=4))
    response = call(tf_server, "Regress", message)
    assert [each.value for each in response.result.regressions] == [4.0, 6.0]


def test_multi_inference(tf_server: Any) -> None:
    tasks = (("regress_x_to_y2", "regress"), ("classify_both", "classify"), ("regress_x_to_y", "regress"))
    response = call(tf_server, "MultiInference", multi(*tasks, examples=[example(x=2), example(x=4)]))
    first, second, third = response.results
    assert [each.value for each in first.regression_result.regressions] == [4.0, 5.0]
    assert [each.classes[0].label for each in second.classification_result.classifications] == ["c2.0", "c4.0"]
    assert [each.value for each in third.regression_result.regressions] == [3.0, 4.0]
    assert [each.model_spec.signature_name for each in response.results] == [name for name, _ in tasks]
    assert {each.model_spec.version.value for each in response.results} == {123}


X = example(x=2)
TWO = (X, X)
REGRESS, CLASSIFY = ("regress_x_to_y", "regress"), ("classify_x_to_y", "classify")
ERRORS: list[tuple[str, Any, str, str]] = [
    ("Classify", ClassificationRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
    ("Regress", RegressionRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
    ("Classify", request("Classify", "", X, model=""), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
    ("Regress", request("Regress", "", X, model="no"), "NOT_FOUND", "Servable not found for request: Latest(no)"),
    ("Classify", request("Classify", "no", X), "INVALID_ARGUMENT", "No signature was found with the name: no"),
    ("Regress", request("Regress", "no", X), "INVALID_ARGUMENT", "No signature was found with the name: no"),
    ("Classify", request("Classify", "classify_x_to_y"), "INVALID_ARGUMENT", "Input is empty."),
    ("Regress", request("Regress", "regress_x_to_y", context=X), "INVALID_ARGUMENT", "Input is empty."),
    ("Regress", request("Regress", "two_inputs", X, model="odd"), "INVALID_ARGUMENT", "Expected one input Tensor."),
    ("Classify", request("Classify", "two_inputs", X, model="odd"), "INVALID_ARGUMENT", "Expected one input Tensor."),
    ("Regress", request("Regress", "two_outputs", X, model="odd"), "INVALID_ARGUMENT", "Expected one output Tensor."),
    ("Classify", request("Classify", "three_outputs", X, model="odd"), "INVALID_ARGUMENT", "Expected one or two output Tensors, found 3"),
    ("Regress", request("Regress", "wide", *TWO, model="odd"), "INVALID_ARGUMENT", "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got [2,2]"),
    ("Regress", request("Regress", "short", *TWO, model="odd"), "INVALID_ARGUMENT", "Input batch size did not match output batch size: 2 vs. 1"),
    ("Regress", request("Regress", "double", *TWO, model="odd"), "INVALID_ARGUMENT", "Expected output Tensor of DT_FLOAT.  Got: DT_DOUBLE"),
    ("Classify", request("Classify", "flat_scores", *TWO, model="odd"), "INVALID_ARGUMENT", "Expected Tensor shape: [batch_size num_classes] but got [2]"),
    ("Classify", request("Classify", "float_classes", *TWO, model="odd"), "INVALID_ARGUMENT", "Expected classes Tensor of DT_STRING. Got: DT_FLOAT"),
    ("Classify", request("Classify", "double_scores", *TWO, model="odd"), "INVALID_ARGUMENT", "Expected scores Tensor of DT_FLOAT. Got: DT_DOUBLE"),
    ("Classify", request("Classify", "short_scores", *TWO, model="odd"), "INVALID_ARGUMENT", "Expected scores output batch size of 2. Got: 1"),
    ("Classify", request("Classify", "short_classes", *TWO, model="odd"), "INVALID_ARGUMENT", "Expected classes output batch size of 2. Got: 1"),
    ("Classify", request("Classify", "uneven", *TWO, model="odd"), "INVALID_ARGUMENT", "Tensors class and score should match in dim_size(1). Got 2 vs. 1"),
    ("Regress", request("Regress", "regress_x2_to_y3", X), "INVALID_ARGUMENT", "Expects arg[0] to be float but string is provided"),
    ("MultiInference", MultiInferenceRequest(), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
    ("MultiInference", multi(REGRESS, CLASSIFY, models=("half_plus_two", "")), "INVALID_ARGUMENT", "Found ModelSpec with an empty model name."),
    ("MultiInference", multi(REGRESS, CLASSIFY, models=("half_plus_two", "odd")), "INVALID_ARGUMENT", "All ModelSpecs in a MultiInferenceRequest must access the same model name."),
    ("MultiInference", multi(REGRESS, REGRESS), "INVALID_ARGUMENT", "Duplicate evaluation of signature: regress_x_to_y"),
    ("MultiInference", multi(REGRESS, ("no", "regress")), "INVALID_ARGUMENT", "Requested signature not found in model graph: no"),
    ("MultiInference", multi(REGRESS, ("classify_x_to_y", "predict")), "UNIMPLEMENTED", "Unsupported signature method_name: tensorflow/serving/predict"),
    ("MultiInference", multi(REGRESS, examples=()), "INVALID_ARGUMENT", "Input is empty."),
    ("MultiInference", multi(REGRESS, models=("no",)), "NOT_FOUND", "Servable not found for request: Latest(no)"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "message", "code", "details"), ERRORS)
def test_errors(tf_server: Any, method: str, message: Any, code: str, details: str) -> None:
    assert refused(tf_server, method, message) == (code, details)


SHOWN = 'inputs {\n  key: "examples"\n  value {\n    name: "examples:0"\n    dtype: DT_STRING\n'
OUTPUTS = 'Expected classification signature outputs to contain at least one of "classes" or "scores". Signature was: '
SHOWING = [
    ("Regress", "input_name", f"No regression inputs found in SignatureDef: {SHOWN}"),
    ("Classify", "input_name", f"No classification inputs found in SignatureDef: {SHOWN}"),
    ("Regress", "output_name", f"No regression outputs found in SignatureDef: {SHOWN.replace('examples', 'inputs', 1)}"),
    ("Classify", "output_name", OUTPUTS + SHOWN.replace("examples", "inputs", 1)),
]  # fmt: skip


@pytest.mark.parametrize(("method", "signature", "details"), SHOWING)
def test_errors_that_show_the_signature(tf_server: Any, method: str, signature: str, details: str) -> None:
    code, found = refused(tf_server, method, request(method, signature, X, model="odd"))
    assert (code, found[: len(details)]) == ("INVALID_ARGUMENT", details)
    assert found.endswith('method_name: "tensorflow/serving/regress"\n')


@pytest.mark.parametrize("method", ["Classify", "Regress"])
def test_what_no_graph_can_parse_is_said_in_tensorflows_words(tf_server: Any, method: str) -> None:
    """The bytes that it quotes need not be text."""
    message = request(method, f"{method.lower()}_x_to_y", Example())
    code, details = refused(tf_server, method, message)
    assert code == "INVALID_ARGUMENT"
    assert "Feature: x (data type: float) is required but could not be found." in details


def test_a_deadline_ends_a_run(tf_server: Any) -> None:
    """And the server answers on."""
    message = request("Regress", "slow_regress", X, model="odd")
    assert refused(tf_server, "Regress", message, timeout=1)[0] == "DEADLINE_EXCEEDED"
    assert call(tf_server, "Regress", request("Regress", "flat", X, model="odd")).result.regressions


# REST.


def rest(server: Any, verb: str, body: Any, model: str = "half_plus_two") -> tuple[int, bytes]:
    path = f"/v1/models/{model}:{verb}"
    answer = server.ask("POST", path, body) if isinstance(body, str | bytes) else server.post(path, body)
    return answer.status, answer.body


def named(signature: str, *examples: Any, **more: Any) -> dict[str, Any]:
    return {"signature_name": signature, "examples": list(examples), **more}


REST_ANSWERS: list[tuple[str, str, dict[str, Any], bytes]] = [
    ("half_plus_two", "regress", named("regress_x_to_y", {"x": 80.0}), b'{\n    "results": [42.0]\n}'),
    ("half_plus_two", "regress", named("regress_x_to_y", {"x": [2.0]}, {"x": 0.2}), b'{\n    "results": [3.0, 2.1]\n}'),
    ("half_plus_two", "regress", named("regress_x_to_y", {}, {"x": 8.0}, context={"x": 4.0}), b'{\n    "results": [4.0, 6.0]\n}'),
    ("half_plus_two", "classify", named("classify_x_to_y", {"x": 80.0}), b'{\n    "results": [[["", 42.0]]\n    ]\n}'),
    ("half_plus_two", "classify", named("classify_both", {"x": 2.0}, {"x": 5.0}), b'{\n    "results": [[["c2.0", 3.0]], [["c5.0", 4.5]]\n    ]\n}'),
    ("half_plus_two", "classify", named("classes_only", {"x": 2.0}), b'{\n    "results": [[["2.0", 0.0]]\n    ]\n}'),
    ("odd", "classify", named("no_classes", {}), b'{\n    "results": [[]\n    ]\n}'),
    ("odd", "classify", named("scores", {"any": "text"}), b'{\n    "results": [[["", 1.5], ["", 1.5]]\n    ]\n}'),
]  # fmt: skip


@pytest.mark.parametrize(("model", "verb", "body", "answer"), REST_ANSWERS)
def test_rest(tf_server: Any, model: str, verb: str, body: Any, answer: bytes) -> None:
    """To the byte."""
    assert rest(tf_server, verb, body, model) == (200, answer)


EMPTY = '{"examples": []}'
REST_ERRORS: list[tuple[str, str, int, str]] = [
    ("", "half_plus_two", 400, "JSON Parse error: The document is empty"),
    ("[1]", "half_plus_two", 400, "JSON Value: [1] Is not object"),
    ('{"signature_name": 1}', "half_plus_two", 400, 'JSON Value: {\n    "signature_name": 1\n} not formatted correctly. \'signature_name\' key must be a string value.'),
    ("{}", "half_plus_two", 400, "JSON Value: {} When method is classify, key 'examples' is expected and was not found"),
    ('{"examples": {}}', "half_plus_two", 400, 'JSON Value: {\n    "examples": {}\n} Expecting \'examples\' value to be an list/array'),
    (EMPTY, "half_plus_two", 400, 'JSON Value: {\n    "examples": []\n} \'examples\' value is an empty array'),
    (EMPTY, "no", 400, 'JSON Value: {\n    "examples": []\n} \'examples\' value is an empty array'),
    ('{"examples": [1]}', "half_plus_two", 400, "Example must be JSON object but got JSON Number"),
    ('{"examples": [{}], "context": null}', "half_plus_two", 400, "Example must be JSON object but got JSON Null"),
    ('{"examples": [{"x": null}]}', "half_plus_two", 400, "Feature: x has element with unexpected JSON type: Null"),
    ('{"examples": [{"x": [[1]]}]}', "half_plus_two", 400, "Feature: x has element with unexpected JSON type: Array"),
    ('{"examples": [{"x": {"b64": 1}}]}', "half_plus_two", 400, "Feature: x has element with unexpected JSON type: Object"),
    ('{"examples": [{"x": {"b64": "-_"}}]}', "half_plus_two", 400, "Unable to base64 decode"),
    ('{"examples": [{"x": [1, 2.0]}]}', "half_plus_two", 400, "Unexpected element type in feature: x expecting type: int64"),
    ('{"examples": [{"x": [1.0, 2]}]}', "half_plus_two", 400, "Unexpected element type in feature: x expecting type: float"),
    ('{"examples": [{"x": ["a", true]}]}', "half_plus_two", 400, "Unexpected element type in feature: x expecting type: bytes"),
    ('{"examples": [{"x": 9223372036854775808}]}', "half_plus_two", 400, "Feature: x has uint64_t element. Only int64_t is supported."),
    ('{"examples": [{}]}', "no", 404, "Servable not found for request: Latest(no)"),
    ('{"examples": [{}], "signature_name": "no"}', "half_plus_two", 400, "No signature was found with the name: no"),
]  # fmt: skip


@pytest.mark.parametrize("verb", ["classify", "regress"])
@pytest.mark.parametrize(("body", "model", "status", "error"), REST_ERRORS)
def test_rest_errors(tf_server: Any, verb: str, body: str, model: str, status: int, error: str) -> None:
    answer = tf_server.ask("POST", f"/v1/models/{model}:{verb}", body)
    assert (answer.status, answer.json) == (status, {"error": error})


def test_an_integer_is_no_float_feature(tf_server: Any) -> None:
    """As the graph says it."""
    status, body = rest(tf_server, "regress", named("regress_x_to_y", {"x": 2}))
    assert status == 400
    assert b"Data types don't match" in body


# The project's own client.


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_the_client(tf_server: Any, scheme: str) -> None:
    port = tf_server.port if scheme == "grpc" else tf_server.rest_port
    with Client(f"{scheme}://127.0.0.1:{port}", "half_plus_two") as client:
        classes = client.classify([{"x": 2.0}, {"x": 5.0}], signature_name="classify_both")
        assert [[(each.label, each.score) for each in row] for row in classes] == [[("c2.0", 3.0)], [("c5.0", 4.5)]]
        values = client.regress([{}, {"x": 8.0}], context={"x": 4.0}, signature_name="regress_x_to_y")
        assert values.array.tolist() == [4.0, 6.0]


def test_the_clients_multi_inference(tf_server: Any) -> None:
    with Client(f"127.0.0.1:{tf_server.port}", "half_plus_two") as client:
        found = client.multi_inference([{"x": 2.0}], tasks={"regress_x_to_y2": "regress", "classify_both": "classify"})
    assert found["regress_x_to_y2"].array.tolist() == [4.0]
    assert found["classify_both"][0][0].label == "c2.0"


# ONNX.


def test_a_model_without_such_a_signature_says_so(linear_server: Any) -> None:
    """Nobody made this ONNX file for examples."""
    code, details = refused(linear_server, "Classify", request("Classify", "", X, model="linear"))
    assert code == "INVALID_ARGUMENT"
    assert details.startswith('No classification inputs found in SignatureDef: inputs {\n  key: "x"\n')
    assert refused(linear_server, "Regress", request("Regress", "regress", X, model="linear")) == (
        "INVALID_ARGUMENT",
        "No signature was found with the name: regress",
    )
