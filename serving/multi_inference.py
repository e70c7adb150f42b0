"""MultiInference: the same tf.Examples through several signatures, in one run. The texts are tensorflow_model_server's.

Source: tensorflow_serving/servables/tensorflow/multi_inference.cc.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keraship.errors import InvalidArgument, Unimplemented
from keraship.serving import classify, regress
from keraship.serving.backend import Array, JointBackend
from keraship.serving.classify import Classes
from keraship.serving.examples import INPUTS, find_signature, to_array
from keraship.serving.request_metrics import count_examples
from keraship.serving.servable import Servable
from keraship.signature import DEFAULT_SIGNATURE


@dataclass(frozen=True)
class Task:
    """One signature to run. model: what the task calls the model; all must agree. method_name: how to read it."""

    model: str
    signature_name: str
    method_name: str


@dataclass(frozen=True)
class MultiInferenceCall:
    """What is asked: see ExamplesCall."""

    tasks: Sequence[Task]
    examples: Sequence[bytes]
    timeout: float | None = None
    check_method: bool = False


@dataclass(frozen=True)
class TaskResult:
    """A task's answer: Classes, or the numbers of a regression, float32, [examples]."""

    signature_name: str
    result: Classes | Array


@dataclass(frozen=True)
class MultiInferred:
    """What was answered, in the tasks' order, and by whom."""

    model: str
    version: int
    results: list[TaskResult]


@dataclass(frozen=True)
class _Method:
    outputs_of: Callable[..., list[str]]
    read: Callable[[Mapping[str, Array], int], Classes | Array]


_METHODS = {
    classify.METHOD: _Method(classify.outputs_of, classify.read_classes),
    regress.METHOD: _Method(
        regress.outputs_of, lambda outputs, examples: regress.read_values(outputs[regress.OUTPUTS], examples)
    ),
}


def read_tasks(request: Any) -> list[Task]:
    """The tasks of a MultiInferenceRequest."""
    return [Task(task.model_spec.name, task.model_spec.signature_name, task.method_name) for task in request.tasks]


def multi_inference(servable: Servable, call: MultiInferenceCall) -> MultiInferred:
    """Run `call`; raises StatusError."""
    wanted = _wanted(servable, call)
    outputs = _run(servable, wanted, to_array(call.examples), call.timeout)
    count_examples(servable.name, len(call.examples))
    results = [
        TaskResult(name, _METHODS[task.method_name].read(outputs[name], len(call.examples)))
        for name, task in zip(wanted, call.tasks, strict=True)
    ]
    return MultiInferred(servable.name, servable.version, results)


def _wanted(servable: Servable, call: MultiInferenceCall) -> dict[str, list[str]]:
    """The outputs to ask each signature for, in the tasks' order."""
    wanted: dict[str, list[str]] = {}
    for task in call.tasks:
        if not task.model:
            raise InvalidArgument("Found ModelSpec with an empty model name.")
        if task.model != call.tasks[0].model:
            raise InvalidArgument("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        if (task.signature_name or DEFAULT_SIGNATURE) in wanted:
            raise InvalidArgument(f"Duplicate evaluation of signature: {task.signature_name or DEFAULT_SIGNATURE}")
        name, signature = find_signature(servable, task.signature_name, "Requested signature not found in model graph")
        if task.method_name not in _METHODS:
            raise Unimplemented(f"Unsupported signature method_name: {task.method_name}")
        wanted[name] = _METHODS[task.method_name].outputs_of(signature, check_method=call.check_method)
    return wanted


def _run(
    servable: Servable, wanted: Mapping[str, list[str]], array: Array, timeout: float | None
) -> dict[str, dict[str, Array]]:
    backend = servable.backend
    for name in wanted:
        if name not in backend.signatures:  # its tensors are such as nobody can send, sparse ones
            raise InvalidArgument(f"Requested signature not found in model graph: {name}")
    if isinstance(backend, JointBackend):
        found = backend.run_together(wanted, array, timeout=timeout)
    else:
        found = {name: backend.run(name, {INPUTS: array}, outputs, timeout=timeout) for name, outputs in wanted.items()}
    return {name: dict(zip(outputs, found[name], strict=True)) for name, outputs in wanted.items()}
