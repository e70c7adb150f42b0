"""Classify: tf.Examples to the classes of each, with scores. The texts are tensorflow_model_server's.

Source: tensorflow_serving/servables/tensorflow/classifier.cc.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import repeat
from typing import Any

from keraship.errors import InvalidArgument
from keraship.serving.backend import Array
from keraship.serving.examples import INPUTS, ExamplesCall, find_signature, run, show, show_shape, type_name
from keraship.serving.servable import Servable

METHOD = "tensorflow/serving/classify"
CLASSES, SCORES = "classes", "scores"


@dataclass(frozen=True)
class Classes:
    """The classes of each example.

    labels: bytes, [examples, classes]; scores: float32, [examples, classes]. Either may be missing.
    """

    labels: Array | None
    scores: Array | None

    def __iter__(self) -> Iterator[list[tuple[bytes, float]]]:
        """Label and score of every class, example by example; b"" and 0.0 stand for what is missing."""
        labels = repeat(None) if self.labels is None else self.labels.tolist()
        scores = repeat(None) if self.scores is None else self.scores.tolist()
        for row, values in zip(labels, scores, strict=False):
            yield list(
                zip(repeat(b"") if row is None else row, repeat(0.0) if values is None else values, strict=False)
            )


@dataclass(frozen=True)
class Classified:
    """What was answered, and by whom."""

    model: str
    version: int
    signature_name: str
    classes: Classes


def classify(servable: Servable, call: ExamplesCall) -> Classified:
    """Run `call`; raises StatusError."""
    name, signature = find_signature(servable, call.signature_name, "No signature was found with the name")
    outputs = run(servable, name, call, outputs_of(signature, check_method=call.check_method), api="Classify")
    classes = read_classes(outputs, len(call.examples))
    return Classified(servable.name, servable.version, name, classes)


def outputs_of(signature: Any, *, check_method: bool) -> list[str]:
    """The outputs to ask a SignatureDef for; raises InvalidArgument for one that does not classify."""
    if check_method and signature.method_name != METHOD:
        raise InvalidArgument(
            f"Expected classification signature method_name to be {METHOD}. Was: {signature.method_name}"
        )
    if len(signature.inputs) != 1:
        raise InvalidArgument("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise InvalidArgument(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if INPUTS not in signature.inputs:
        raise InvalidArgument(f"No classification inputs found in SignatureDef: {show(signature)}")
    found = [name for name in (CLASSES, SCORES) if name in signature.outputs]
    if not found:
        raise InvalidArgument(
            f'Expected classification signature outputs to contain at least one of "{CLASSES}" or "{SCORES}". '
            f"Signature was: {show(signature)}"
        )
    return found


def read_classes(outputs: Mapping[str, Array], examples: int) -> Classes:
    """The classes that a model's outputs say; raises InvalidArgument for outputs that say none."""
    labels, scores = outputs.get(CLASSES), outputs.get(SCORES)
    _check(labels, CLASSES, "DT_STRING", examples)
    _check(scores, SCORES, "DT_FLOAT", examples)
    if labels is not None and scores is not None and labels.shape[1] != scores.shape[1]:
        raise InvalidArgument(
            f"Tensors class and score should match in dim_size(1). Got {labels.shape[1]} vs. {scores.shape[1]}"
        )
    return Classes(labels, scores)


def _check(array: Array | None, name: str, dtype: str, examples: int) -> None:
    if array is None:
        return
    if array.ndim != 2:
        raise InvalidArgument(f"Expected Tensor shape: [batch_size num_classes] but got {show_shape(array)}")
    if type_name(array) != dtype:
        raise InvalidArgument(f"Expected {name} Tensor of {dtype}. Got: {type_name(array)}")
    if len(array) != examples:
        raise InvalidArgument(f"Expected {name} output batch size of {examples}. Got: {len(array)}")
