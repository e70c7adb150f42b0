"""A frozen graph to a SavedModel, written directly as a message, so that the same model gives the same bytes.

TensorFlow's own writer adds an object graph, an empty variables folder and a random fingerprint; none of them is
needed to load: neither by tf.saved_model.load, nor by a v1 session, nor by TensorFlow Serving.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from keraship import bundle, dtypes
from keraship.errors import ExportError
from keraship.exporter.checkpoint import add_variables, write_variables
from keraship.exporter.freeze import LIMIT, Frozen
from keraship.exporter.names import SIGNATURES
from keraship.signature import Signature

_INIT = "__saved_model_init_op"  # the signature under which loaders look for what they must run once


def write_saved_model(frozen: Frozen, folder: Path) -> None:
    """Write saved_model.pb into `folder`, and variables/ for weights that are no constants.

    Raises ExportError where saved_model.pb would pass 2 GB.
    """
    message = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    graph = message.meta_graphs.add()
    graph.meta_info_def.tags.append("serve")
    graph.meta_info_def.tensorflow_version = tf.__version__
    signatures = dict.fromkeys(SIGNATURES, frozen.signature)
    ends: tuple[str, ...] = ()
    if frozen.additions is not None:
        signatures |= frozen.additions.signatures
        ends = frozen.additions.ends
        frozen = replace(frozen, graph=frozen.additions.added_to(frozen.graph))
    graph.graph_def.CopyFrom(frozen.canonical(keep=ends).graph)
    for name, signature in signatures.items():
        graph.signature_def[name].CopyFrom(_signature_def(signature))
    if frozen.variables:
        add_variables(graph, frozen.variables)
        write_variables(folder, frozen.variables)
    if frozen.init:
        graph.signature_def[_INIT].outputs[_INIT].name = frozen.init
    if message.ByteSize() > LIMIT:
        raise ExportError(f"the SavedModel would hold {message.ByteSize()} bytes, a message may hold {LIMIT}")
    (folder / bundle.SAVED_MODEL).write_bytes(message.SerializeToString(deterministic=True))


def _signature_def(signature: Signature) -> Any:
    message = meta_graph_pb2.SignatureDef(method_name=signature.method_name)
    for specs, infos in ((signature.inputs, message.inputs), (signature.outputs, message.outputs)):
        for spec in specs:
            infos[spec.name].name = spec.tensor
            infos[spec.name].dtype = dtypes.by_name(spec.dtype).number
            infos[spec.name].tensor_shape.CopyFrom(tf.TensorShape(spec.shape).as_proto())
    return message
