"""What a client says and hears over gRPC: requests built, answers read. rest_messages is its twin."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError, EncodeError

from keraship.client.examples import Features
from keraship.client.results import (
    Array,
    Class,
    Classification,
    Metadata,
    ModelConfig,
    ModelSpec,
    Prediction,
    Regression,
    Target,
    VersionStatus,
)
from keraship.client.steps import Call
from keraship.errors import BY_CODE, Internal, InvalidArgument, InvalidInput
from keraship.signature import Signature, TensorSpec
from keraship.wire import to_array
from keraship.wire.messages import METHODS, MODEL_SERVICE, PREDICTION_SERVICE, SignatureDefMap
from keraship.wire.messages import ModelSpec as ModelSpecMessage
from keraship.wire.read import read_predict_response
from keraship.wire.signatures import to_signature
from keraship.wire.tensor import as_elements
from keraship.wire.write import join_predict_request, predict_head

PREDICT = f"/{PREDICTION_SERVICE}/Predict"
CLASSIFY = f"/{PREDICTION_SERVICE}/Classify"
REGRESS = f"/{PREDICTION_SERVICE}/Regress"
MULTI_INFERENCE = f"/{PREDICTION_SERVICE}/MultiInference"
METADATA = f"/{PREDICTION_SERVICE}/GetModelMetadata"
STATUS = f"/{MODEL_SERVICE}/GetModelStatus"
RELOAD_CONFIG = f"/{MODEL_SERVICE}/HandleReloadConfigRequest"

TASKS = {"classify": "tensorflow/serving/classify", "regress": "tensorflow/serving/regress"}
"""What multi_inference can ask of a signature, and what TensorFlow Serving calls it."""

TELLS_VERSION = True
"""Whether an answer says which version gave it."""

_SIGNATURES = "signature_def"
_NOT_FOR_CALLERS = ("__saved_model_init_op", "__saved_model_train_op")  # TensorFlow keeps them among the signatures


def predict_call(
    target: Target,
    inputs: Mapping[str, Any],
    *,
    signature_name: str,
    output_filter: Sequence[str] = (),
    specs: Iterable[TensorSpec] = (),
) -> Call:
    """A Predict call.

    specs: the signature's inputs, where they are known; they tell a quantized type from the integers that hold it.
    Raises InvalidInput for values that no tensor, or no message, can hold.
    """
    declared = {spec.name: spec.dtype for spec in specs}
    tensors = []
    for name, value in inputs.items():
        try:
            tensors.append((name, *as_elements(value, declared.get(name))))
        except (InvalidArgument, ValueError, TypeError) as error:
            raise InvalidInput(f"'{name}' is no tensor: {error}") from error
    try:
        head = _predict_head(target, signature_name, tuple(output_filter))
        return Call(PREDICT, join_predict_request(head, tensors), target.name)
    except (InvalidArgument, UnicodeEncodeError) as error:
        raise InvalidInput(str(error)) from error


def classify_call(target: Target, examples: Sequence[Features], context: Features | None, signature_name: str) -> Call:
    """A Classify call; context: features that all examples have."""
    return _examples_call(CLASSIFY, target, examples, context, signature_name)


def regress_call(target: Target, examples: Sequence[Features], context: Features | None, signature_name: str) -> Call:
    """A Regress call."""
    return _examples_call(REGRESS, target, examples, context, signature_name)


def multi_inference_call(
    target: Target, examples: Sequence[Features], context: Features | None, tasks: Mapping[str, str]
) -> Call:
    """A MultiInference call; tasks: signature name -> "classify" or "regress"."""
    request = METHODS[MULTI_INFERENCE][0]()
    for signature_name, method in tasks.items():
        task = request.tasks.add(method_name=TASKS[method])
        _write_spec(task.model_spec, target, signature_name)
    _write_examples(request.input, examples, context)
    return Call(MULTI_INFERENCE, _serialize(request), target.name)


def metadata_call(target: Target) -> Call:
    """A GetModelMetadata call, for the signatures."""
    request = METHODS[METADATA][0](metadata_field=[_SIGNATURES])
    _write_spec(request.model_spec, target)
    return Call(METADATA, _serialize(request), target.name)


def status_call(target: Target) -> Call:
    """A GetModelStatus call."""
    request = METHODS[STATUS][0]()
    _write_spec(request.model_spec, target)
    return Call(STATUS, _serialize(request), target.name)


def reload_config_call(models: Sequence[ModelConfig]) -> Call:
    """A HandleReloadConfigRequest call."""
    request = METHODS[RELOAD_CONFIG][0]()
    request.config.model_config_list.SetInParent()
    for model in models:
        entry = request.config.model_config_list.config.add(
            name=model.name, base_path=model.base_path, model_platform=model.platform
        )
        entry.version_labels.update(model.labels)
        _write_policy(entry.model_version_policy, model.versions)
    return Call(RELOAD_CONFIG, _serialize(request), "")


def read_prediction(
    data: bytes,
    *,
    target: Target | None = None,
    signature_name: str = "",
    signature: Signature | None = None,
    output_filter: Sequence[str] = (),
    copy: bool = False,
) -> Prediction:
    """The Prediction that a PredictResponse's bytes hold; raises Internal where they hold none.

    The other arguments are what an answer over REST needs to be understood.
    """
    read = read_predict_response(data)
    if read is not None:
        outputs, spec = read
        if copy:
            outputs = {name: array.copy() for name, array in outputs.items()}
        return Prediction(_sealed(outputs, copy), _parsed_spec(spec))
    response = _parse(PREDICT, data)
    try:
        outputs = {name: to_array(tensor, copy=copy) for name, tensor in response.outputs.items()}
    except InvalidArgument as error:
        raise Internal(f"expected tensors in the server's answer; it cannot be read: {error}", attempts=1) from error
    return Prediction(_sealed(outputs, copy), _read_spec(response.model_spec))


def read_classification(data: bytes, target: Target, signature_name: str) -> Classification:
    """The Classification in a ClassificationResponse's bytes."""
    response = _parse(CLASSIFY, data)
    return _classification(response.result, _read_spec(response.model_spec))


