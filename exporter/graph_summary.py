"""A graph in short: how many ops of each type it has, and a few blocks of them that can be drawn.

Works on TensorFlow's GraphDef and on ONNX' ModelProto by their fields alone, and imports neither package. What only
computes shapes or prepares constants is counted, and not drawn. Ops that follow one another without a branch become
one block; where blocks are still too many, whatever lies between two points that all paths go through becomes one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from keraship import dtypes
from keraship.exporter.outcome import Block, Graph

MAX_BLOCKS = 48
"""More than these are no picture."""

INPUT, OUTPUT = "Input", "Output"
"""The ops of the blocks that stand for the graph's ends."""

_SHAPES = {"Shape", "ShapeN", "Size", "Rank"}
_NO_COMPUTATION = {"Const", "Constant", "Placeholder", "NoOp", "Identity"}
_WEIGHTS = {
    "float64", "float32", "float16", "bfloat16", "int8", "uint8", "qint8", "quint8", "int4", "uint4",
    "float8_e4m3fn", "float8_e5m2",
}  # fmt: skip


@dataclass(frozen=True)
class _Op:
    """An op with the names of what it reads. constant: the elements of the constant it holds, by dtype."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    constant: dict[str, int] = field(default_factory=dict)


def summarize_graph_def(graph: Any) -> Graph:
    """The summary of a TensorFlow GraphDef; the bodies of its functions are counted."""
    ops = [_tensorflow_op(node) for node in graph.node]
    read = {name for op in ops for name in op.inputs}
    ends = [replace(op, kind=OUTPUT) if op.kind == "Identity" and op.name not in read else op for op in ops]
    bodies = (node.op for function in graph.library.function for node in function.node_def)
    return _summary(ends, (*(node.op for node in graph.node), *bodies))


def summarize_onnx(model: Any) -> Graph:
    """The summary of an ONNX ModelProto; the bodies of loops and branches are counted."""
    graph = model.graph
    held = {tensor.name for tensor in graph.initializer}
    made_by = {output: _onnx_name(node) for node in graph.node for output in node.output if output}
    ops = [_Op(value.name, "Placeholder", ()) for value in graph.input if value.name not in held]
    ops += [_Op(tensor.name, "Const", (), _onnx_elements(tensor)) for tensor in graph.initializer]
    ops += [
        _Op(_onnx_name(node), node.op_type, tuple(made_by.get(ref, ref) for ref in node.input if ref))
        for node in graph.node
    ]
    ops += [_Op(f"{value.name} (output)", OUTPUT, (made_by.get(value.name, value.name),)) for value in graph.output]
    return _summary(ops, _onnx_kinds(graph))


def _tensorflow_op(node: Any) -> _Op:
    inputs = tuple(ref.partition(":")[0] for ref in node.input if not ref.startswith("^"))
    tensor = node.attr["value"].tensor if node.op == "Const" else None
    return _Op(node.name, node.op, inputs, {} if tensor is None else _tensorflow_elements(tensor))


def _tensorflow_elements(tensor: Any) -> dict[str, int]:
    return _elements(tensor.dtype, (dim.size for dim in tensor.tensor_shape.dim), dtypes.BY_NUMBER)


_ONNX_DTYPES = {
    1: "float32", 2: "uint8", 3: "int8", 10: "float16", 11: "float64", 16: "bfloat16", 17: "float8_e4m3fn",
    19: "float8_e5m2", 21: "uint4", 22: "int4",
}  # fmt: skip
"""onnx.TensorProto.DataType, as far as weights are of it."""


def _onnx_elements(tensor: Any) -> dict[str, int]:
    return _elements(tensor.data_type, tensor.dims, _ONNX_DTYPES)


def _elements(number: int, sizes: Iterable[int], names: Mapping[int, Any]) -> dict[str, int]:
    """The elements of a constant by its dtype, where that can be a weight's."""
    name = str(names.get(number, ""))
    count = 1
    for size in sizes:
        count *= max(0, size)
    return {name: count} if name in _WEIGHTS and count else {}


def _onnx_name(node: Any) -> str:
    """What a node is known by: names may be empty, outputs are not."""
    return str(node.name or next(output for output in node.output if output))


def _onnx_kinds(graph: Any) -> Iterator[str]:
    for node in graph.node:
        yield node.op_type
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                yield from _onnx_kinds(body)


def _summary(ops: Sequence[_Op], kinds: Iterable[str]) -> Graph:
    counts = Counter(kind for kind in kinds if kind not in _NO_COMPUTATION)
    return Graph(
        ops=dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
        blocks=tuple(_few(_chains(ops))),
    )


@dataclass
class _Group:
    """A block under way."""

    members: list[_Op]
    inputs: list[int]
    weights: Counter[str]


def _chains(ops: Sequence[_Op]) -> list[_Group]:
    """The ops that data flows through, each in one group with the op before it where no branch lies between."""
    by_name = {op.name: op for op in ops}
    order = _in_order(ops, by_name)
    drawn = _with_data(order)
    source = _sources(order, drawn)
    readers = Counter(name for op in drawn.values() for name in {s for ref in op.inputs for s in source.get(ref, ())})
    groups: list[_Group] = []
    group_of: dict[str, int] = {}
    claimed: set[str] = set()
    for op in drawn.values():
        before = list(dict.fromkeys(name for ref in op.inputs for name in source.get(ref, ()) if name in group_of))
        weights = _weights(op, by_name, drawn, claimed)
        index = group_of[before[0]] if len(before) == 1 and readers[before[0]] == 1 else -1
        if index >= 0 and op.kind != OUTPUT and groups[index].members[0].kind != "Placeholder":
            groups[index].members.append(op)
            groups[index].weights.update(weights)
        else:
            index = len(groups)
            groups.append(_Group([op], sorted({group_of[name] for name in before}), weights))
        group_of[op.name] = index
    return groups


