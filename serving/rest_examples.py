"""Classify and regress in TensorFlow Serving's JSON: requests to serialized tf.Examples, results to the answer's bytes.

Source of the rules, the words and the layout: tensorflow_serving/util/json_tensor.cc.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from keraship.errors import InvalidArgument
from keraship.serving.backend import Array
from keraship.serving.classify import Classes
from keraship.serving.json_text import debug, indent, quote, to_bytes, to_text, type_name
from keraship.serving.rest_answer import decimals
from keraship.serving.rest_json import read_base64, read_request
from keraship.wire.messages import Example

_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True)
class JsonExamples:
    """A request, read: serialized examples, the context's bytes before those of each."""

    signature_name: str
    examples: list[bytes]


def read_examples(body: bytes) -> JsonExamples:
    """A request's body; raises InvalidArgument for what is no request."""
    request = read_request(body)
    root = request.root()
    context = _example(root["context"]) if "context" in root else b""
    if "examples" not in root:
        raise InvalidArgument(
            f"JSON Value: {debug(root)} When method is classify, key 'examples' is expected and was not found"
        )
    values = root["examples"]
    if not isinstance(values, list):
        raise InvalidArgument(f"JSON Value: {debug(root)} Expecting 'examples' value to be an list/array")
    if not values:
        raise InvalidArgument(f"JSON Value: {debug(root)} 'examples' value is an empty array")
    return JsonExamples(request.signature_name, [context + _example(value) for value in values])


def write_classes(classes: Classes) -> bytes:
    """The answer's body; raises InvalidArgument where there is nothing to say."""
    rows = [_on_one_line(f"[{quote(to_text(label))}, {score}]" for label, score in row) for row in _with_texts(classes)]
    if not rows:
        raise InvalidArgument("Cannot convert empty ClassificationResults to JSON")
    return to_bytes(f'{{\n    "results": [{", ".join(rows)}{indent(1)}]\n}}')


def write_values(values: Array) -> bytes:
    """The answer's body; raises InvalidArgument where there is nothing to say."""
    if not len(values):
        raise InvalidArgument("Cannot convert empty RegressionResults to JSON")
    return to_bytes(f'{{\n    "results": {_on_one_line(decimals(values))}\n}}')


def _with_texts(classes: Classes) -> Iterable[list[tuple[bytes, str]]]:
    for row in classes:
        scores = decimals(np.array([score for _, score in row], np.float32))
        yield [(label, score) for (label, _), score in zip(row, scores, strict=True)]


def _on_one_line(texts: Iterable[str]) -> str:
    return f"[{', '.join(texts)}]"


# An example's JSON to its bytes.


def _example(value: Any) -> bytes:
    if not isinstance(value, dict):
        raise InvalidArgument(f"Example must be JSON object but got JSON {type_name(value)}")
    example = Example()
    for name, content in value.items():
        kind, values = _read_feature(name, content if isinstance(content, list) else [content])
        feature = _feature(example, name)
        if kind:
            getattr(feature, f"{kind}_list").value.extend(values)
    serialized: bytes = example.SerializeToString()
    return serialized


def _feature(example: Any, name: str) -> Any:
    try:
        return example.features.feature[name]
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"expected names of features in UTF-8; got {to_bytes(name)!r}") from error


def _read_feature(name: str, items: list[Any]) -> tuple[str, list[Any]]:
    """What kind of feature it is, "" for one without values, and the values."""
    kind, values = "", []
    for item in items:
        this, read = _kind_of(name, item)
        if kind not in ("", this):
            raise InvalidArgument(f"Unexpected element type in feature: {name} expecting type: {kind}")
        kind = this
        values.append(read(item))
    return kind, values


def _kind_of(name: str, item: Any) -> tuple[str, Callable[[Any], Any]]:
    if isinstance(item, dict) and isinstance(item.get("b64"), str) and len(item) == 1:
        return "bytes", read_base64
    if type(item) not in _KINDS:
        raise InvalidArgument(f"Feature: {name} has element with unexpected JSON type: {type_name(item)}")
    kind, read = _KINDS[type(item)]
    if kind == "int64" and item not in _INT64:
        return kind, lambda _: _refuse_unsigned(name)
    return kind, read


def _refuse_unsigned(name: str) -> None:
    raise InvalidArgument(f"Feature: {name} has uint64_t element. Only int64_t is supported.")


def _as_float32(value: float) -> float:
    with np.errstate(over="ignore"):  # what is too large is infinite
        return float(np.float32(value))


_KINDS: dict[type, tuple[str, Callable[[Any], Any]]] = {
    bool: ("int64", int),
    int: ("int64", int),
    float: ("float", _as_float32),
    str: ("bytes", to_bytes),
}
