"""Dense layers that compute in 8 bits, the ranges of their inputs taken from each batch as it comes.

onnxruntime joins these standard operations to one of its own at load. It has none for convolutions: ConvInteger took
twice to four times as long as float convolution, so convolutions only store their weights in 8 bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from keraship.exporter.onnx_weights import quantized


def rewrite(model: Any, nodes: set[str]) -> set[str]:
    """Rewrite, in place, those of `nodes` that are a product with a matrix of weights; their names."""
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    done: dict[str, list[Any]] = {}
    initializers: dict[str, Any] = {}
    for node in graph.node:
        if node.name in nodes and _fits(node, weights):
            done[node.name] = list(_product(node, numpy_helper.to_array(weights[node.input[1]]), initializers))
    rewritten = [new for node in graph.node for new in done.get(node.name, [node])]
    del graph.node[:]
    graph.node.extend(rewritten)
    graph.initializer.extend(initializers.values())
    return set(done)


def _fits(node: Any, weights: dict[str, Any]) -> bool:
    if node.op_type not in ("MatMul", "Gemm") or len(node.input) < 2 or node.input[1] not in weights:
        return False
    plain = {"alpha": 1.0, "beta": 1.0, "transA": 0}
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    return len(weights[node.input[1]].dims) == 2 and all(
        attributes.get(name, value) == value for name, value in plain.items()
    )


def _product(node: Any, matrix: Any, initializers: dict[str, Any]) -> Iterator[Any]:
    """The nodes for x @ matrix, with Gemm's addition; the integers' product has the scales of both multiplied in."""
    if any(attribute.name == "transB" and attribute.i for attribute in node.attribute):
        matrix = matrix.T
    key, out, weight = node.output[0], node.output[0], node.input[1]
    integers, scales = quantized(np.ascontiguousarray(matrix), 1)
    for name, array in ((f"{weight}_int8", integers), (f"{weight}_scale", scales)):
        initializers[name] = numpy_helper.from_array(array, name)
    has_bias = node.op_type == "Gemm" and len(node.input) > 2 and node.input[2]
    scaled = f"{key}_scaled" if has_bias else out
    yield helper.make_node("DynamicQuantizeLinear", [node.input[0]], [f"{key}_x", f"{key}_x_scale", f"{key}_x_zero"])
    yield helper.make_node(
        "MatMulInteger", [f"{key}_x", f"{weight}_int8", f"{key}_x_zero"], [f"{key}_sums"], name=_renamed(node)
    )
    yield helper.make_node("Cast", [f"{key}_sums"], [f"{key}_wide"], to=TensorProto.FLOAT)
    yield helper.make_node("Mul", [f"{key}_x_scale", f"{weight}_scale"], [f"{key}_factor"])
    yield helper.make_node("Mul", [f"{key}_wide", f"{key}_factor"], [scaled])
    if has_bias:
        yield helper.make_node("Add", [scaled, node.input[2]], [out])


def _renamed(node: Any) -> str:
    layer, slash, _ = node.name.rpartition("/")
    return f"{layer}{slash}MatMulInteger"
