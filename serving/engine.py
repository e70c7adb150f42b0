"""The data plane: what can be asked of the models, with arrays in and arrays out. It knows no transport."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from keraship.errors import DeadlineExceeded
from keraship.serving.classify import Classified, classify
from keraship.serving.examples import ExamplesCall
from keraship.serving.multi_inference import MultiInferenceCall, MultiInferred, multi_inference
from keraship.serving.prediction import PredictCall, Prediction, predict
from keraship.serving.regress import Regressed, regress
from keraship.serving.repository import Repository
from keraship.serving.servable import Servable, VersionStatus
from keraship.signature import Signature

_Call = TypeVar("_Call", PredictCall, ExamplesCall, MultiInferenceCall)
_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class ModelSpec:
    """Which model is meant. version None and label None: the highest version that is loaded."""

    name: str
    version: int | None = None
    label: str | None = None


@dataclass(frozen=True)
class Metadata:
    """A version's signatures, as a SignatureDefMap."""

    model: str
    version: int
    signature_defs: Any


@dataclass(frozen=True)
class Description:
    """A loaded version, for people: its signatures, and its folder, which may be gone again."""

    model: str
    version: int
    signatures: Mapping[str, Signature]
    path: Path


@dataclass(frozen=True)
class EngineOptions:
    """check_method: refuse Predict on signatures whose method_name is none of TensorFlow Serving's."""

    check_method: bool = False


class Engine:
    """Answers questions out of a repository. Every error is a StatusError; anything else is a defect."""

    def __init__(self, repository: Repository, options: EngineOptions | None = None) -> None:
        self._repository = repository
        self._options = options or EngineOptions()

    def predict(self, spec: ModelSpec, call: PredictCall) -> Prediction:
        """Run a model on arrays."""
        return self.predict_by(spec, lambda _: call)

    def predict_by(self, spec: ModelSpec, make_call: Callable[[Mapping[str, Signature]], PredictCall]) -> Prediction:
        """Run a model on arrays that can only be made with its signatures in hand, as those in JSON are.

        What `make_call` reads and what then runs is one version, whatever is loaded meanwhile.
        """
        begin = time.monotonic()
        with self._repository.lease(spec.name, spec.version, spec.label) as servable:
            call = make_call(servable.backend.signatures)
            return predict(servable, self._within(call, time.monotonic() - begin))

    def classify(self, spec: ModelSpec, call: ExamplesCall) -> Classified:
        """Let a model classify examples."""
        return self._on_examples(spec, call, classify)

    def regress(self, spec: ModelSpec, call: ExamplesCall) -> Regressed:
        """Let a model give a number for each example."""
        return self._on_examples(spec, call, regress)

    def multi_inference(self, spec: ModelSpec, call: MultiInferenceCall) -> MultiInferred:
        """Run several signatures of a model on the same examples."""
        return self._on_examples(spec, call, multi_inference)

    def metadata(self, spec: ModelSpec) -> Metadata:
        """What a model can be asked."""
        with self._repository.lease(spec.name, spec.version, spec.label) as servable:
            return Metadata(servable.name, servable.version, servable.backend.signature_defs)

    def status(self, spec: ModelSpec) -> list[VersionStatus]:
        """How a model's versions are, newest first; labels are not looked at."""
        return self._repository.status(spec.name, spec.version)

    def describe(self, spec: ModelSpec) -> Description:
        """What a version takes and gives, and where it lies."""
        with self._repository.lease(spec.name, spec.version, spec.label) as servable:
            return Description(servable.name, servable.version, dict(servable.backend.signatures), servable.path)

    def models(self) -> dict[str, list[VersionStatus]]:
        """Every model with its versions, newest first."""
        return self._repository.statuses()

    def labels(self, name: str) -> Mapping[str, int]:
        """A model's labels, each with its version."""
        return self._repository.labels.get(name, {})

    def _on_examples(self, spec: ModelSpec, call: _Call, run: Callable[[Servable, _Call], _Answer]) -> _Answer:
        begin = time.monotonic()
        with self._repository.lease(spec.name, spec.version, spec.label) as servable:
            return run(servable, self._within(call, time.monotonic() - begin))

    def _within(self, call: _Call, spent: float) -> _Call:
        left = None if call.timeout is None else call.timeout - spent
        if left is not None and left <= 0:
            raise DeadlineExceeded("the deadline passed before the model could run")
        return dataclasses.replace(call, timeout=left, check_method=self._options.check_method)
