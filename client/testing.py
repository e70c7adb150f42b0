"""A fake server for users' own tests: in this process, over real gRPC, answering from a function or from golden.npz.

    from keraship.client.testing import FakeModel, FakeServer

    def test_my_code():
        model = FakeModel(lambda inputs: {"scores": inputs["images"].sum(axis=(1, 2))})
        with FakeServer({"digits": model}) as server, Client(server.address, "digits") as client:
            assert my_code(client) == ...
            assert server.calls[0].inputs["images"].shape == (1, 28, 28)

Without signatures a model takes whatever it is sent; with them the client checks inputs as it would with a real server.
Whatever a function raises as a StatusError is what the client raises.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from keraship import bundle
from keraship.client import messages
from keraship.client.results import Class
from keraship.errors import FailedPrecondition, InvalidArgument, NotFound, StatusError, Unimplemented
from keraship.signature import DEFAULT_SIGNATURE, Signature
from keraship.wire import to_array, to_tensor
from keraship.wire.messages import METHODS, MODEL_SERVICE, PREDICTION_SERVICE
from keraship.wire.signatures import to_signature_def_map

Array = np.ndarray[Any, Any]
Arrays = Mapping[str, Array]
Example = Mapping[str, Any]

_AVAILABLE = 30


@dataclass
class FakeModel:
    """A model that answers from functions; it may be changed while it is served.

    predict: arrays by input name -> arrays by output name. classify: an example (feature -> list of values) -> its
    classes, label -> score. regress: an example -> its value. signatures: by name; none of them checks nothing.
    version: the only one there is, and the one that answers tell.
    """

    predict: Callable[[dict[str, Array]], Mapping[str, Any]] | None = None
    classify: Callable[[Example], Mapping[str, float]] | None = None
    regress: Callable[[Example], float] | None = None
    signatures: Mapping[str, Signature] = field(default_factory=dict)
    version: int = 1

    @classmethod
    def from_golden(cls, path: str | Path, *, version: int = 1) -> FakeModel:
        """A model that gives the golden samples of an exported version, `repo/digits` or `repo/digits/1`, back.

        Each row that is asked for has to be one of the golden inputs, in any order; others are an InvalidArgument.
        Raises BundleError where there is no such version.
        """
        folder = bundle.resolve(Path(path))
        manifest = bundle.read_manifest(folder)
        golden = _Golden(*bundle.read_golden(folder))
        return cls(predict=golden, signatures=manifest.signatures, version=version)


@dataclass(frozen=True)
class FakeCall:
    """What a fake server was asked: the method ("Predict"), the model, and the inputs or examples."""

    method: str
    model: str
    version: int | None
    signature_name: str
    inputs: dict[str, Array] = field(default_factory=dict)
    examples: Sequence[Example] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


class FakeServer:
    """A gRPC server in this process, for as long as the block runs.

    models: by name; they may be added, changed and taken away meanwhile. address: what a client is given.
    calls: all that came, in order. reload_config is taken and noted in `reloaded`, and changes nothing.
    """

    def __init__(self, models: Mapping[str, FakeModel] | FakeModel, *, port: int = 0) -> None:
        self.models = {"model": models} if isinstance(models, FakeModel) else dict(models)
        self.calls: list[FakeCall] = []
        self.reloaded: list[dict[str, str]] = []
        self._lock = threading.Lock()
        self._server = grpc.server(
            futures.ThreadPoolExecutor(32),
            options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
        )
        self._server.add_generic_rpc_handlers(tuple(self._handlers()))
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self.address = f"127.0.0.1:{self.port}"

    def start(self) -> FakeServer:
        """Begin to answer; a `with` block does this."""
        self._server.start()
        return self

    def stop(self) -> None:
        """End, and drop what is under way."""
        self._server.stop(0).wait()

    def __enter__(self) -> FakeServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _handlers(self) -> list[Any]:
        answers: dict[str, dict[str, Callable[[Any, Any], Any]]] = {
            PREDICTION_SERVICE: {
                "Predict": self._predict,
                "Classify": self._classify,
                "Regress": self._regress,
                "MultiInference": self._multi_inference,
                "GetModelMetadata": self._metadata,
            },
            MODEL_SERVICE: {"GetModelStatus": self._status, "HandleReloadConfigRequest": self._reload_config},
        }
        return [
            grpc.method_handlers_generic_handler(
                service, {name: _handler(f"/{service}/{name}", answer) for name, answer in methods.items()}
            )
            for service, methods in answers.items()
        ]

    def _predict(self, request: Any, context: Any) -> Any:
        inputs = {name: to_array(tensor) for name, tensor in request.inputs.items()}
        model = self._asked("Predict", request.model_spec, context, inputs=inputs)
        signature_name = request.model_spec.signature_name or DEFAULT_SIGNATURE
        if model.signatures and signature_name not in model.signatures:
            raise FailedPrecondition(f'Serving signature key "{signature_name}" not found.')
        if model.predict is None:
            raise Unimplemented("this fake model has no predict")
        response = METHODS[messages.PREDICT][1]()
        _resolve(request.model_spec, model, response.model_spec)
        for name, array in model.predict(inputs).items():
            if not request.output_filter or name in request.output_filter:
                to_tensor(array, encoding="values", into=response.outputs[name])
        return response

    def _classify(self, request: Any, context: Any) -> Any:
        examples = _read_examples(request.input)
        model = self._asked("Classify", request.model_spec, context, examples=examples)
        response = METHODS[messages.CLASSIFY][1]()
        _resolve(request.model_spec, model, response.model_spec)
        _write_classes(model, examples, response.result)
        return response

    def _regress(self, request: Any, context: Any) -> Any:
        examples = _read_examples(request.input)
        model = self._asked("Regress", request.model_spec, context, examples=examples)
        response = METHODS[messages.REGRESS][1]()
        _resolve(request.model_spec, model, response.model_spec)
        _write_values(model, examples, response.result)
        return response

    def _multi_inference(self, request: Any, context: Any) -> Any:
        examples = _read_examples(request.input)
        response = METHODS[messages.MULTI_INFERENCE][1]()
        for task in request.tasks:
            model = self._asked("MultiInference", task.model_spec, context, examples=examples)
            result = response.results.add()
            _resolve(task.model_spec, model, result.model_spec)
            if task.method_name == messages.TASKS["classify"]:
                _write_classes(model, examples, result.classification_result)
            else:
                _write_values(model, examples, result.regression_result)
        return response

    def _metadata(self, request: Any, context: Any) -> Any:
        model = self._asked("GetModelMetadata", request.model_spec, context)
        if not model.signatures:
            raise Unimplemented("this fake model has no signatures")
        response = METHODS[messages.METADATA][1]()
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = model.version
        packed = response.metadata["signature_def"]
        packed.type_url = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
        packed.value = to_signature_def_map(model.signatures).SerializeToString()
        return response

    def _status(self, request: Any, context: Any) -> Any:
        model = self._asked("GetModelStatus", request.model_spec, context)
        response = METHODS[messages.STATUS][1]()
        entry = response.model_version_status.add(version=model.version, state=_AVAILABLE)
        entry.status.SetInParent()
        return response

    def _reload_config(self, request: Any, _context: Any) -> Any:
        configs = request.config.model_config_list.config
        self.reloaded.append({config.name: config.base_path for config in configs})
        response = METHODS[messages.RELOAD_CONFIG][1]()
        response.status.SetInParent()
        return response

    def _asked(
        self, method: str, spec: Any, context: Any, *, inputs: Any = None, examples: Sequence[Example] = ()
    ) -> FakeModel:
        version = spec.version.value if spec.HasField("version") else None
        headers = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        call = FakeCall(method, spec.name, version, spec.signature_name, inputs or {}, examples, headers)
        with self._lock:
            self.calls.append(call)
        model = self.models.get(spec.name)
        if model is None or version not in (None, model.version):
            wanted = f"Latest({spec.name})" if version is None else f"Specific({spec.name}, {version})"
            raise NotFound(f"Servable not found for request: {wanted}")
        return model


def _handler(method: str, answer: Callable[[Any, Any], Any]) -> Any:
    request, _ = METHODS[method]

    def handle(data: bytes, context: Any) -> bytes:
        try:
            response: bytes = answer(request.FromString(data), context).SerializeToString()
        except StatusError as error:
            context.abort(grpc.StatusCode[error.code], error.details)
        return response

    return grpc.unary_unary_rpc_method_handler(handle)


class _Golden:
    """The golden outputs by the bytes of their inputs' rows."""

    def __init__(self, inputs: Arrays, outputs: Arrays) -> None:
        self._outputs = outputs
        self._names = sorted(inputs)
        count = len(next(iter(inputs.values())))
        self._row_of = {self._key(inputs, row): row for row in range(count)}

    def __call__(self, inputs: dict[str, Array]) -> dict[str, Array]:
        if sorted(inputs) != self._names:
            raise InvalidArgument(f"expected the inputs {', '.join(self._names)}; got {', '.join(inputs)}")
        count = len(next(iter(inputs.values())))
        rows = [self._row_of.get(self._key(inputs, row), -1) for row in range(count)]
        if -1 in rows:
            raise InvalidArgument(f"row {rows.index(-1)} is none of the golden samples, all that this fake knows")
        return {name: array[rows] for name, array in self._outputs.items()}

    def _key(self, inputs: Arrays, row: int) -> tuple[Any, ...]:
        values = [inputs[name][row] for name in self._names]
        return tuple(repr(v.tolist()) if v.dtype == object else v.tobytes() for v in map(np.asarray, values))


