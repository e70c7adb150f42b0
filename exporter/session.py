"""A frozen graph run in this process, some rows at a time: for calibration, and to see what quantization moves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keraship.exporter.freeze import Frozen
from keraship.signature import Signature

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]

_VALUES = 1 << 22
"""How many input values are run at once: what they become in a network's widest layer must fit in memory."""


class Session:
    """A graph ready to run; a `with` block frees it."""

    def __init__(self, frozen: Frozen) -> None:
        self._signature = frozen.signature
        with tf.Graph().as_default() as graph:
            tf.import_graph_def(frozen.graph, name="")
        self.graph = graph
        config = tf.compat.v1.ConfigProto()
        config.graph_options.rewrite_options.disable_meta_optimizer = True  # costs more than it saves on a few rows
        self._session = tf.compat.v1.Session(graph=graph, config=config)
        if frozen.init:
            self._session.run(frozen.init)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self._session.close()

    def answer(self, arrays: Mapping[str, Array]) -> Arrays:
        """The graph's outputs, by name, for any number of rows."""
        fetched = {spec.name: spec.tensor for spec in self._signature.outputs}
        parts = list(self.each(fetched, arrays))
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([np.atleast_1d(part[name]) for part in parts]) for name in fetched}

    def each(self, fetched: Mapping[str, str], arrays: Mapping[str, Array]) -> Iterator[Arrays]:
        """Fetch tensors, by any name, from one part of the rows after the other."""
        for part in _parts(self._signature, arrays):
            feed = {spec.tensor: part[spec.name] for spec in self._signature.inputs}
            yield self._session.run(dict(fetched), feed)


def rows_of(signature: Signature, arrays: Mapping[str, Array]) -> int:
    """The number of rows; 1 where the signature has no open first size, for all is then asked at once."""
    return len(arrays[signature.inputs[0].name]) if signature.inputs and _is_open(signature) else 1


def head(signature: Signature, arrays: Mapping[str, Array], count: int) -> Arrays:
    """The first rows, where rows can be asked apart."""
    whole = not _is_open(signature)
    return {name: array if whole else array[:count] for name, array in arrays.items()}


def _parts(signature: Signature, arrays: Mapping[str, Array]) -> Iterator[Arrays]:
    count = rows_of(signature, arrays)
    if not _is_open(signature):
        sizes = {spec.name: spec.shape[0] for spec in signature.inputs if spec.shape}
        yield {name: array[: sizes.get(name)] if array.ndim else array for name, array in arrays.items()}
        return
    row = sum(array[:1].size for array in arrays.values())
    step = max(1, min(32, _VALUES // max(1, row)))
    for start in range(0, count, step):
        yield {name: array[start : start + step] for name, array in arrays.items()}


def _is_open(signature: Signature) -> bool:
    """Whether every input and output has a first size that is open: one for each row."""
    specs: Sequence[Any] = (*signature.inputs, *signature.outputs)
    return all(spec.shape is not None and len(spec.shape) > 0 and spec.shape[0] is None for spec in specs)
