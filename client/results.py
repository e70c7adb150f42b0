"""What a client is asked for and what it gives back, whatever the transport."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np

from keraship.signature import Signature

Array = np.ndarray[Any, Any]


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


@dataclass(frozen=True)
class Class:
    """One class that an example may be of; label: empty where the model has no names for its classes."""

    label: str
    score: float


class Classification(Sequence[tuple[Class, ...]]):
    """The classes of each example, in the model's order, and `.model_spec`, what the server used."""

    def __init__(self, classes: Sequence[tuple[Class, ...]], model_spec: ModelSpec) -> None:
        self._classes = tuple(classes)
        self.model_spec = model_spec

    @property
    def best(self) -> tuple[Class, ...]:
        """The class of the highest score, for each example that has classes."""
        return tuple(max(each, key=lambda one: one.score) for each in self._classes if each)

    @overload
    def __getitem__(self, index: int) -> tuple[Class, ...]: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[tuple[Class, ...], ...]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self._classes[index]

    def __len__(self) -> int:
        return len(self._classes)

    def __repr__(self) -> str:
        return f"<Classification of {len(self)} examples by {self.model_spec.name}>"


@dataclass(frozen=True)
class Regression:
    """A value for each example (array: float32 [examples]), and what the server used."""

    array: Array
    model_spec: ModelSpec

    def __len__(self) -> int:
        return len(self.array)


@dataclass(frozen=True)
class ModelConfig:
    """A model that a server is to serve: reload_config's entry.

    base_path: the folder of its versions, as the server sees it. versions: how many of the latest, "all", or a list of
    numbers; None for the server's own choice, the latest. labels: version labels.
    """

    name: str
    base_path: str
    versions: int | str | Sequence[int] | None = None
    labels: Mapping[str, int] = field(default_factory=dict)
    platform: str = "tensorflow"