def read_regression(data: bytes, target: Target, signature_name: str) -> Regression:
    """The Regression in a RegressionResponse's bytes."""
    response = _parse(REGRESS, data)
    return _regression(response.result, _read_spec(response.model_spec))


def read_multi_inference(data: bytes) -> dict[str, Classification | Regression]:
    """What each signature answered, in a MultiInferenceResponse's bytes."""
    found: dict[str, Classification | Regression] = {}
    for result in _parse(MULTI_INFERENCE, data).results:
        spec = _read_spec(result.model_spec)
        kind = result.WhichOneof("result")
        if kind not in _RESULTS:
            raise Internal(f"expected classes or values for '{spec.signature_name}'; the server sent none", attempts=1)
        found[spec.signature_name] = _RESULTS[kind](getattr(result, kind), spec)
    return found


def read_metadata(data: bytes) -> Metadata:
    """The Metadata that a GetModelMetadataResponse's bytes hold; raises Internal where they hold none."""
    response = _parse(METADATA, data)
    return metadata_of(_read_spec(response.model_spec), _signature_defs(response))


def metadata_of(spec: ModelSpec, signature_defs: Mapping[str, Any]) -> Metadata:
    """The Metadata in SignatureDefs by name."""
    found = Metadata(spec, {})
    for name, message in sorted(signature_defs.items()):
        if name in _NOT_FOR_CALLERS:
            continue
        try:
            found.signatures[name] = to_signature(message)
            found.optional[name] = frozenset(message.defaults)
        except InvalidArgument as error:
            found.unreadable[name] = error.details
    return found


def read_status(data: bytes) -> tuple[VersionStatus, ...]:
    """The versions that a GetModelStatusResponse's bytes name, in the server's order; raises Internal for others."""
    return tuple(
        VersionStatus(
            version=item.version,
            state=_enum_name(item, "state"),
            error_code=_enum_name(item.status, "error_code"),
            error_message=item.status.error_message,
        )
        for item in _parse(STATUS, data).model_version_status
    )


def read_reload_config(data: bytes) -> None:
    """Nothing, where a ReloadConfigResponse's bytes tell of success; raises the StatusError that they tell of."""
    status = _parse(RELOAD_CONFIG, data).status
    code = _enum_name(status, "error_code")
    if code != "OK":
        raise BY_CODE.get(code, BY_CODE["UNKNOWN"])(status.error_message, attempts=1)