def _resolve(asked: Any, model: FakeModel, into: Any) -> None:
    into.name = asked.name
    into.version.value = model.version
    into.signature_name = asked.signature_name or DEFAULT_SIGNATURE


def _read_examples(message: Any) -> list[Example]:
    if message.WhichOneof("kind") == "example_list_with_context":
        listed = message.example_list_with_context
        context = _read_example(listed.context)
        return [{**context, **_read_example(example)} for example in listed.examples]
    return [_read_example(example) for example in message.example_list.examples]


def _read_example(message: Any) -> dict[str, Any]:
    found = {}
    for name, feature in message.features.feature.items():
        kind = feature.WhichOneof("kind")
        found[name] = list(getattr(feature, kind).value) if kind else []
    return found


def _write_classes(model: FakeModel, examples: Sequence[Example], into: Any) -> None:
    if model.classify is None:
        raise Unimplemented("this fake model has no classify")
    for example in examples:
        classes = [Class(label, score) for label, score in model.classify(example).items()]
        entry = into.classifications.add()
        for one in classes:
            entry.classes.add(label=one.label, score=one.score)


def _write_values(model: FakeModel, examples: Sequence[Example], into: Any) -> None:
    if model.regress is None:
        raise Unimplemented("this fake model has no regress")
    for example in examples:
        into.regressions.add(value=model.regress(example))
