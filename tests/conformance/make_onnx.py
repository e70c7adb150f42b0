"""Writes the models of the suite as ONNX: MODEL/VERSION/model.onnx. Twins of make_tensorflow's, where one can be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onnx import TensorProto, helper

FLOAT = TensorProto.FLOAT

# TensorFlow's name of each dtype that both runtimes know -> ONNX's.
DTYPES = {
    "float": TensorProto.FLOAT, "double": TensorProto.DOUBLE, "int8": TensorProto.INT8, "int16": TensorProto.INT16,
    "int32": TensorProto.INT32, "int64": TensorProto.INT64, "uint8": TensorProto.UINT8, "uint16": TensorProto.UINT16,
    "uint32": TensorProto.UINT32, "uint64": TensorProto.UINT64, "bool": TensorProto.BOOL, "string": TensorProto.STRING,
    "half": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16,
}  # fmt: skip

Sides = Mapping[str, tuple[int, Sequence[Any]]]


def make_models(folder: Path) -> None:
    """All of them."""
    for dtype, number in DTYPES.items():
        _save(folder / f"identity_{dtype}" / "1", _identity("x", "y"), {"x": (number, "N")}, {"y": (number, "N")})
    for name, shape in (("scalar", ()), ("matrix", ("N", "M")), ("cube", ("N", "M", "K"))):
        _save(folder / name / "1", _identity("x", "y"), {"x": (FLOAT, shape)}, {"y": (FLOAT, shape)})
    for name, version, offset in (
        ("half_plus_two", 123, 2),
        ("half_plus_three", 123, 3),
        ("versions", 1, 1),
        ("versions", 2, 2),
        ("versions", 3, 3),
    ):
        _save_half_plus(folder / name / str(version), offset)
    _save_linear(folder / "linear" / "1")
    _save_two_inputs(folder / "two_inputs" / "1")
    _save_bytes(folder)
    _save_shapes(folder)


def _save_half_plus(folder: Path, offset: float) -> None:
    nodes = [helper.make_node("Mul", ["x", "half"], ["m"]), helper.make_node("Add", ["m", "offset"], ["y"])]
    weights = [helper.make_tensor("half", FLOAT, (), [0.5]), helper.make_tensor("offset", FLOAT, (), [offset])]
    _save(folder, nodes, {"x": (FLOAT, "N")}, {"y": (FLOAT, "N")}, weights)


def _save_linear(folder: Path) -> None:
    """y = x @ [[2],[3]] + 1."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Add", ["m", "b"], ["y"])]
    weights = [helper.make_tensor("w", FLOAT, (2, 1), [2, 3]), helper.make_tensor("b", FLOAT, (1,), [1])]
    _save(folder, nodes, {"x": (FLOAT, ("N", 2))}, {"y": (FLOAT, ("N", 1))}, weights)


def _save_two_inputs(folder: Path) -> None:
    """total = a + b, and b twice in a row of two."""
    nodes = [
        helper.make_node("Cast", ["b"], ["b_float"], to=FLOAT),
        helper.make_node("Add", ["a", "b_float"], ["total"]),
        helper.make_node("Unsqueeze", ["b", "one"], ["column"]),
        helper.make_node("Concat", ["column", "column"], ["pairs"], axis=1),
    ]
    weights = [helper.make_tensor("one", TensorProto.INT64, (1,), [1])]
    inputs = {"a": (FLOAT, "N"), "b": (TensorProto.INT32, "N")}
    _save(folder, nodes, inputs, {"total": (FLOAT, "N"), "pairs": (TensorProto.INT32, ("N", 2))}, weights)


def _save_bytes(folder: Path) -> None:
    kind = TensorProto.STRING
    _save(folder / "image" / "1", _identity("x", "image_bytes"), {"x": (kind, "N")}, {"image_bytes": (kind, "N")})
    nodes = [*_identity("x", "image_bytes"), *_identity("x", "text")]
    _save(folder / "image_and_text" / "1", nodes, {"x": (kind, "N")}, {"image_bytes": (kind, "N"), "text": (kind, "N")})


def _save_shapes(folder: Path) -> None:
    """Outputs that are no rows: a scalar, and one of twice the length."""
    nodes = [helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0)]
    _save(folder / "total" / "1", nodes, {"x": (FLOAT, "N")}, {"total": (FLOAT, ())})
    nodes = [*_identity("x", "a"), helper.make_node("Concat", ["x", "x"], ["b"], axis=0)]
    _save(folder / "uneven" / "1", nodes, {"x": (FLOAT, "N")}, {"a": (FLOAT, "N"), "b": (FLOAT, "M")})
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT16)]
    _save(folder / "to_half" / "1", nodes, {"x": (FLOAT, "N")}, {"y": (TensorProto.FLOAT16, "N")})


def _identity(source: str, target: str) -> list[Any]:
    return [helper.make_node("Identity", [source], [target])]


def _save(folder: Path, nodes: list[Any], inputs: Sides, outputs: Sides, weights: Sequence[Any] = ()) -> None:
    graph = helper.make_graph(nodes, "graph", _infos(inputs), _infos(outputs), list(weights))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())


def _infos(sides: Sides) -> list[Any]:
    return [helper.make_tensor_value_info(name, kind, tuple(shape)) for name, (kind, shape) in sides.items()]
