"""Regress: tf.Examples to a number for each. The texts are tensorflow_model_server's.

Source: tensorflow_serving/servables/tensorflow/regressor.cc.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from keraship.errors import InvalidArgument
from keraship.serving.backend import Array
from keraship.serving.examples import INPUTS, ExamplesCall, find_signature, run, show, show_shape, type_name
from keraship.serving.servable import Servable

METHOD = "tensorflow/serving/regress"
OUTPUTS = "outputs"


@dataclass(frozen=True)
class Regressed:
    """What was answered, and by whom. values: float32, [examples]."""

    model: str
    version: int
    signature_name: str
    values: Array


def regress(servable: Servable, call: ExamplesCall) -> Regressed:
    """Run `call`; raises StatusError."""
    name, signature = find_signature(servable, call.signature_name, "No signature was found with the name")
    outputs = run(servable, name, call, outputs_of(signature, check_method=call.check_method), api="Regress")
    values = read_values(outputs[OUTPUTS], len(call.examples))
    return Regressed(servable.name, servable.version, name, values)


def outputs_of(signature: Any, *, check_method: bool) -> list[str]:
    """The outputs to ask a SignatureDef for; raises InvalidArgument for one that does not regress."""
    if check_method and signature.method_name != METHOD:
        raise InvalidArgument(f"Expected regression signature method_name to be {METHOD}. Was: {signature.method_name}")
    if len(signature.inputs) != 1:
        raise InvalidArgument("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise InvalidArgument("Expected one output Tensor.")
    if INPUTS not in signature.inputs:
        raise InvalidArgument(f"No regression inputs found in SignatureDef: {show(signature)}")
    if OUTPUTS not in signature.outputs:
        raise InvalidArgument(f"No regression outputs found in SignatureDef: {show(signature)}")
    return [OUTPUTS]


def read_values(output: Array, examples: int) -> Array:
    """The numbers that a model's output says, [examples]; raises InvalidArgument for one that says none."""
    if not (output.ndim == 1 or (output.ndim == 2 and output.shape[1] == 1)):
        raise InvalidArgument(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got " + show_shape(output)
        )
    if len(output) != examples:
        raise InvalidArgument(f"Input batch size did not match output batch size: {examples} vs. {len(output)}")
    if type_name(output) != "DT_FLOAT":
        raise InvalidArgument(f"Expected output Tensor of DT_FLOAT.  Got: {type_name(output)}")
    return output.reshape(-1)
