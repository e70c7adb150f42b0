"""The graph of an artifact as it was written, in short."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from keraship import bundle
from keraship.exporter.graph_summary import summarize_graph_def, summarize_onnx
from keraship.exporter.outcome import Graph


def written_graph(folder: Path, format_: str) -> Graph | None:
    """The summary of the artifact of this format in a version's folder; None for formats that hold no such graph."""
    read = _READERS.get(format_)
    return None if read is None else read(folder)


def _saved_model(folder: Path) -> Graph:
    from tensorflow.core.protobuf import saved_model_pb2

    message = saved_model_pb2.SavedModel.FromString((folder / bundle.SAVED_MODEL).read_bytes())
    return summarize_graph_def(message.meta_graphs[0].graph_def)


def _onnx(folder: Path) -> Graph:
    import onnx

    return summarize_onnx(onnx.load(folder / bundle.ONNX, load_external_data=False))


_READERS: dict[str, Callable[[Path], Graph]] = {"saved_model": _saved_model, "onnx": _onnx}
