"""What is dangerous in an ONNX model: weights in files outside its folder, operators that no standard has, false sizes.

Field numbers: onnx/onnx.proto of ONNX 1.19.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from keraship.check_archive import leads_out
from keraship.danger import Finding, danger, notice
from keraship.errors import ModelError
from keraship.exporter import protobuf_walk as walk
from keraship.reasons import reason

_EXTERNAL = 1  # TensorProto.DataLocation
_STANDARD = {"", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training"}
_RUNTIMES = {"com.microsoft", "com.microsoft.nchwc", "com.microsoft.experimental", "com.ms.internal.nhwc"}
_RUN_CODE = {"PyOp", "PythonOp", "PyCustomOp", "PythonOpGrad", "ExternalLibrary"}
_BLOBS = {"EPContext": "ep_cache_context"}
_DENSEST = 8  # elements in a byte at the most
_REMEDY = "do not run it; export the model again from its source"

# Where messages of interest stand, by field number.
_GRAPH, _OPSETS, _FUNCTIONS, _TRAINING = 7, 8, 25, 20  # of ModelProto
_NODES_OF_GRAPH, _INITIALIZERS, _SPARSE = 1, 5, 15  # of GraphProto
_NODES_OF_FUNCTION = 7  # of FunctionProto
_ATTRIBUTES = 5  # of NodeProto
_TENSORS, _GRAPHS, _SPARSES = (5, 10), (6, 11), (22, 23)  # of AttributeProto, one and many
_VALUES_AND_INDICES = (1, 2)  # of SparseTensorProto


def scan_onnx(path: Path) -> Iterator[Finding]:
    """Raises ModelError where the file is not whole or no ONNX model."""
    try:
        model = walk.mapped(path)
        if not list(walk.messages(model, _GRAPH)) or not list(walk.messages(model, _OPSETS)):
            raise ValueError("it holds no graph, or names no opset")
        findings = [
            *(found for tensor in _tensors(model) for found in _judge_tensor(tensor, path)),
            *(found for node in _nodes(model) for found in _judge_node(node, path)),
            *_foreign_domains(model),
        ]
    except ValueError as error:
        raise ModelError(f"{path} is not a whole ONNX model ({reason(error)}); get the file anew") from error
    yield from findings


def _judge_tensor(tensor: memoryview, path: Path) -> Iterator[Finding]:
    where = walk.text(tensor, 8)
    sizes = walk.integers(tensor, 1)
    elements = math.prod(sizes)
    is_external = walk.integer(tensor, 14) == _EXTERNAL or any(walk.messages(tensor, 13))
    if is_external:
        yield from _judge_external(tensor, path, where, elements)
    elif any(size < 0 for size in sizes) or elements > _DENSEST * len(tensor):
        yield danger("oversize", where, f"it claims the shape {sizes}; {len(tensor)} bytes are there", _REMEDY)


def _judge_external(tensor: memoryview, path: Path, where: str, elements: int) -> Iterator[Finding]:
    """Weights in another file: beside the model or below it, whole, and no link."""
    entries = {walk.text(entry, 1): walk.text(entry, 2) for entry in walk.messages(tensor, 13)}
    location = entries.get("location", "")
    found = _judge_location(path, location, where)
    if found:
        yield found
        return
    held = (path.parent / location).stat().st_size
    start, length = (_number(entries.get(key, "")) for key in ("offset", "length"))
    if start is None or length is None or start + length > held or elements > _DENSEST * (length or held):
        claimed = f"it claims {elements} elements at {entries.get('offset', '0')} of {location}, which has {held} bytes"
        yield danger("oversize", where, claimed, "get the whole model")


def _judge_location(path: Path, location: str, where: str) -> Finding | None:
    """What is wrong with a file that a model names."""
    if not location or leads_out(location):
        return danger("path", where, f"its weights lie in {location!r}, outside of the model's folder", _REMEDY)
    file = path.parent / location
    if file.is_symlink() or not file.resolve().is_relative_to(path.parent.resolve()):
        return danger("link", where, f"its weights lie in {location!r}, which is a link", "put the file in its place")
    if not file.is_file():
        return danger("missing", where, f"its weights lie in {location!r}, which is no file", "get the whole model")
    return None


def _number(text: str) -> int | None:
    """A number as external data has it; 0 where it is left out, None where it is none."""
    if not text:
        return 0
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def _judge_node(node: memoryview, path: Path) -> Iterator[Finding]:
    name, op = walk.text(node, 3), walk.text(node, 4)
    if op in _RUN_CODE:
        yield danger("op", name, f"the operator {op} runs Python code or a program library", _REMEDY)
    if op in _BLOBS:
        for attribute in walk.messages(node, _ATTRIBUTES):
            if walk.text(attribute, 1) == _BLOBS[op]:
                found = _judge_location(path, walk.text(attribute, 4), name)
                if found:
                    yield found
        yield notice(
            "op", name, f"the operator {op} is a program compiled for one device", "run it on that device only"
        )


def _foreign_domains(model: memoryview) -> Iterator[Finding]:
    """Operators of neither ONNX, nor onnxruntime, nor the file itself."""
    own = {walk.text(function, 10) for function in walk.messages(model, _FUNCTIONS)}
    used = {walk.text(node, 7) for node in _nodes(model)}
    for domain in sorted(used - own - _STANDARD - _RUNTIMES):
        remedy = "run it only with a library of operators that you know"
        yield notice("custom-op", domain, "its operators are those of a program library that must be loaded", remedy)


def _graphs(model: memoryview) -> Iterator[tuple[memoryview, int]]:
    """Each graph, those of training and those inside of nodes too; functions; with the field of their nodes."""
    pending = [(graph, _NODES_OF_GRAPH) for graph in walk.messages(model, _GRAPH)]
    pending += [(function, _NODES_OF_FUNCTION) for function in walk.messages(model, _FUNCTIONS)]
    for number in (1, 2):
        pending += [(graph, _NODES_OF_GRAPH) for graph in walk.path(model, _TRAINING, number)]
    while pending:
        graph, number = pending.pop()
        yield graph, number
        for attribute in walk.path(graph, number, _ATTRIBUTES):
            pending += [(inner, _NODES_OF_GRAPH) for one in _GRAPHS for inner in walk.messages(attribute, one)]


def _nodes(model: memoryview) -> Iterator[memoryview]:
    return (node for graph, number in _graphs(model) for node in walk.messages(graph, number))


def _tensors(model: memoryview) -> Iterator[memoryview]:
    """Every tensor of the model: weights, constants in nodes, the halves of sparse ones."""
    for graph, number in _graphs(model):
        yield from walk.messages(graph, _INITIALIZERS)
        sparse = list(walk.messages(graph, _SPARSE))
        for attribute in walk.path(graph, number, _ATTRIBUTES):
            yield from (tensor for one in _TENSORS for tensor in walk.messages(attribute, one))
            sparse += [tensor for one in _SPARSES for tensor in walk.messages(attribute, one)]
        for tensor in sparse:
            yield from (part for one in _VALUES_AND_INDICES for part in walk.messages(tensor, one))