def _examples_call(
    method: str, target: Target, examples: Sequence[Features], context: Features | None, signature_name: str
) -> Call:
    request = METHODS[method][0]()
    _write_spec(request.model_spec, target, signature_name)
    _write_examples(request.input, examples, context)
    return Call(method, _serialize(request), target.name)


def _write_examples(into: Any, examples: Sequence[Features], context: Features | None) -> None:
    kind = into.example_list if context is None else into.example_list_with_context
    kind.SetInParent()
    for example in examples:
        _write_features(kind.examples.add(), example)
    if context is not None:
        _write_features(kind.context, context)


def _write_features(message: Any, features: Features) -> None:
    message.features.SetInParent()
    for name, (kind, values) in features.items():
        feature = message.features.feature[name]
        if kind:
            getattr(feature, kind).value.extend(values)


def _write_policy(policy: Any, versions: int | str | Sequence[int] | None) -> None:
    if versions is None:
        return
    if versions == "all":
        policy.all.SetInParent()
    elif isinstance(versions, int):
        policy.latest.num_versions = versions
    elif isinstance(versions, str):
        raise ValueError(f"expected versions to be a number, a list of numbers, or 'all'; got {versions!r}")
    else:
        policy.specific.versions.extend(versions)


def _classification(result: Any, spec: ModelSpec) -> Classification:
    classes = [tuple(Class(one.label, one.score) for one in each.classes) for each in result.classifications]
    return Classification(classes, spec)


def _regression(result: Any, spec: ModelSpec) -> Regression:
    return Regression(np.array([each.value for each in result.regressions], np.float32), spec)


_RESULTS: dict[str, Callable[[Any, ModelSpec], Classification | Regression]] = {
    "classification_result": _classification,
    "regression_result": _regression,
}


def _sealed(outputs: dict[str, Array], copy: bool) -> dict[str, Array]:
    """In alphabetical order; read-only unless copied, not only where the server's encoding happens to share memory."""
    if not copy:
        for array in outputs.values():
            array.flags.writeable = False
    return dict(sorted(outputs.items())) if len(outputs) > 1 else outputs


@lru_cache(maxsize=256)
def _predict_head(target: Target, signature_name: str, output_filter: tuple[str, ...]) -> bytes:
    spec = ModelSpecMessage()
    _write_spec(spec, target, signature_name)
    return predict_head(spec.SerializeToString(), output_filter)


@lru_cache(maxsize=256)
def _parsed_spec(data: bytes) -> ModelSpec:
    """The same bytes come with every answer."""
    try:
        return _read_spec(ModelSpecMessage.FromString(data))
    except DecodeError as error:
        raise Internal(f"expected a ModelSpec in the server's answer; got other bytes: {error}", attempts=1) from error


def _write_spec(spec: Any, target: Target, signature_name: str = "") -> None:
    spec.name = target.name
    spec.signature_name = signature_name
    if target.version is not None:
        spec.version.value = operator.index(target.version)
    if target.version_label is not None:
        spec.version_label = target.version_label


def _read_spec(spec: Any) -> ModelSpec:
    version = spec.version.value if spec.HasField("version") else None
    return ModelSpec(spec.name, version, spec.signature_name)


def _signature_defs(response: Any) -> Mapping[str, Any]:
    """From the Any's bytes: `Unpack` compares type names, which servers write in more than one way."""
    try:
        signatures: Mapping[str, Any] = SignatureDefMap.FromString(response.metadata[_SIGNATURES].value).signature_def
    except DecodeError as error:
        raise Internal(f"expected signatures in the server's answer; got other bytes: {error}", attempts=1) from error
    return signatures


def _enum_name(message: Any, name: str) -> str:
    """The name of an enum field's value, or its number where this client is older than the name."""
    number = getattr(message, name)
    value = message.DESCRIPTOR.fields_by_name[name].enum_type.values_by_number.get(number)
    return value.name if value else str(number)


def _serialize(request: Any) -> bytes:
    try:
        data: bytes = request.SerializeToString()
    except (EncodeError, ValueError) as error:  # protobuf's limit
        raise InvalidInput(f"expected a request of less than 2 GiB; send fewer rows at a time: {error}") from error
    return data


def _parse(method: str, data: bytes) -> Any:
    response = METHODS[method][1]
    try:
        return response.FromString(data)
    except DecodeError as error:
        name = response.DESCRIPTOR.name
        raise Internal(f"expected a {name} from the server; got other bytes: {error}", attempts=1) from error
