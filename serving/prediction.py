"""One prediction on a loaded version: are the names right, then run. The texts are tensorflow_model_server's.

Source: tensorflow_serving/servables/tensorflow/predict_util.cc, tensorflow/cc/saved_model/util.cc.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keraship.errors import FailedPrecondition, Internal, InvalidArgument
from keraship.serving.backend import Array
from keraship.serving.request_metrics import count_run
from keraship.serving.servable import Servable
from keraship.signature import DEFAULT_SIGNATURE, Signature

_METHODS = ("tensorflow/serving/predict", "tensorflow/serving/classify", "tensorflow/serving/regress")


@dataclass(frozen=True)
class PredictCall:
    """What is asked.

    inputs: by name, in whatever form `read` makes an array of; it raises InvalidArgument for what is none.
    output_names: empty for all. timeout: seconds. check_method: refuse signatures that are not for inference.
    """

    inputs: Mapping[str, Any]
    read: Callable[[Any], Array]
    signature_name: str = ""
    output_names: Sequence[str] = ()
    timeout: float | None = None
    check_method: bool = False


@dataclass(frozen=True)
class Prediction:
    """What was answered, and by whom."""

    model: str
    version: int
    signature_name: str
    outputs: dict[str, Array]


def predict(servable: Servable, call: PredictCall) -> Prediction:
    """Run `call`; raises StatusError."""
    name = call.signature_name or DEFAULT_SIGNATURE
    backend = servable.backend
    if name not in backend.signatures:
        raise FailedPrecondition(f'Serving signature key "{name}" not found.')
    signature = backend.signatures[name]
    if call.check_method and signature.method_name not in _METHODS:
        raise Internal(
            "Expected prediction signature method_name to be one of {" + ", ".join(_METHODS) + "}. "
            f"Was: {signature.method_name}"
        )
    inputs = _read_inputs(signature, call, backend.defaults.get(name, {}))
    outputs = _output_names(signature, call.output_names)
    begin = time.perf_counter()
    arrays = backend.run(name, inputs, outputs, timeout=call.timeout)
    count_run(servable.name, "Predict", time.perf_counter() - begin)
    return Prediction(servable.name, servable.version, name, dict(zip(outputs, arrays, strict=True)))


def _read_inputs(signature: Signature, call: PredictCall, defaults: Mapping[str, Array]) -> dict[str, Array]:
    required = {spec.name for spec in signature.inputs}
    sent = set(call.inputs)
    if len(sent) > len(required) or (len(sent) < len(required) and not defaults):
        raise InvalidArgument(
            f"input size does not match signature: {len(sent)}!={len(required)} len({_set(sent)}) != "
            f"len({_set(required)}). Sent extra: {_set(sent - required)}. "
            f"Missing but required: {_set(required - sent)}."
        )
    arrays = {}
    for spec in sorted(signature.inputs, key=lambda spec: spec.name):
        if spec.name in call.inputs:
            arrays[spec.name] = _read(spec.name, call)
        elif spec.name in defaults:
            arrays[spec.name] = defaults[spec.name]
        else:
            raise InvalidArgument(
                f"Signature input alias: {spec.name}(feed name: {spec.tensor or spec.name}) not found in request and "
                f"no default value provided. Inputs expected to be in the request {_set(sent)}, or default input "
                f"alias set: {_set(defaults)}"
            )
    if sent - required:
        raise InvalidArgument(
            f"Inputs contains invalid name. Used request inputs: {_set(sent & required)}, request input: {_set(sent)}"
        )
    return arrays


def _read(name: str, call: PredictCall) -> Array:
    try:
        return call.read(call.inputs[name])
    except InvalidArgument as error:
        raise InvalidArgument(f"tensor parsing error: {name}") from error


def _output_names(signature: Signature, asked: Sequence[str]) -> list[str]:
    known = [spec.name for spec in signature.outputs]
    chosen: list[str] = []
    for name in asked:
        if name not in known:
            raise InvalidArgument(
                f"output tensor alias not found in signature: {name} Outputs expected to be in the set {_set(known)}."
            )
        if name in chosen:
            raise InvalidArgument(f"duplicate output tensor alias: {name}")
        chosen.append(name)
    return chosen or known


def _set(names: Collection[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
