"""An ONNX graph whose bytes follow from what it computes: its nodes ordered and named by a walk from the outputs.

tf2onnx walks over Python sets, whose order changes from process to process, and numbers what it meets.
"""

from __future__ import annotations

from collections import ChainMap, Counter
from collections.abc import Iterable, Iterator, MutableMapping
from typing import Any

Names = MutableMapping[str, str]


def canonicalize(model: Any) -> None:
    """Rename and reorder all of a ModelProto but its inputs and outputs, in place; what no output needs is dropped.

    A node whose name holds a '/' is called after its layer, and keeps that name, with a number where it is taken.
    """
    graph = model.graph
    fixed = {value.name: value.name for value in (*graph.input, *graph.output)}
    _rewrite(graph, ChainMap(fixed), _Numbers(set(fixed)))


def walk(graph: Any) -> Iterator[Any]:
    """All nodes, those in the bodies of loops and branches included."""
    for node in graph.node:
        yield node
        for body in bodies(node):
            yield from walk(body)


def tensors(graph: Any) -> Iterator[Any]:
    """All initializers, those in the bodies of loops and branches included."""
    yield from graph.initializer
    for node in graph.node:
        for body in bodies(node):
            yield from tensors(body)


def bodies(node: Any) -> Iterator[Any]:
    """The graphs inside of a node: a loop's, a branch's."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


class _Numbers:
    """New names: a kind and a number, each once in the whole model."""

    def __init__(self, taken: set[str]) -> None:
        self._taken = taken
        self._counts: Counter[str] = Counter()

    def name(self, kind: str) -> str:
        while True:
            name = f"{kind}_{self._counts[kind]}"
            self._counts[kind] += 1
            if name not in self._taken:
                return name

    def label(self, label: str) -> str:
        """The label itself the first time, then with a number."""
        self._counts[label] += 1
        return label if self._counts[label] == 1 else f"{label}_{self._counts[label] - 1}"


def _rewrite(graph: Any, names: Names, numbers: _Numbers) -> None:
    """Rewrite one graph; names: old -> new, of what the graph sees from outside."""
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    ordered = list(_from_outputs(graph))
    used: dict[str, None] = {}
    for node in ordered:
        for ref in _needs(node):
            if ref in initializers and ref not in used:
                used[ref] = None
                names.setdefault(ref, numbers.name("constant"))
        for output in node.output:
            if output:
                names.setdefault(output, numbers.name(node.op_type))
    used |= {value.name: None for value in graph.output if value.name in initializers}
    nodes = [_renamed(node, names, numbers) for node in ordered]
    tensors = [_named(initializers[name], names[name]) for name in used]
    _replace(graph.node, nodes)
    _replace(graph.initializer, tensors)
    for value in (*graph.input, *graph.output):
        value.name = names[value.name]


def _renamed(node: Any, names: Names, numbers: _Numbers) -> Any:
    copy = type(node)()
    copy.CopyFrom(node)
    copy.input[:] = [names.get(ref, ref) for ref in node.input]
    copy.output[:] = [names.get(ref, ref) for ref in node.output]
    output = next((name for name in copy.output if name), node.op_type)
    copy.name = numbers.label(node.name) if "/" in node.name else output
    copy.ClearField("doc_string")
    for body in bodies(copy):
        inside: Names = ChainMap({}, dict(names))
        for value in body.input:
            inside[value.name] = numbers.name("body_input")
        body.name = numbers.name("body")
        _rewrite(body, inside, numbers)
        body.ClearField("value_info")
    return copy


def _named(tensor: Any, name: str) -> Any:
    copy = type(tensor)()
    copy.CopyFrom(tensor)
    copy.name = name
    return copy


def _replace(field: Any, items: Iterable[Any]) -> None:
    del field[:]
    field.extend(items)


def _from_outputs(graph: Any) -> Iterator[Any]:
    """The nodes that the outputs need, each after what it needs itself."""
    makers = {output: index for index, node in enumerate(graph.node) for output in node.output if output}
    entered: set[int] = set()
    stack = [(makers[value.name], False) for value in reversed(graph.output) if value.name in makers]
    while stack:
        index, left = stack.pop()
        if left:
            yield graph.node[index]
        elif index not in entered:
            entered.add(index)
            stack.append((index, True))
            stack += [(makers[ref], False) for ref in reversed(list(_needs(graph.node[index]))) if ref in makers]


def _needs(node: Any) -> Iterator[str]:
    """What a node reads: its inputs, and what the bodies of loops and branches take from around them."""
    yield from node.input
    for body in bodies(node):
        for inner in body.node:
            yield from _needs(inner)
        yield from (value.name for value in body.output)
