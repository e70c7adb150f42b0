"""What a client says and hears over REST: messages.py's twin, in TensorFlow Serving's JSON.

Inputs and outputs go in the column format, whose answers keep their shapes. JSON has no dtypes: an answer is read by
the model's signature. What JSON cannot hold is refused before it is sent.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np

from keraship import dtypes
from keraship.client import messages
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
from keraship.errors import Internal, InvalidArgument, InvalidInput, Unimplemented
from keraship.signature import DEFAULT_SIGNATURE, Signature, TensorSpec, shape_fits
from keraship.wire.messages import SignatureDefMap
from keraship.wire.tensor import as_elements

TELLS_VERSION = False
"""An answer does not say which version gave it."""

_SENDABLE = {
    "float32", "float64", "int64", "int32", "int16", "int8", "uint8", "uint32", "uint64", "bool", "string",
}  # fmt: skip


def predict_call(
    target: Target,
    inputs: Mapping[str, Any],
    *,
    signature_name: str,
    output_filter: Sequence[str] = (),
    specs: Iterable[TensorSpec] = (),
) -> Call:
    """A predict call; raises InvalidInput for values that JSON, or TensorFlow Serving's reading of it, cannot hold."""
    declared = {spec.name: spec.dtype for spec in specs}
    columns = {name: _to_json(name, value, declared.get(name)) for name, value in inputs.items()}
    return _post(messages.PREDICT, target, {"signature_name": signature_name, "inputs": columns})


def classify_call(target: Target, examples: Sequence[Features], context: Features | None, signature_name: str) -> Call:
    """A classify call."""
    return _examples_call(messages.CLASSIFY, target, examples, context, signature_name)


def regress_call(target: Target, examples: Sequence[Features], context: Features | None, signature_name: str) -> Call:
    """A regress call."""
    return _examples_call(messages.REGRESS, target, examples, context, signature_name)


def multi_inference_call(
    target: Target, examples: Sequence[Features], context: Features | None, tasks: Mapping[str, str]
) -> Call:
    """TensorFlow Serving has none over REST: raises Unimplemented."""
    raise Unimplemented("TensorFlow Serving has no multi_inference over REST: give the client its gRPC address")


def reload_config_call(models: Sequence[ModelConfig]) -> Call:
    """TensorFlow Serving has none over REST: raises Unimplemented."""
    raise Unimplemented("TensorFlow Serving has no reload_config over REST: give the client its gRPC address")


def metadata_call(target: Target) -> Call:
    """A question for the signatures."""
    return Call(messages.METADATA, b"", target.name, path=f"{_path(target)}/metadata", verb="GET")


def status_call(target: Target) -> Call:
    """A question for the versions."""
    return Call(messages.STATUS, b"", target.name, path=_path(target), verb="GET")


def read_prediction(
    data: bytes,
    *,
    target: Target,
    signature_name: str,
    signature: Signature | None,
    output_filter: Sequence[str] = (),
    copy: bool = False,
) -> Prediction:
    """The Prediction in an answer; raises Internal where it holds none, InvalidArgument for an unknown output."""
    if signature is None:
        raise Unimplemented(
            "expected a server that tells its models' signatures, without which an answer over REST cannot be read: "
            "give the client the server's gRPC address"
        )
    specs = {spec.name: spec for spec in signature.outputs}
    if unknown := [name for name in output_filter if name not in specs]:
        raise InvalidArgument(
            f"output tensor alias not found in signature: {unknown[0]} "
            f"Outputs expected to be in the set {{{','.join(sorted(specs))}}}."
        )
    values = _member(_parse(data), "outputs")
    if len(specs) == 1:
        values = {next(iter(specs)): values}
    if not isinstance(values, dict) or not set(values) <= set(specs):
        raise Internal(f"expected the outputs {', '.join(specs)} in the server's answer; got others", attempts=1)
    outputs = {
        name: _from_json(specs[name], value, copy=copy)
        for name, value in sorted(values.items())
        if not output_filter or name in output_filter
    }
    return Prediction(outputs, _spec(target, signature_name))


def read_classification(data: bytes, target: Target, signature_name: str) -> Classification:
    """The Classification in an answer."""
    try:
        classes = [
            tuple(Class(_text(label).decode(errors="replace"), float(np.float32(score))) for label, score in each)
            for each in _member(_parse(data), "results")
        ]
    except (TypeError, ValueError) as error:
        raise Internal(f"expected classes in the server's answer; it cannot be read: {error}", attempts=1) from error
    return Classification(classes, _spec(target, signature_name))


def read_regression(data: bytes, target: Target, signature_name: str) -> Regression:
    """The Regression in an answer."""
    try:
        array = np.array(_member(_parse(data), "results"), np.float32)
    except (TypeError, ValueError) as error:
        raise Internal(f"expected values in the server's answer; it cannot be read: {error}", attempts=1) from error
    return Regression(array, _spec(target, signature_name))


def read_multi_inference(data: bytes) -> dict[str, Classification | Regression]:
    """Never called: there is no such call."""
    raise Unimplemented("TensorFlow Serving has no multi_inference over REST")


def read_reload_config(data: bytes) -> None:
    """Never called: there is no such call."""
    raise Unimplemented("TensorFlow Serving has no reload_config over REST")


def read_metadata(data: bytes) -> Metadata:
    """The Metadata in an answer."""
    from google.protobuf import json_format

    document = _parse(data)
    spec = _member(document, "model_spec")
    try:
        signatures = json_format.ParseDict(
            document["metadata"]["signature_def"], SignatureDefMap(), ignore_unknown_fields=True
        )
        version = int(spec["version"]) if "version" in spec else None
        return messages.metadata_of(ModelSpec(spec["name"], version, ""), signatures.signature_def)
    except (KeyError, TypeError, ValueError, json_format.ParseError) as error:
        raise Internal(f"expected signatures in the server's answer; got others: {error!r}", attempts=1) from error


