"""How much of a TFLite model is quantized, read from the file: the converter decides, and does not tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from keraship.bundle import Coverage, KeptFloat

_WEIGHTS = {
    "CONV_2D": 1,
    "DEPTHWISE_CONV_2D": 1,
    "TRANSPOSE_CONV": 1,
    "CONV_3D": 1,
    "FULLY_CONNECTED": 1,
    "BATCH_MATMUL": 1,
    "GATHER": 0,
    "EMBEDDING_LOOKUP": 1,
}
"""Which input of an operation holds its weights."""

_NAMES: dict[int, str] = {
    number: name for name, number in vars(schema.BuiltinOperator).items() if not name.startswith("_")
}
_FLOAT = schema.TensorType.FLOAT32


def coverage(content: bytes) -> Coverage:
    """The operations with weights in fewer than 32 bits, and all of them; a layer is called as its output tensor."""
    model = schema.Model.GetRootAsModel(content, 0)
    found = list(_holders(model))
    quantized = [(op, size) for op, _, type_, size in found if type_ != _FLOAT]
    others = sum(size for type_, size in _constants(model) if type_ == _FLOAT)
    stored = sum(size for _, size in quantized)
    return Coverage(
        quantized=dict(sorted(Counter(op for op, _ in quantized).items())),
        total=dict(sorted(Counter(op for op, *_ in found).items())),
        weights_share=stored / max(1, stored + others),
        kept_float=tuple(KeptFloat(name, op, "the converter") for op, name, type_, _ in found if type_ == _FLOAT),
    )


def _holders(model: Any) -> Iterator[tuple[str, str, int, int]]:
    """Operation, name of its output, type of its weights as stored, their number of elements."""
    for graph in _graphs(model):
        makers = {graph_op.Outputs(0): graph_op for graph_op in _operators(graph)}
        for operator in _operators(graph):
            op = _name(model, operator)
            if op not in _WEIGHTS or operator.InputsLength() <= _WEIGHTS[op]:
                continue
            index = operator.Inputs(_WEIGHTS[op])
            maker = makers.get(index)
            if maker is not None and _name(model, maker) == "DEQUANTIZE":
                index = maker.Inputs(0)
            tensor = graph.Tensors(index)
            if _is_constant(model, tensor) and len(tensor.ShapeAsNumpy()) > 1:
                yield op, graph.Tensors(operator.Outputs(0)).Name().decode(), tensor.Type(), _size(tensor)


def _constants(model: Any) -> Iterator[tuple[int, int]]:
    for graph in _graphs(model):
        tensors = (graph.Tensors(index) for index in range(graph.TensorsLength()))
        yield from ((tensor.Type(), _size(tensor)) for tensor in tensors if _is_constant(model, tensor))


def _graphs(model: Any) -> Iterator[Any]:
    yield from (model.Subgraphs(index) for index in range(model.SubgraphsLength()))


def _operators(graph: Any) -> Iterator[Any]:
    yield from (graph.Operators(index) for index in range(graph.OperatorsLength()))


def _name(model: Any, operator: Any) -> str:
    code = model.OperatorCodes(operator.OpcodeIndex())
    return _NAMES[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]


def _is_constant(model: Any, tensor: Any) -> bool:
    return bool(model.Buffers(tensor.Buffer()).DataLength() > 0)


def _size(tensor: Any) -> int:
    return int(np.prod(tensor.ShapeAsNumpy())) if tensor.ShapeLength() else 1
