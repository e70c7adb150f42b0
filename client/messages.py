"""What a client says and hears: requests built, answers read. It knows no transport."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError, EncodeError

from keraship.errors import Internal, InvalidArgument, InvalidInput
from keraship.signature import Signature, TensorSpec
from keraship.wire import to_array
from keraship.wire.messages import METHODS, MODEL_SERVICE, PREDICTION_SERVICE, SignatureDefMap
from keraship.wire.messages import ModelSpec as ModelSpecMessage
from keraship.wire.read import read_predict_response
from keraship.wire.signatures import to_signature
from keraship.wire.tensor import as_elements
from keraship.wire.write import join_predict_request, predict_head

Array = np.ndarray[Any, Any]

PREDICT = f"/{PREDICTION_SERVICE}/Predict"
METADATA = f"/{PREDICTION_SERVICE}/GetModelMetadata"
STATUS = f"/{MODEL_SERVICE}/GetModelStatus"

_SIGNATURES = "signature_def"
_NOT_FOR_CALLERS = ("__saved_model_init_op", "__saved_model_train_op")  # TensorFlow keeps them among the signatures


@dataclass(frozen=True)
class Target:
    """Which model is asked: its latest version, without `version` and `version_label`.

    Raises ValueError for no name, for both a version and a label, and for a version that is no number from 0 on.
    """

    name: str
    version: int | None = None
    version_label: str | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("expected a model's name; got none: give model_name here, or to the client for all calls")
        if self.version is not None and self.version_label is not None:
            raise ValueError(
                f"expected a version or a version_label; got both ({self.version} and {self.version_label!r})"
            )
        if self.version is not None and not 0 <= operator.index(self.version) < 2**63:
            raise ValueError(f"expected a version of 0 or more; got {self.version}")


@dataclass(frozen=True)
class ModelSpec:
    """What the server used: the model, its version (None where it did not say), and the signature."""

    name: str
    version: int | None
    signature_name: str


@dataclass(frozen=True)
class Metadata:
    """What a server says of a model.

    signatures: by name. unreadable: why, for the signatures that arrays cannot be given for (sparse tensors).
    optional: the inputs of each signature that have a default, and may be left out.
    """

    model_spec: ModelSpec
    signatures: dict[str, Signature]
    unreadable: dict[str, str] = field(default_factory=dict)
    optional: dict[str, frozenset[str]] = field(default_factory=dict)

    @property
    def version(self) -> int | None:
        """The version that these signatures are of."""
        return self.model_spec.version


@dataclass(frozen=True)
class VersionStatus:
    """How far a version is.

    state: START, LOADING, AVAILABLE, UNLOADING, END or UNKNOWN.
    error_code: why it is there, a code's name such as "NOT_FOUND"; "OK" without an error, then error_message is empty.
    """

    version: int
    state: str
    error_code: str
    error_message: str

    def __str__(self) -> str:
        error = "" if self.error_code == "OK" else f" ({self.error_code}: {self.error_message})"
        return f"version {self.version} is {self.state}{error}"


class Prediction(Mapping[str, Array]):
    """A model's answer: output name -> array, and `.model_spec`, what the server used.

    The arrays are read-only; where the message allows it they share its memory. predict(copy=True) gives arrays that
    can be written to. Strings are object arrays of bytes.
    """

    def __init__(self, outputs: Mapping[str, Array], model_spec: ModelSpec) -> None:
        self._outputs = dict(outputs)
        self.model_spec = model_spec

    @property
    def array(self) -> Array:
        """The only output; raises ValueError where there are several."""
        if len(self._outputs) != 1:
            names = ", ".join(self._outputs) or "none"
            raise ValueError(
                f"expected one output for .array; the model gave {len(self._outputs)} ({names}): "
                "take one by name, as in prediction['name']"
            )
        return next(iter(self._outputs.values()))

    def __getitem__(self, name: str) -> Array:
        return self._outputs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._outputs)

    def __len__(self) -> int:
        return len(self._outputs)

    def __repr__(self) -> str:
        outputs = ", ".join(f"{name}: {array.dtype} {list(array.shape)}" for name, array in self.items())
        spec = self.model_spec
        version = "" if spec.version is None else f"/{spec.version}"
        return f"<Prediction of {spec.name}{version} ({spec.signature_name}): {outputs}>"


def predict_request(
    target: Target,
    inputs: Mapping[str, Any],
    *,
    signature_name: str,
    output_filter: Sequence[str] = (),
    specs: Iterable[TensorSpec] = (),
) -> bytes:
    """A PredictRequest's bytes.

    specs: the signature's inputs, where they are known; they tell a quantized type from the integers that hold it.
    Raises InvalidInput for values that no tensor, or no message, can hold; ValueError for an output_filter of one str.
    """
    if isinstance(output_filter, str):
        raise ValueError(f"expected output_filter to be a list of names; got the text {output_filter!r}")
    declared = {spec.name: spec.dtype for spec in specs}
    tensors = []
    for name, value in inputs.items():
        try:
            tensors.append((name, *as_elements(value, declared.get(name))))
        except (InvalidArgument, ValueError, TypeError) as error:
            raise InvalidInput(f"'{name}' is no tensor: {error}") from error
    try:
        return join_predict_request(_predict_head(target, signature_name, tuple(output_filter)), tensors)
    except (InvalidArgument, UnicodeEncodeError) as error:
        raise InvalidInput(str(error)) from error


def metadata_request(target: Target) -> bytes:
    """A GetModelMetadataRequest's bytes, for the signatures."""
    request = METHODS[METADATA][0](metadata_field=[_SIGNATURES])
    _write_spec(request.model_spec, target)
    return _serialize(request)


def status_request(target: Target) -> bytes:
    """A GetModelStatusRequest's bytes."""
    request = METHODS[STATUS][0]()
    _write_spec(request.model_spec, target)
    return _serialize(request)


def read_prediction(data: bytes, *, copy: bool = False) -> Prediction:
    """The Prediction that a PredictResponse's bytes hold; raises Internal where they hold none."""
    read = read_predict_response(data)
    if read is not None:
        outputs, spec = read
        if copy:
            outputs = {name: array.copy() for name, array in outputs.items()}
        return Prediction(_sealed(outputs, copy), _parsed_spec(spec))
    response = _parse(PREDICT, data)
    try:
        outputs = {name: to_array(tensor, copy=copy) for name, tensor in sorted(response.outputs.items())}
    except InvalidArgument as error:
        raise Internal(f"expected tensors in the server's answer; it cannot be read: {error}", attempts=1) from error
    return Prediction(_sealed(outputs, copy), _read_spec(response.model_spec))


def read_metadata(data: bytes) -> Metadata:
    """The Metadata that a GetModelMetadataResponse's bytes hold; raises Internal where they hold none."""
    response = _parse(METADATA, data)
    found = Metadata(_read_spec(response.model_spec), {})
    for name, message in sorted(_signature_defs(response).items()):
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
