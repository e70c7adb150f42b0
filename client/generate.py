"""A typed client for one model, as Python text: a method for each signature, its arguments named and typed as it is.

What it says, a type checker checks: a wrong name, a wrong dtype, an output that is not there.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from keraship import dtypes
from keraship.errors import InvalidInput
from keraship.signature import DEFAULT_SIGNATURE, Signature, TensorSpec, format_shape

_NUMPY_TYPES = {
    "bool": "np.bool_", "string": "np.object_", "complex64": "np.complex64", "complex128": "np.complex128",
}  # fmt: skip
_OPTIONS = ("version", "version_label", "timeout", "copy", "self", "client")
"""What the methods' own arguments are called; an input of such a name gets an underscore."""


def generate(model: str, signatures: Mapping[str, Signature], *, source: str) -> str:
    """The text of a module with a client of `model`.

    source: where the signatures are from, for the text's first line. Raises InvalidInput for a model without any.
    """
    if not signatures:
        raise InvalidInput(f"expected a model with signatures; '{model}' has none")
    class_name = _class_name(model)
    methods = _method_names(signatures)
    calls = [_Call(name, methods[name], signature, class_name) for name, signature in sorted(signatures.items())]
    parts = [_HEAD.format(model=model, source=source.replace("\\", "/"))]
    parts += [call.answer_class() for call in calls]
    parts.append(_CLASS.format(class_name=class_name, model=model, repr_model=repr(model)))
    parts += [call.method() for call in calls]
    return "\n".join(parts)


@dataclass(frozen=True)
class _Call:
    """One signature's part of the text."""

    name: str
    method_name: str
    signature: Signature
    class_name: str

    @property
    def answer_name(self) -> str:
        """DigitsAnswer for the default signature, DigitsTop5Answer for another."""
        own = "" if self.name == DEFAULT_SIGNATURE else _class_name(self.name)
        return f"{self.class_name}{own}Answer"

    def answer_class(self) -> str:
        fields = _identifiers(spec.name for spec in self.signature.outputs)
        lines = [
            "@dataclass(frozen=True)",
            f"class {self.answer_name}:",
            f'    """What {self.name} answers."""',
            "",
        ]
        lines += [f"    {fields[spec.name]}: {_type(spec)}  # {_note(spec)}" for spec in self.signature.outputs]
        lines += [
            "    model_spec: ModelSpec",
            "",
            "    @classmethod",
            f"    def of(cls, prediction: Prediction) -> {self.answer_name}:",
            "        return cls(",
        ]
        lines += [f"            {fields[spec.name]}=prediction[{spec.name!r}]," for spec in self.signature.outputs]
        lines += ["            model_spec=prediction.model_spec,", "        )", "", ""]
        return "\n".join(lines)

    def method(self) -> str:
        names = _identifiers(spec.name for spec in self.signature.inputs)
        lines = [f"    def {self.method_name}(", "        self,", "        *,"]
        lines += [f"        {names[spec.name]}: {_type(spec)},  # {_note(spec)}" for spec in self.signature.inputs]
        lines += [
            "        version: int | None = None,",
            "        version_label: str | None = None,",
            "        timeout: float | None = None,",
            "        copy: bool = False,",
            f"    ) -> {self.answer_name}:",
            f'        """Ask the signature {self.name}; raises as Client.predict does."""',
            "        prediction = self._client.predict(",
            "            {",
        ]
        lines += [f"                {spec.name!r}: {names[spec.name]}," for spec in self.signature.inputs]
        lines += [
            "            },",
            "            model_name=self.model_name,",
            f"            signature_name={self.name!r},",
            "            version=version,",
            "            version_label=version_label,",
            "            timeout=timeout,",
            "            copy=copy,",
            "        )",
            f"        return {self.answer_name}.of(prediction)",
            "",
        ]
        return "\n".join(lines)


_HEAD = '''"""A typed client of the model {model}, made by `keraship client generate` from {source}; do not edit."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from keraship.client import Client, ModelSpec, Prediction

'''

_CLASS = '''class {class_name}:
    """The model {model}: a method for each of its signatures.

    client: a Client, which may be shared with others; or the address of one to make, with Client's options.
    """

    model_name = {repr_model}

    def __init__(self, client: Client | str, **options: Any) -> None:
        self._client = Client(client, **options) if isinstance(client, str) else client

    def close(self) -> None:
        """Close the client."""
        self._client.close()

    def __enter__(self) -> {class_name}:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
'''


def _type(spec: TensorSpec) -> str:
    kind = dtypes.by_name(spec.dtype)
    storage = kind.storage or kind.name
    if spec.dtype in _NUMPY_TYPES:
        return f"npt.NDArray[{_NUMPY_TYPES[spec.dtype]}]"
    return f"npt.NDArray[np.{storage}]" if kind.numpy.isbuiltin == 1 else "npt.NDArray[Any]"


def _note(spec: TensorSpec) -> str:
    return f"{spec.dtype} {format_shape(spec.shape)}"


def _class_name(text: str) -> str:
    """digits-int8 is DigitsInt8."""
    name = "".join(part[:1].upper() + part[1:] for part in re.split(r"[^0-9A-Za-z]+", text)) or "Model"
    return name if name[0].isalpha() else f"Model{name}"


def _method_names(signatures: Iterable[str]) -> dict[str, str]:
    """The default signature is `predict`, the others are called what they are."""
    names = _identifiers(name for name in sorted(signatures) if name != DEFAULT_SIGNATURE)
    taken = {"predict", "close", "model_name"}
    names = {name: f"{each}_" if each in taken else each for name, each in names.items()}
    return names | {DEFAULT_SIGNATURE: "predict"}


def _identifiers(names: Iterable[str]) -> dict[str, str]:
    """An identifier for each name, no two alike."""
    found: dict[str, str] = {}
    for name in names:
        text = re.sub(r"\W", "_", name, flags=re.ASCII).strip("_") or "value"
        text = f"n{text}" if text[0].isdigit() else text
        if keyword.iskeyword(text) or text in _OPTIONS or text in ("model_spec", "of"):
            text += "_"
        while text in found.values():
            text += "_"
        found[name] = text
    return found
