"""TensorFlow Serving's RPCs: the bytes of a request to the bytes of the answer, whatever carries them.

unary("/tensorflow.serving.PredictionService/Predict", request, deadline=1.5) -> bytes, or StatusError
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError

from keraship.errors import Internal, InvalidArgument, StatusError, Unimplemented
from keraship.serving.backend import Array
from keraship.serving.classify import Classes
from keraship.serving.engine import Engine, ModelSpec
from keraship.serving.examples import ExamplesCall, read_input
from keraship.serving.multi_inference import MultiInferenceCall, read_tasks
from keraship.serving.prediction import PredictCall, Prediction
from keraship.serving.request_log import RequestLog
from keraship.serving.request_metrics import count_call, counted
from keraship.serving.servable import VersionStatus
from keraship.serving.status import CODES
from keraship.wire import to_array, to_tensor
from keraship.wire.messages import (
    METHODS,
    PREDICTION_SERVICE,
    ClassificationResponse,
    GetModelMetadataResponse,
    GetModelStatusResponse,
    MultiInferenceResponse,
    PredictResponse,
    RegressionResponse,
)
from keraship.wire.messages import ModelSpec as ModelSpecMessage
from keraship.wire.read import read_predict_request
from keraship.wire.tensor import Encoding

_LOG = logging.getLogger(__name__)

SIGNATURE_DEF = "signature_def"
_LARGE = 2**15  # bytes from which a walk by hand is cheaper than protobuf's copies
_PREDICT = f"/{PREDICTION_SERVICE}/Predict"

Method = Callable[[Any, float | None], Any]
"""Answers a request, within a deadline in seconds; None for ever."""


@dataclass(frozen=True)
class GrpcOptions:
    """tensor_content: answers hold their elements as memory, not one by one in `*_val` fields."""

    tensor_content: bool = False


class GrpcMethods:
    """The RPCs that an engine answers.

    reload: what answers HandleReloadConfigRequest, where models can be changed. log: is shown what was answered.
    """

    def __init__(
        self,
        engine: Engine,
        options: GrpcOptions | None = None,
        *,
        reload: Method | None = None,
        log: RequestLog | None = None,
    ) -> None:
        self._engine = engine
        self._log = log
        self._encoding: Encoding = "tensor_content" if options and options.tensor_content else "values"
        self._methods: dict[str, Method] = {
            "Predict": counted("Predict", self._predict),
            "Classify": counted("Classify", self._classify),
            "Regress": counted("Regress", self._regress),
            "MultiInference": self._multi_inference,
            "GetModelMetadata": self._metadata,
            "GetModelStatus": self._status,
        }
        if reload is not None:
            self._methods["HandleReloadConfigRequest"] = reload

    def unary(self, method: str, request: bytes, *, metadata: Any = (), deadline: float | None = None) -> bytes:
        """Answer one call.

        method: its path. metadata: what the caller sent beside the request. deadline: seconds left; None for ever.
        Raises StatusError; what nobody foresaw is Internal("internal"), and in full in the log.
        """
        try:
            answer = self._answer(method, request, deadline)
        except StatusError:
            raise
        except Exception as error:
            _LOG.exception("%s failed in a way that nobody foresaw", method)
            raise Internal("internal") from error
        if self._log is not None:
            self._log.offer(method, request, answer)
        return answer

    def _answer(self, method: str, request: bytes, deadline: float | None) -> bytes:
        handler = self._methods.get(method.rpartition("/")[2])
        if method not in METHODS or handler is None:
            raise Unimplemented(f"{method} is not served")
        is_large = method == _PREDICT and len(request) >= _LARGE
        if is_large and (read := read_predict_request(request)) is not None:
            quick = self._predict_read(*read, deadline)
            if quick is not None:
                return quick
        kind = METHODS[method][0]
        try:
            message = kind.FromString(request)
        except DecodeError as error:
            raise InvalidArgument(
                f"expected a {kind.DESCRIPTOR.full_name}; got {len(request)} bytes that are none"
            ) from error
        answer: bytes = handler(message, deadline).SerializeToString()
        return answer

    def _predict(self, request: Any, deadline: float | None) -> Any:
        call = PredictCall(
            inputs=request.inputs,
            read=to_array,
            signature_name=request.model_spec.signature_name,
            output_names=tuple(request.output_filter),
            timeout=deadline,
        )
        return self._write_prediction(self._engine.predict(_spec(request), call))

    def _predict_read(
        self, inputs: dict[str, Array], spec: bytes, names: list[str], deadline: float | None
    ) -> bytes | None:
        """The answer to a request whose arrays were read without protobuf; None where its ModelSpec is none."""
        try:
            model_spec = ModelSpecMessage.FromString(spec)
        except DecodeError:
            return None
        call = PredictCall(
            inputs=inputs,
            read=lambda array: array,
            signature_name=model_spec.signature_name,
            output_names=names,
            timeout=deadline,
        )

        def run() -> Any:
            return self._write_prediction(self._engine.predict(_read_spec(model_spec), call))

        answer: bytes = count_call(model_spec.name, "Predict", run).SerializeToString()
        return answer

    def _write_prediction(self, prediction: Prediction) -> Any:
        response = PredictResponse()
        for name, array in prediction.outputs.items():
            to_tensor(array, encoding=self._encoding, into=response.outputs[name])
        _write_spec(response.model_spec, prediction.model, prediction.version, prediction.signature_name)
        return response

    def _classify(self, request: Any, deadline: float | None) -> Any:
        found = self._engine.classify(_spec(request), _examples(request, deadline))
        response = ClassificationResponse()
        _write_classes(found.classes, response.result)
        _write_spec(response.model_spec, found.model, found.version, found.signature_name)
        return response

    def _regress(self, request: Any, deadline: float | None) -> Any:
        found = self._engine.regress(_spec(request), _examples(request, deadline))
        response = RegressionResponse()
        _write_values(found.values, response.result)
        _write_spec(response.model_spec, found.model, found.version, found.signature_name)
        return response

    def _multi_inference(self, request: Any, deadline: float | None) -> Any:
        """The first task says which model and version; without any, no name is given."""
        spec = _spec(request.tasks[0]) if request.tasks and request.tasks[0].HasField("model_spec") else ModelSpec("")
        call = MultiInferenceCall(read_tasks(request), read_input(request.input), timeout=deadline)
        found = self._engine.multi_inference(spec, call)
        response = MultiInferenceResponse()
        for each in found.results:
            answer = response.results.add()
            if isinstance(each.result, Classes):
                _write_classes(each.result, answer.classification_result)
            else:
                _write_values(each.result, answer.regression_result)
            _write_spec(answer.model_spec, found.model, found.version, each.signature_name)
        return response

    def _metadata(self, request: Any, _deadline: float | None) -> Any:
        spec = _spec(request)
        for field in request.metadata_field:
            if field != SIGNATURE_DEF:
                raise InvalidArgument(f"Metadata field {field} is not supported")
        response = GetModelMetadataResponse()
        if not request.metadata_field:  # the model is not even looked up
            return response
        metadata = self._engine.metadata(spec)
        _write_spec(response.model_spec, metadata.model, metadata.version)
        response.metadata[SIGNATURE_DEF].Pack(metadata.signature_defs)
        return response

    def _status(self, request: Any, _deadline: float | None) -> Any:
        return status_response(self._engine.status(_spec(request)))


def status_response(versions: list[VersionStatus]) -> Any:
    """The states of versions as a GetModelStatusResponse."""
    response = GetModelStatusResponse()
    for each in versions:
        entry = response.model_version_status.add(version=each.version, state=int(each.state))
        entry.status.SetInParent()
        if each.error is not None:
            entry.status.error_code = CODES[each.error.code].number
            entry.status.error_message = each.error.details
    return response


def _spec(request: Any) -> ModelSpec:
    if not request.HasField("model_spec"):
        raise InvalidArgument("Missing ModelSpec")
    return _read_spec(request.model_spec)


def _read_spec(spec: Any) -> ModelSpec:
    choice = spec.WhichOneof("version_choice")
    return ModelSpec(
        spec.name,
        version=spec.version.value if choice == "version" else None,
        label=spec.version_label if choice == "version_label" else None,
    )


def _examples(request: Any, deadline: float | None) -> ExamplesCall:
    return ExamplesCall(read_input(request.input), request.model_spec.signature_name, timeout=deadline)


def _write_classes(classes: Classes, message: Any) -> None:
    message.SetInParent()
    for row in classes:
        entries = message.classifications.add().classes
        for label, score in row:
            entries.add(label=_text(label), score=score)


def _text(label: bytes) -> str:
    try:
        return label.decode()
    except UnicodeDecodeError as error:  # the message has no place for it
        raise InvalidArgument(f"expected the model's labels in UTF-8; got {label[:64]!r}") from error


def _write_values(values: Array, message: Any) -> None:
    message.SetInParent()
    for value in values.tolist():
        message.regressions.add(value=value)


def _write_spec(message: Any, name: str, version: int, signature_name: str = "") -> None:
    message.name = name
    message.version.value = version
    message.signature_name = signature_name
