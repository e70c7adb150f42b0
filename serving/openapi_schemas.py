"""The JSON Schemas of predictions: exactly the bodies that a signature takes, as far as a schema can say it.

What it cannot say: that the rows of an input with open inner sizes are of one shape, that whole tensors of several
inputs have as many rows as each other, and what a model itself refuses, such as an index that is out of range.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keraship import dtypes
from keraship.serving.rest_json import WRITABLE
from keraship.signature import DEFAULT_SIGNATURE, Signature, TensorSpec

Schema = dict[str, Any]

BASE64: Schema = {
    "type": "object",
    "description": "Bytes, in standard base64.",
    "required": ["b64"],
    "additionalProperties": False,
    "properties": {
        "b64": {
            "type": "string",
            "contentEncoding": "base64",
            "pattern": "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
        }
    },
}

_LARGEST_EXAMPLE = 4096


def _integer(low: int, high: int, description: str = "") -> Schema:
    described = {"description": description} if description else {}
    return {"type": "integer", "minimum": low, "maximum": high, **described}


_NARROW = _integer(-(2**31), 2**31 - 1, "Any 32-bit integer: what is too large for the tensor wraps.")

# By TensorFlow's names; the same dtypes as rest_json reads.
_ELEMENTS: dict[str, Schema] = {
    "float": {"type": "number", "format": "float"},
    "double": {"type": "number", "format": "double"},
    "int32": _integer(-(2**31), 2**31 - 1),
    "int16": _NARROW,
    "int8": _NARROW,
    "uint8": _NARROW,
    "int64": _integer(-(2**63), 2**63 - 1),
    "uint32": _integer(0, 2**32 - 1),
    "uint64": _integer(0, 2**64 - 1),
    "bool": {"type": "boolean"},
    "string": {"anyOf": [{"type": "string"}, BASE64]},
}

_OUTPUT_NUMBER: Schema = {
    "anyOf": [{"type": "number"}, {"not": {"type": ["string", "boolean", "array", "object"]}}],
    "description": "NaN and Infinity are written bare, which is no JSON; parsers make of them what they like.",
}

_RANKLESS = 4  # levels of lists that are described where a rank is open


@dataclass(frozen=True)
class _Form:
    """Signatures that take and give the same, under all their names."""

    names: tuple[str, ...]
    signature: Signature

    @property
    def is_default(self) -> bool:
        return DEFAULT_SIGNATURE in self.names

    @property
    def by_row(self) -> bool:
        """Whether it can be asked row by row: each tensor may have an axis for the rows."""
        return all(spec.shape != () for spec in (*self.signature.inputs, *self.signature.outputs))


def predict_request(signatures: Mapping[str, Signature]) -> Schema | None:
    """The body of :predict; None where no signature can be asked in JSON."""
    forms = _forms(signatures)
    variants = [
        _request(form, key, schema)
        for form in forms
        for key, schema in ([("instances", _rows(form.signature))] if form.by_row else [])
        + [("inputs", _columns(form.signature))]
    ]
    return _any_of(variants) if variants else None


def predict_response(signatures: Mapping[str, Signature]) -> Schema:
    """The body of its answer."""
    variants: list[Schema] = []
    for form in _forms(signatures):
        outputs = form.signature.outputs
        if form.by_row:
            row = _single_or_object(outputs, {spec.name: _row(spec, _output_element(spec)) for spec in outputs})
            variants.append(_object({"predictions": {"type": "array", "items": row}}))
        whole = _single_or_object(outputs, {spec.name: _tensor(spec, _output_element(spec)) for spec in outputs})
        variants.append(_object({"outputs": whole}))
    return _any_of(variants)


def predict_example(signatures: Mapping[str, Signature]) -> Schema | None:
    """A body with zeros that the first signature takes; None where it would be too long to read."""
    for form in _forms(signatures):
        inputs = form.signature.inputs
        if sum(_count(spec) for spec in inputs) > _LARGEST_EXAMPLE:
            return None
        values = {spec.name: _zeros(spec) for spec in inputs}
        if form.by_row:
            rows = min(len(value) for value in values.values())
            columns = [{name: value[index] for name, value in values.items()} for index in range(rows)]
            body: Any = {"instances": [row[inputs[0].name] if len(inputs) == 1 else row for row in columns]}
        else:
            body = {"inputs": values}
        return body if form.is_default else {"signature_name": form.names[0], **body}
    return None


def _forms(signatures: Mapping[str, Signature]) -> list[_Form]:
    """Those that JSON can ask and answer; what is made for tf.Examples is asked by :classify and :regress."""
    found: dict[tuple[Any, ...], tuple[list[str], Signature]] = {}
    for name in sorted(signatures, key=lambda name: (name != DEFAULT_SIGNATURE, name)):
        signature = signatures[name]
        specs = (*signature.inputs, *signature.outputs)
        if signature.method_name.endswith(("/classify", "/regress")) or not signature.inputs or not signature.outputs:
            continue
        if all(dtypes.by_name(spec.dtype).tf_name in WRITABLE for spec in specs):
            key = tuple((spec.name, spec.dtype, spec.shape) for spec in specs)
            found.setdefault(key, ([], signature))[0].append(name)
    return [_Form(tuple(names), signature) for names, signature in found.values()]


def _request(form: _Form, key: str, schema: Schema) -> Schema:
    other = "inputs" if key == "instances" else "instances"
    names = ["", *form.names] if form.is_default else list(form.names)
    return {
        "type": "object",
        "required": [key] if form.is_default else [key, "signature_name"],
        "properties": {"signature_name": {"type": "string", "enum": names}, key: schema},
        "not": {"required": [other]},
    }


def _rows(signature: Signature) -> Schema:
    rows = {spec.name: _row(spec, _element(spec)) for spec in signature.inputs}
    objects = _list(_object(rows, closed=True), _row_count(signature), least=1)
    if len(rows) > 1:
        return objects
    (only,) = rows.values()
    return {"anyOf": [_list(only, _row_count(signature), least=1), objects]}


def _row_count(signature: Signature) -> int | None:
    return next((spec.shape[0] for spec in signature.inputs if spec.shape and spec.shape[0] is not None), None)


def _columns(signature: Signature) -> Schema:
    tensors = {spec.name: _tensor(spec, _element(spec)) for spec in signature.inputs}
    if len(tensors) > 1:
        return _object(tensors)
    (only,) = tensors.values()
    return {"anyOf": [only, _object(tensors)]}


def _single_or_object(specs: Sequence[TensorSpec], schemas: Mapping[str, Schema]) -> Schema:
    return schemas[specs[0].name] if len(specs) == 1 else _object(schemas)


def _element(spec: TensorSpec) -> Schema:
    return _ELEMENTS[dtypes.by_name(spec.dtype).tf_name]


def _output_element(spec: TensorSpec) -> Schema:
    """Outputs of strings are base64 where TensorFlow Serving's rule of names says so, and text otherwise."""
    if spec.dtype == "string":
        return BASE64 if spec.name.endswith("_bytes") else {"type": "string"}
    element = _element(spec)
    return _OUTPUT_NUMBER if element.get("type") == "number" else element


