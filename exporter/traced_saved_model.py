"""A SavedModel's signature as the function that is exported: of Keras' model.export, tf.saved_model.save, or TF 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keraship import dtypes
from keraship.danger import first_danger
from keraship.errors import ExportError, InvalidArgument, ModelError
from keraship.exporter import names
from keraship.exporter.scan import scan
from keraship.exporter.trace import Array, Traced
from keraship.reasons import reason
from keraship.signature import DEFAULT_SIGNATURE, Signature, TensorSpec

_PB = "saved_model.pb"
_UNREAD = "keras_metadata.pb"  # Keras 2's, which TensorFlow's loader leaves alone


@dataclass(frozen=True)
class SavedModel:
    """A SavedModel in memory: its folder, what TensorFlow made of it, its signatures by name."""

    path: Path
    root: Any
    signatures: dict[str, Any]

    @property
    def name(self) -> str:
        """The folder's."""
        return self.path.name

    @property
    def weights(self) -> list[Any]:
        """The variables that its signatures use, each once."""
        found = {id(variable): variable for function in self.signatures.values() for variable in function.variables}
        return list(found.values())


def read_saved_model(path: Path, *, trust: bool = False) -> SavedModel:
    """Check the folder, then load it.

    trust: accept operations that reach files or run code; links and paths out of the folder are refused nevertheless.
    Raises ModelError for a folder that holds no SavedModel, one that is dangerous or broken, or has no signatures.
    """
    if not (path / _PB).is_file():
        raise ModelError(f"expected a .keras or .h5 file, or a SavedModel's folder with a {_PB}; {path} holds none")
    findings = [found for found in scan(path).findings if not found.where.startswith(_UNREAD)]
    found = first_danger(findings, waived=["op"] if trust else [])
    if found:
        way_out = " (or, where you know who made it: --trust)" if found.kind == "op" else ""
        raise ModelError(f"{path} is refused: {found}{way_out}")
    try:
        root = tf.saved_model.load(str(path))
        signatures = dict(root.signatures)
    except Exception as error:  # what TensorFlow raises on a broken folder has no common class
        raise ModelError(f"TensorFlow {tf.__version__} cannot load {path}: {reason(error)}") from error
    if not signatures:
        raise ModelError(
            f"{path} is a SavedModel without signatures, so nobody knows how to call it; write it with "
            "model.export(), or tf.saved_model.save(..., signatures=...)"
        )
    return SavedModel(path, root, signatures)


def trace_saved_model(
    model: SavedModel,
    signature: str | None = None,
    *,
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
) -> Traced:
    """One signature, as a function of a flat list; its names, dtypes and shapes are kept.

    signature: serving_default, else the first, where left out. inputs, outputs: names in place of the signature's own,
    in their alphabetical order. Raises ExportError.
    """
    chosen = _chosen(model, signature)
    function = model.signatures[chosen]
    given, answers = dict(function.structured_input_signature[1]), dict(function.structured_outputs)
    input_keys, output_keys = sorted(given), sorted(answers)
    input_names = names.choose("inputs", input_keys, inputs)
    output_names = names.choose("outputs", output_keys, outputs, input_names)
    specs = [tf.TensorSpec(given[key].shape, given[key].dtype, f"input_{i}") for i, key in enumerate(input_keys)]

    def call(*flat: Any) -> list[Any]:
        # by way of the model, whose variables live as long as it does
        answered = model.signatures[chosen](**dict(zip(input_keys, flat, strict=True)))
        return [answered[key] for key in output_keys]

    own = Signature(
        tuple(_spec(name, given[key]) for name, key in zip(input_names, input_keys, strict=True)),
        tuple(_spec(name, answers[key]) for name, key in zip(output_names, output_keys, strict=True)),
    )
    traced = tf.function(call, input_signature=specs, autograph=False).get_concrete_function()
    return Traced(traced, own, _answer(own, call))


def _chosen(model: SavedModel, name: str | None) -> str:
    if name is None:
        name = DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in model.signatures else min(model.signatures)
    if name not in model.signatures:
        raise ExportError(f"expected a signature out of {', '.join(sorted(model.signatures))}; got {name}")
    return name


def _answer(signature: Signature, call: Callable[..., list[Any]]) -> Callable[[dict[str, Array]], dict[str, Array]]:
    def answer(arrays: dict[str, Array]) -> dict[str, Array]:
        flat = [tf.constant(arrays[spec.name], spec.dtype) for spec in signature.inputs]
        return {spec.name: np.asarray(tensor) for spec, tensor in zip(signature.outputs, call(*flat), strict=True)}

    return answer


def _spec(name: str, tensor: Any) -> TensorSpec:
    shape = None if tensor.shape.rank is None else tuple(tensor.shape)
    try:
        return TensorSpec(name, dtypes.by_number(tensor.dtype.as_datatype_enum).name, shape)
    except InvalidArgument as error:
        raise ExportError(f"{name!r} cannot be served: {error}") from error