def _in_order(ops: Sequence[_Op], by_name: Mapping[str, _Op]) -> list[_Op]:
    """Each op after its inputs; by hand, for graphs are deeper than Python's stack."""
    order: dict[str, _Op] = {}
    entered: set[str] = set()
    stack = [(op, False) for op in reversed(ops)]
    while stack:
        op, left = stack.pop()
        if left:
            order[op.name] = op
        elif op.name not in entered:
            entered.add(op.name)
            stack.append((op, True))
            stack += [(by_name[ref], False) for ref in reversed(op.inputs) if ref in by_name]
    return list(order.values())


def _with_data(order: Sequence[_Op]) -> dict[str, _Op]:
    """The ops that a placeholder's values reach other than through their shape, without those that pass them on."""
    reached: set[str] = set()
    for op in order:
        if op.kind == "Placeholder" or (op.kind not in _SHAPES and any(ref in reached for ref in op.inputs)):
            reached.add(op.name)
    return {op.name: op for op in order if op.name in reached and op.kind not in _NO_COMPUTATION - {"Placeholder"}}


def _sources(order: Sequence[_Op], drawn: Mapping[str, _Op]) -> dict[str, tuple[str, ...]]:
    """For each op, the drawn ops that its value is: itself, or those behind what only passes values on."""
    source: dict[str, tuple[str, ...]] = {}
    for op in order:
        passed = tuple(dict.fromkeys(name for ref in op.inputs for name in source.get(ref, ())))
        source[op.name] = (op.name,) if op.name in drawn else passed if op.kind == "Identity" else ()
    return source


def _weights(op: _Op, by_name: Mapping[str, _Op], drawn: Mapping[str, _Op], claimed: set[str]) -> Counter[str]:
    """The constants that an op reads, by itself or through what prepares them; each is counted once in a graph."""
    total: Counter[str] = Counter()
    pending = list(op.inputs)
    while pending:
        name = pending.pop()
        if name in by_name and name not in drawn and name not in claimed:
            claimed.add(name)
            total.update(by_name[name].constant)
            pending += by_name[name].inputs
    return total


def _few(groups: list[_Group]) -> Iterator[Block]:
    """The groups as blocks, merged until they are few."""
    if len(groups) > MAX_BLOCKS:
        groups = _merged(groups, _between_cuts(groups))
    if len(groups) > MAX_BLOCKS:
        groups = _merged(groups, _even(groups))
    prefix = _common_scope(op.name for group in groups for op in group.members)
    for group in groups:
        first = group.members[0]
        ops = tuple(_KINDS.get(op.kind, op.kind) for op in group.members)
        is_end = first.kind in ("Placeholder", OUTPUT)
        name = first.name.removesuffix(" (output)") if is_end else ", ".join(_layers(group, prefix))
        yield Block(name, ops, dict(sorted(group.weights.items())), tuple(group.inputs))


_KINDS = {"Placeholder": INPUT}


def _between_cuts(groups: Sequence[_Group]) -> list[int]:
    """For each group a number; alike for those that lie between two groups which no edge goes past."""
    last = list(range(len(groups)))  # the last group that reads each
    for index, group in enumerate(groups):
        for before in group.inputs:
            last[before] = index
    numbers, furthest, number = [], 0, 0
    for index, group in enumerate(groups):
        is_end = group.members[0].kind in ("Placeholder", OUTPUT)
        if furthest <= index or is_end:  # nothing before reaches past this one
            number += 1
        numbers.append(number)
        if is_end:
            number += 1
        furthest = max(furthest, last[index])
        if furthest <= index:
            number += 1
    return numbers


def _even(groups: Sequence[_Group]) -> list[int]:
    """For each group a number: the ends have their own, what lies between is cut into parts of one length."""
    ends = sum(group.members[0].kind in ("Placeholder", OUTPUT) for group in groups)
    size = -(-(len(groups) - ends) // max(1, MAX_BLOCKS - min(ends, MAX_BLOCKS // 2)))
    numbers, inner, number = [], 0, 0
    for group in groups:
        if group.members[0].kind in ("Placeholder", OUTPUT):
            number += 1
            inner = 0
        elif inner % size == 0:
            number += 1
        inner += group.members[0].kind not in ("Placeholder", OUTPUT)
        numbers.append(number)
    return numbers


def _merged(groups: Sequence[_Group], numbers: Sequence[int]) -> list[_Group]:
    merged: list[_Group] = []
    place: dict[int, int] = {}
    index_of: list[int] = []
    for group, number in zip(groups, numbers, strict=True):
        before = [index_of[index] for index in group.inputs]
        if number not in place:
            place[number] = len(merged)
            merged.append(_Group([], [], Counter()))
        own = place[number]
        index_of.append(own)
        merged[own].members += group.members
        merged[own].weights.update(group.weights)
        merged[own].inputs = sorted({*merged[own].inputs, *(index for index in before if index != own)})
    return merged


def _common_scope(names: Iterable[str]) -> int:
    """How many leading parts all scoped names have in common: the model's own name, mostly; never all of a scope."""
    scopes = {tuple(name.split("/")[:-1]) for name in names if "/" in name}
    common = 0
    for parts in zip(*scopes):  # noqa: B905  # as far as the shortest goes
        if len(set(parts)) > 1:
            break
        common += 1
    return common - 1 if len(scopes) == 1 else common


def _layers(group: _Group, prefix: int) -> list[str]:
    """The names of the layers whose ops these are, in order; none where names have no scopes."""
    scopes = (op.name.split("/")[:-1] for op in group.members)
    return list(dict.fromkeys(scope[prefix] for scope in scopes if len(scope) > prefix))
