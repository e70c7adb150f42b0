"""What is exported, from wherever it comes, to a traced function: a table of sources."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keraship import keras_file
from keraship.errors import ExportError
from keraship.exporter.trace import Traced, trace
from keraship.exporter.traced_saved_model import SavedModel, read_saved_model, trace_saved_model
from keraship.keras_read import is_folder


def load(source: Any, *, imports: Sequence[str] = (), trust: bool = False) -> Any:
    """A keras.Model, or a SavedModel, out of a file, a folder, or what is one already.

    imports: modules that register the model's own classes. trust: run the Python code of Lambda layers, and the
    operations of a SavedModel that reach files. Raises ModelError.
    """
    if not isinstance(source, Path):
        return source
    if is_folder(source):
        return read_saved_model(source, trust=trust)
    return keras_file.load(source, imports=imports, trust=trust)


def trace_any(
    model: Any,
    *,
    signature: str | None = None,
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
) -> Traced:
    """What `load` gave, as one function.

    signature: which of a SavedModel's. inputs, outputs: names in the model's order. Raises ExportError.
    """
    if isinstance(model, SavedModel):
        return trace_saved_model(model, signature, inputs=inputs, outputs=outputs)
    if signature is not None:
        raise ExportError(f"a Keras model has no signatures to choose from; leave out --signature {signature}")
    return trace(model, inputs=inputs, outputs=outputs)