def read_status(data: bytes) -> tuple[VersionStatus, ...]:
    """The versions in an answer."""
    try:
        return tuple(
            VersionStatus(
                version=int(item.get("version", 0)),
                state=str(item.get("state", "UNKNOWN")),
                error_code=str(item.get("status", {}).get("error_code", "OK")),
                error_message=str(item.get("status", {}).get("error_message", "")),
            )
            for item in _member(_parse(data), "model_version_status")
        )
    except (AttributeError, TypeError, ValueError) as error:
        raise Internal(f"expected versions in the server's answer; got others: {error!r}", attempts=1) from error


def _post(method: str, target: Target, document: dict[str, Any]) -> Call:
    verb = method.rpartition("/")[2].lower()
    return Call(method, _encode(document), target.name, path=f"{_path(target)}:{verb}")


def _path(target: Target) -> str:
    path = f"/v1/models/{quote(target.name, safe='')}"
    if target.version is not None:
        return f"{path}/versions/{int(target.version)}"
    if target.version_label is not None:
        return f"{path}/labels/{quote(target.version_label, safe='')}"
    return path


def _examples_call(
    method: str, target: Target, examples: Sequence[Features], context: Features | None, signature_name: str
) -> Call:
    document: dict[str, Any] = {"signature_name": signature_name, "examples": [_to_example(e) for e in examples]}
    if context is not None:
        document["context"] = _to_example(context)
    return _post(method, target, document)


def _to_example(features: Features) -> dict[str, Any]:
    return {
        name: [_b64(value) for value in values] if kind == "bytes_list" else values
        for name, (kind, values) in features.items()
    }


def _spec(target: Target, signature_name: str) -> ModelSpec:
    return ModelSpec(target.name, target.version, signature_name or DEFAULT_SIGNATURE)


# Arrays to JSON and back.


def _to_json(name: str, value: Any, dtype: str | None) -> Any:
    try:
        kind, array = as_elements(value, dtype)
    except (InvalidArgument, ValueError, TypeError) as error:
        raise InvalidInput(f"'{name}' is no tensor: {error}") from error
    if kind.name not in _SENDABLE:
        raise InvalidInput(f"'{name}' is of {kind}, which TensorFlow Serving does not take over REST: ask over gRPC")
    if array.size == 0 and array.ndim > 1:
        raise InvalidInput(
            f"'{name}' is empty, of shape {list(array.shape)}, which JSON cannot hold: ask over gRPC, or not at all"
        )
    if kind is dtypes.STRING:
        encoded = np.empty(array.shape, object)
        encoded.reshape(-1)[:] = [_b64(item) for item in array.reshape(-1)]
        return encoded.tolist()
    return array.tolist()


def _b64(item: bytes) -> Any:
    """Base64 keeps every byte."""
    return {"b64": base64.b64encode(item).decode()}


def _from_json(spec: TensorSpec, value: Any, *, copy: bool) -> Array:
    kind = dtypes.by_name(spec.dtype)
    try:
        if kind is dtypes.STRING:
            nested = np.array(value, object)
            array = np.empty(nested.shape, object)
            array.reshape(-1)[:] = [_text(item) for item in nested.reshape(-1)]
        else:
            array = np.array(value, kind.numpy)
    except (TypeError, ValueError, OverflowError) as error:
        raise Internal(
            f"expected output '{spec.name}' to be {spec}; the answer cannot be read: {error}", attempts=1
        ) from error
    array = _with_lost_sizes(spec, array)
    if not shape_fits(spec.shape, array.shape) and spec.shape is not None and len(spec.shape) != array.ndim:
        raise Internal(f"expected output '{spec.name}' to be {spec}; got shape {list(array.shape)}", attempts=1)
    array.flags.writeable = copy
    return array


def _with_lost_sizes(spec: TensorSpec, array: Array) -> Array:
    """Of an empty array JSON keeps the first sizes only; the signature may know the others."""
    if array.size or spec.shape is None or len(spec.shape) <= array.ndim:
        return array
    return array.reshape(array.shape + tuple(size or 0 for size in spec.shape[array.ndim :]))


def _text(item: Any) -> bytes:
    if isinstance(item, str):
        return item.encode("utf-8", "surrogateescape")
    if isinstance(item, dict) and set(item) == {"b64"}:
        return base64.b64decode(item["b64"])
    raise ValueError(f"expected a text, got {type(item).__name__}")


def _encode(document: Any) -> bytes:
    """msgspec is ten times as fast as json, but writes NaN as null."""
    import msgspec

    if _is_finite(document):
        return msgspec.json.encode(document)
    return json.dumps(document).encode()


def _is_finite(value: Any) -> bool:
    if isinstance(value, list):
        if value and not isinstance(value[0], list | dict):
            try:
                return math.isfinite(math.fsum(value))
            except (TypeError, ValueError, OverflowError):
                return all(not isinstance(item, float) or math.isfinite(item) for item in value)
        return all(map(_is_finite, value))
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    return not isinstance(value, float) or math.isfinite(value)


def _parse(data: bytes) -> Any:
    """msgspec for JSON as it should be; NaN, Infinity and bytes that are no text are TensorFlow Serving's own."""
    import msgspec

    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:
        return json.loads(data.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError) as error:
        raise Internal(f"expected JSON from the server; got other text: {error}", attempts=1) from error


def _member(document: Any, name: str) -> Any:
    if not isinstance(document, dict) or name not in document:
        raise Internal(f"expected '{name}' in the server's answer; it has no such member", attempts=1)
    return document[name]
