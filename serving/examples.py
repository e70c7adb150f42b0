"""What Classify, Regress and MultiInference have in common: tf.Examples as a tensor, and one input to feed it to.

Source: tensorflow_serving/servables/tensorflow/util.cc.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf import text_format

from keraship import dtypes
from keraship.errors import InvalidArgument
from keraship.serving.backend import Array
from keraship.serving.request_metrics import count_run
from keraship.serving.servable import Servable
from keraship.signature import DEFAULT_SIGNATURE, format_shape

INPUTS = "inputs"
"""What the one input of a signature for examples is called."""


@dataclass(frozen=True)
class ExamplesCall:
    """What is asked: examples, serialized; timeout: seconds; check_method: refuse signatures made for other things."""

    examples: Sequence[bytes]
    signature_name: str = ""
    timeout: float | None = None
    check_method: bool = False


def read_input(message: Any) -> list[bytes]:
    """The examples of an Input, each serialized, the context's bytes before its own; none where it has none."""
    if message.WhichOneof("kind") != "example_list_with_context":
        return [example.SerializeToString() for example in message.example_list.examples]
    with_context = message.example_list_with_context
    context = with_context.context.SerializeToString()
    return [context + example.SerializeToString() for example in with_context.examples]


def to_array(examples: Sequence[bytes]) -> Array:
    """Serialized examples as the string tensor that graphs parse, shape [examples]; raises InvalidArgument for none."""
    if not examples:
        raise InvalidArgument("Input is empty.")
    array = np.empty(len(examples), object)
    array[:] = examples
    return array


def find_signature(servable: Servable, name: str, absent: str) -> tuple[str, Any]:
    """The name and the SignatureDef that are meant by `name`; raises InvalidArgument, `absent`: name, without one."""
    name = name or DEFAULT_SIGNATURE
    if name not in set(servable.backend.signature_defs.signature_def):  # a map refuses names that are no UTF-8
        raise InvalidArgument(f"{absent}: {name}")
    return name, servable.backend.signature_defs.signature_def[name]


def run(servable: Servable, name: str, call: ExamplesCall, outputs: Collection[str], *, api: str) -> dict[str, Array]:
    """The outputs asked for, by name, of a signature that takes examples; api: "Classify" or "Regress"."""
    outputs = list(outputs)
    inputs: Mapping[str, Array] = {INPUTS: to_array(call.examples)}
    if name not in servable.backend.signatures:  # its tensors are such as nobody can send, sparse ones
        raise InvalidArgument(f"No signature was found with the name: {name}")
    begin = time.perf_counter()
    arrays = servable.backend.run(name, inputs, outputs, timeout=call.timeout)
    count_run(servable.name, api, time.perf_counter() - begin)
    return dict(zip(outputs, arrays, strict=True))


def show(signature: Any) -> str:
    """A SignatureDef as errors show it, its maps in the order of their keys."""
    text: str = text_format.MessageToString(signature)
    return text


def type_name(array: Array) -> str:
    """The data type as TensorFlow's enum writes it: DT_FLOAT."""
    return f"DT_{dtypes.of_array(array).tf_name.upper()}"


def show_shape(array: Array) -> str:
    """The shape as TensorFlow writes it: [2,3]."""
    return format_shape(array.shape)
