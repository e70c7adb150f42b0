"""What a caller gives, as arrays by name that fit a signature: arrays, Python's literals, pandas data frames."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from keraship.client.results import Metadata
from keraship.errors import InvalidInput
from keraship.signature import DEFAULT_SIGNATURE, Signature, TensorSpec
from keraship.signature import check as check_inputs

Array = np.ndarray[Any, Any]


def fit(
    inputs: Any, metadata: Metadata | None, signature_name: str, *, check: bool
) -> tuple[Mapping[str, Any], Signature | None]:
    """The inputs by name, as the model takes them, and the signature that is asked.

    metadata: None for a server that does not tell them. Raises InvalidInput for inputs that do not fit.
    """
    if metadata is None:
        return _unchecked(inputs), None
    signature = find_signature(metadata, signature_name)
    named = by_name(inputs, signature)
    if not check:
        return named, signature
    optional = metadata.optional.get(signature_name or DEFAULT_SIGNATURE)
    if optional:
        wanted = tuple(spec for spec in signature.inputs if spec.name in named or spec.name not in optional)
        return check_inputs(replace(signature, inputs=wanted), named), signature
    return check_inputs(signature, named), signature


def by_name(inputs: Any, signature: Signature) -> Mapping[str, Any]:
    """A mapping as it is; a data frame by its columns, or as one array; anything else for the only input."""
    if isinstance(inputs, Mapping):
        return inputs
    if is_frame(inputs):
        return _frame_by_name(inputs, signature)
    if len(signature.inputs) != 1:
        names = ", ".join(spec.name for spec in signature.inputs) or "none"
        raise InvalidInput(f"expected arrays by name, as in {{'name': array}}, for the inputs {names}; got one value")
    return {signature.inputs[0].name: inputs}


def find_signature(metadata: Metadata, name: str) -> Signature:
    """The signature called `name`, the default one for no name; raises InvalidInput where the model has none."""
    name = name or DEFAULT_SIGNATURE
    if name in metadata.signatures:
        return metadata.signatures[name]
    model = metadata.model_spec.name
    if name in metadata.unreadable:
        raise InvalidInput(f"signature '{name}' of model '{model}' takes no plain arrays: {metadata.unreadable[name]}")
    near = difflib.get_close_matches(name, metadata.signatures, n=1)
    meant = f", did you mean '{near[0]}'?" if near else ""
    names = ", ".join(metadata.signatures) or "none"
    raise InvalidInput(f"the model '{model}' has no signature '{name}'{meant} (signatures: {names})")


def is_frame(value: Any) -> bool:
    """Whether it is a pandas DataFrame; pandas is not imported to find out."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, pandas.DataFrame)


def column_array(column: Any) -> Array:
    """A pandas column as a numpy array, its missing numbers as NaN; raises InvalidInput where they cannot be."""
    numpy_dtype = getattr(column.dtype, "numpy_dtype", None)
    if numpy_dtype is None:
        return np.asarray(column)
    if not column.hasnans:
        return np.asarray(column.to_numpy(dtype=numpy_dtype))
    if numpy_dtype.kind != "f":
        raise InvalidInput(f"expected a number in every row of the column '{column.name}'; some are missing")
    return np.asarray(column.to_numpy(dtype=numpy_dtype, na_value=np.nan))


def _unchecked(inputs: Any) -> Mapping[str, Any]:
    if isinstance(inputs, Mapping):
        return inputs
    if is_frame(inputs):
        return {str(name): column_array(inputs[name]) for name in inputs.columns}
    raise InvalidInput(
        "expected arrays by name, as in {'images': array}: this server does not tell the names of a model's inputs"
    )


def _frame_by_name(frame: Any, signature: Signature) -> Mapping[str, Any]:
    specs = {spec.name: spec for spec in signature.inputs}
    if len(specs) == 1 and not set(specs) & set(frame.columns):
        columns = [column_array(frame[name]) for name in frame.columns]
        (name,) = specs
        return {name: np.stack(columns, axis=1) if columns else np.empty((len(frame), 0))}
    return {str(name): _column(frame[name], specs.get(name)) for name in frame.columns}


def _column(column: Any, spec: TensorSpec | None) -> Array:
    """Of shape [rows], or [rows, 1] where the model has it so."""
    array = column_array(column)
    if spec is not None and spec.shape is not None and len(spec.shape) == 2:
        return array.reshape(-1, 1)
    return array
