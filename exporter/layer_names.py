"""Which Keras layer a node of a traced graph belongs to: what a user can find in the model's summary."""

from __future__ import annotations

import re

from tensorflow.python.framework import op_def_registry

_COUNTER = re.compile(r"_\d+$")
_SCOPES = {
    *("batchnorm", "moments", "einsum", "Tensordot", "convolution", "resize"),
    *("loop_body", "pfor", "while", "body", "cond"),
}
"""Scopes that TensorFlow and Keras open inside of a layer's call."""


def layer_of(node: str) -> str:
    """The path of the layer that a node was traced in; the node's own name where it stands in no layer.

    "functional_1_1/encoder_1/query_1/MatMul" -> "encoder/query": a scope is opened when a layer is built and again
    when it is called, so the second has a counter behind the layer's name.
    """
    scopes = node.split("/")[1:-1]
    path = scopes[:1]
    for scope in scopes[1:]:
        if _is_inner(scope):
            break
        path.append(scope)
    return "/".join(_COUNTER.sub("", scope) for scope in path) or node


def _is_inner(scope: str) -> bool:
    name = _COUNTER.sub("", scope)
    return name in _SCOPES or op_def_registry.get(name) is not None
