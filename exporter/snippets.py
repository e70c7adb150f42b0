"""What to type to ask an exported model: a server, curl, Python; for any signature, with names that may be anything."""

from __future__ import annotations

import json
import shlex
from typing import Any

from keraship.exporter.markup import readable
from keraship.signature import Signature, TensorSpec

_OPEN = 16  # in place of a size that is open
_FEW = 24  # numbers that can be typed; more are made by a program


def serve(name: str) -> str:
    """How to start a server for it."""
    return f"keraship serve REPOSITORY --port=8500 --rest_api_port=8501   # {_one_line(name)} is one of its models"


def curl(name: str, signature: Signature, signature_name: str, *, features: Signature | None = None) -> str:
    """A request over REST, with zeros for numbers, "text" for strings, and a photo for encoded images.

    features: the inputs that examples of a signature for classification or regression have.
    """
    url = f"http://localhost:8501/v1/models/{name}:{_method(signature)}"
    head = {} if signature_name == "serving_default" else {"signature_name": signature_name}
    if _method(signature) != "predict":
        program = f"print(json.dumps({_python_examples(head, features)}))"
        return f"python3 -c {_quoted(f'import json; {program}')} \\\n  | curl -d @- {_quoted(url)}"
    if any(_is_file(spec) for spec in signature.inputs):
        program = f"print(json.dumps({_python_files(head, signature)}))"
        return f"python3 -c {_quoted(f'import base64, json; {program}')} \\\n  | curl -d @- {_quoted(url)}"
    if all(_elements(spec) <= _FEW for spec in signature.inputs):
        body = json.dumps({**head, "inputs": {spec.name: _zeros(_shape(spec), spec) for spec in signature.inputs}})
        return f"curl -d {_quoted(body)} {_quoted(url)}"
    program = "; ".join(
        [
            "import json",
            "fill = lambda value, *shape: [fill(value, *shape[1:])] * shape[0] if shape else value",
            f"print(json.dumps({_python_body(head, signature)}))",
        ]
    )
    return f"python3 -c {_quoted(program)} \\\n  | curl -d @- {_quoted(url)}"


def python(name: str, signature: Signature, signature_name: str, *, features: Signature | None = None) -> str:
    """The same by our client."""
    option = "" if signature_name == "serving_default" else f", signature_name={_literal(signature_name)}"
    if _method(signature) != "predict":
        return "\n".join(
            [
                "from keraship.client import Client",
                "",
                f'with Client("localhost:8500", {_literal(name)}) as client:',
                f"    print(client.{_method(signature)}([{_example(features)}]{option}))",
            ]
        )
    inputs = ", ".join(f"{_literal(spec.name)}: {_array(spec)}" for spec in signature.inputs)
    return "\n".join(
        [
            "import numpy as np",
            "from keraship.client import Client",
            "",
            f'with Client("localhost:8500", {_literal(name)}) as client:',
            f"    answer = client.predict({{{inputs}}}{option})",
            "    print({name: array.shape for name, array in answer.items()})",
        ]
    )


def _method(signature: Signature) -> str:
    """The last part of the method's name: predict, classify, regress."""
    method = signature.method_name.rpartition("/")[2]
    return method if method in ("classify", "regress") else "predict"


def _is_file(spec: TensorSpec) -> bool:
    """Whether it takes the bytes of a file; TensorFlow Serving has such names end so."""
    return spec.dtype == "string" and spec.name.endswith("_bytes")


def _head(head: dict[str, str]) -> str:
    return "".join(f"{_literal(key)}: {_literal(value)}, " for key, value in head.items())


def _python_files(head: dict[str, str], signature: Signature) -> str:
    photo = '[{"b64": base64.b64encode(open("photo.jpg", "rb").read()).decode()}]'
    inputs = ", ".join(
        f"{_literal(spec.name)}: {photo if _is_file(spec) else repr(_zeros(_shape(spec), spec))}"
        for spec in signature.inputs
    )
    return f'{{{_head(head)}"inputs": {{{inputs}}}}}'


def _python_examples(head: dict[str, str], features: Signature | None) -> str:
    return f'{{{_head(head)}"examples": [{_example(features)}]}}'


def _example(features: Signature | None) -> str:
    """A row as its features: flat lists, as tf.Example has them."""
    specs = features.inputs if features else ()
    return "{" + ", ".join(f"{_literal(s.name)}: [{_value(s)!r}] * {_elements(s)}" for s in specs) + "}"


def _python_body(head: dict[str, str], signature: Signature) -> str:
    fills = ", ".join(
        f"{_literal(spec.name)}: fill({', '.join([repr(_value(spec)), *map(str, _shape(spec))])})"
        for spec in signature.inputs
    )
    return f'{{{_head(head)}"inputs": {{{fills}}}}}'


def _shape(spec: TensorSpec) -> list[int]:
    """One row, and 16 in place of any other open size."""
    sizes = (None,) if spec.shape is None else spec.shape
    return [size if size is not None else 1 if axis == 0 else _OPEN for axis, size in enumerate(sizes)]


def _elements(spec: TensorSpec) -> int:
    total = 1
    for size in _shape(spec):
        total *= size
    return total


def _zeros(shape: list[int], spec: TensorSpec) -> Any:
    return [_zeros(shape[1:], spec) for _ in range(shape[0])] if shape else _value(spec)


def _value(spec: TensorSpec) -> Any:
    return {"string": "text", "bool": False}.get(spec.dtype, 0 if "int" in spec.dtype else 0.0)


def _array(spec: TensorSpec) -> str:
    shape = _shape(spec)
    if _is_file(spec):
        return '[open("photo.jpg", "rb").read()]'
    if spec.dtype == "string":
        return f'np.full({shape}, "text", object)'
    return f'np.zeros({shape}, "{spec.dtype}")' if spec.dtype != "bfloat16" else f"np.zeros({shape}).tolist()"


def _literal(value: str) -> str:
    """A Python string of printable ASCII, in double quotes as JSON has them."""
    return json.dumps(value)


def _quoted(value: str) -> str:
    return shlex.quote(readable(value))


def _one_line(value: str) -> str:
    return readable(" ".join(value.split()))
