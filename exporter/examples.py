"""tf.Examples for a model: a graph that makes its inputs of them, and Examples made of arrays.

An Example has a feature for each input, under the input's name: a flat list of floats, integers or bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keraship import dtypes
from keraship.errors import ExportError
from keraship.signature import Signature, TensorSpec

Arrays = dict[str, np.ndarray[Any, Any]]

# numpy's kind of an input's dtype -> what a feature holds for it. ml_dtypes' floats are of kind V.
_FEATURES = dict.fromkeys("fV", tf.float32) | dict.fromkeys("iub", tf.int64) | {"O": tf.string}


def check(signature: Signature) -> None:
    """Raise ExportError for inputs that no tf.Example can hold."""
    for spec in signature.inputs:
        if spec.shape is None or not spec.shape or spec.shape[0] is not None:
            raise ExportError(
                f"classify and regress take any number of tf.Examples, and the input {spec.name!r} is {spec}: "
                "its first size must be free"
            )
        if None in spec.shape[1:]:
            raise ExportError(
                f"a tf.Example holds lists of a fixed length, and the input {spec.name!r} is {spec}; "
                "build the model with fixed sizes, or leave out classify and regress"
            )
        if _kind(spec) not in _FEATURES:
            raise ExportError(f"a tf.Example cannot hold {spec.dtype}, which the input {spec.name!r} takes")


def parse(serialized: Any, signature: Signature) -> dict[str, Any]:
    """The inputs by name, made of serialized Examples, string [n], in the graph that is being built."""
    features = {
        spec.name: tf.io.FixedLenFeature(spec.shape[1:] if spec.shape else (), _FEATURES[_kind(spec)])
        for spec in signature.inputs
    }
    parsed = tf.io.parse_example(serialized, features)
    return {spec.name: tf.cast(parsed[spec.name], spec.dtype) for spec in signature.inputs}


def serialize(signature: Signature, arrays: Arrays) -> np.ndarray[Any, Any]:
    """An Example for each row, serialized: an object array of bytes, [n]."""
    count = len(next(iter(arrays.values())))
    serialized = np.empty(count, object)
    for row in range(count):
        features = {spec.name: _feature(spec, arrays[spec.name][row]) for spec in signature.inputs}
        example = tf.train.Example(features=tf.train.Features(feature=features))
        serialized[row] = example.SerializeToString(deterministic=True)
    return serialized


def _feature(spec: TensorSpec, array: Any) -> Any:
    return _WRITE[_FEATURES[_kind(spec)]](np.asarray(array).reshape(-1))


_WRITE: dict[Any, Callable[[Any], Any]] = {
    tf.float32: lambda flat: tf.train.Feature(float_list=tf.train.FloatList(value=flat.astype(np.float32))),
    tf.int64: lambda flat: tf.train.Feature(int64_list=tf.train.Int64List(value=flat.astype(np.int64))),
    tf.string: lambda flat: tf.train.Feature(bytes_list=tf.train.BytesList(value=list(flat))),
}


def _kind(spec: TensorSpec) -> str:
    return dtypes.by_name(spec.dtype).numpy.kind