def _row(spec: TensorSpec, element: Schema) -> Schema:
    return _any_rank(element) if spec.shape is None else _nested(element, spec.shape[1:])


def _tensor(spec: TensorSpec, element: Schema) -> Schema:
    if spec.shape is None:
        return _any_rank(element)
    least = 1 if len(spec.shape) > 1 else 0  # an empty list has one axis, whatever should be in it
    return _list(_nested(element, spec.shape[1:]), spec.shape[0], least=least) if spec.shape else element


def _nested(element: Schema, shape: Sequence[int | None]) -> Schema:
    for size in reversed(shape):
        element = _list(element, size)
    return element


def _list(items: Schema, size: int | None, *, least: int = 0) -> Schema:
    limits = {"minItems": least} if size is None else {"minItems": size, "maxItems": size}
    return {"type": "array", "items": items, **{name: limit for name, limit in limits.items() if limit}}


def _any_rank(element: Schema) -> Schema:
    levels = [element]
    for _ in range(_RANKLESS):
        levels.append({"type": "array", "items": levels[-1], "minItems": 1})
    return {"anyOf": levels}


def _object(members: Mapping[str, Schema], *, closed: bool = False) -> Schema:
    made: Schema = {"type": "object", "required": list(members), "properties": dict(members)}
    return {**made, "additionalProperties": False} if closed else made


def _any_of(schemas: list[Schema]) -> Schema:
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _sizes(spec: TensorSpec) -> list[int]:
    return [1 if size is None else size for size in ((None,) if spec.shape is None else spec.shape)]


def _count(spec: TensorSpec) -> int:
    total = 1
    for size in _sizes(spec):
        total *= size
    return total


def _zeros(spec: TensorSpec) -> Any:
    value: Any = {"string": "", "bool": False}.get(spec.dtype, 0 if re.match("u?int", spec.dtype) else 0.0)
    for size in reversed(_sizes(spec)):
        value = [value] * size
    return value
