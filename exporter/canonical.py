"""A graph whose bytes follow from what it computes, and not from what else the process did before.

TensorFlow numbers nodes and functions with counters of the whole process. Here nodes are ordered by a walk from the
outputs, and nodes and functions are numbered in that order.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from tensorflow.core.framework import attr_value_pb2, function_pb2, graph_pb2, node_def_pb2

# What the tracer and Grappler left behind: of no use to a runtime, and different in every process.
_TRACES = {"_output_shapes", "_class", "_gradient_op_type", "_user_specified_name", "_original_func_name"}
_TRACES |= {"_grappler_relu_before_maxpool", "_input_shapes", "forward_function_name", "backward_function_name"}

Rename = Callable[[str], str]


def named(graph: Any, *, inputs: Mapping[str, str], outputs: Mapping[str, str], extra: Sequence[str] = ()) -> Any:
    """The part of `graph` that leads to the outputs; its ends get new names, what lies between keeps its own.

    graph: a GraphDef without v1 loops. inputs: a placeholder's node -> its new name; kept even where nothing uses it.
    outputs: new name -> the tensor ("node:0") that an Identity of that name will hold. extra: more nodes to keep, by
    name; they are not renamed.
    """
    return _rebuilt(graph, inputs=inputs, outputs=outputs, extra=extra, rename=_kept)


def canonical(graph: Any, *, keep: Sequence[str]) -> Any:
    """The part of `graph` that leads to the nodes `keep`, which keep their names and their order; others are numbered.

    graph: a GraphDef without v1 loops.
    """
    return _rebuilt(graph, inputs={}, outputs={}, extra=keep, rename=_numbered)


def _rebuilt(
    graph: Any,
    *,
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    extra: Sequence[str],
    rename: Callable[..., dict[str, str]],
) -> Any:
    nodes = {node.name: node for node in graph.node}
    functions = _Functions(graph.library)
    roots = [*inputs, *(_node_of(tensor) for tensor in outputs.values()), *extra]
    order = in_order(roots, nodes)
    fixed = dict(inputs) | {name: name for name in extra}
    renamed = rename([nodes[name] for name in order], fixed, taken={*outputs}, functions=functions)

    result = graph_pb2.GraphDef(versions=graph.versions)
    result.node.extend(_rewritten(nodes[name], lambda ref: _renamed_ref(ref, renamed), functions) for name in order)
    for node, name in zip(result.node, order, strict=True):
        node.name = renamed[name]
    result.node.extend(_identity(name, _renamed_ref(tensor, renamed)) for name, tensor in outputs.items())
    result.library.CopyFrom(functions.library())
    return result


def _identity(name: str, tensor: str) -> Any:
    return node_def_pb2.NodeDef(name=name, op="Identity", input=[tensor])


def in_order(roots: Iterable[str], nodes: Mapping[str, Any]) -> list[str]:
    """The nodes that `roots` need, each after its own inputs; by hand, for graphs are deeper than Python's stack."""
    order: dict[str, None] = {}
    entered: set[str] = set()
    stack = [(root, False) for root in reversed(list(roots))]
    while stack:
        name, left = stack.pop()
        if left:
            order[name] = None
        elif name not in entered and name in nodes:  # a function's arguments are no nodes
            entered.add(name)
            stack.append((name, True))
            stack += [(_node_of(ref), False) for ref in reversed(nodes[name].input)]
    return list(order)


def _kept(
    nodes: Sequence[Any], fixed: Mapping[str, str], *, functions: _Functions, taken: Iterable[str]
) -> dict[str, str]:
    """Old name -> new name: `fixed`, or the node's own; with a number behind it where that is taken."""
    for node in nodes:  # so that functions are numbered in the order of the walk
        functions.name(node.op)
    used = {*taken, *fixed.values()}
    renamed = dict(fixed)
    counts: Counter[str] = Counter()
    for node in nodes:
        if node.name not in fixed:
            free = (name for name in itertools.chain([node.name], _numbers(node.name, counts)) if name not in used)
            renamed[node.name] = next(free)
            used.add(renamed[node.name])
    return renamed


def _numbered(
    nodes: Iterable[Any],
    fixed: Mapping[str, str],
    *,
    functions: _Functions,
    taken: Iterable[str] = (),
    prefix: str = "",
) -> dict[str, str]:
    """Old name -> new name: `fixed`, or the op with a number; nothing that is taken."""
    used = {*taken, *fixed.values()}
    counts: Counter[str] = Counter()
    renamed = dict(fixed)
    for node in nodes:
        if node.name not in fixed:
            kind = prefix + functions.name(node.op).lstrip("_")
            renamed[node.name] = next(name for name in _numbers(kind, counts) if name not in used)
    return renamed


def _numbers(kind: str, counts: Counter[str]) -> Iterator[str]:
    """kind_0, kind_1 and so on, each only once."""
    while True:
        counts[kind] += 1
        yield f"{kind}_{counts[kind] - 1}"


def _rewritten(node: Any, rename: Rename, functions: _Functions) -> Any:
    """A copy of a node: its references renamed, no device, no traces."""
    copy = node_def_pb2.NodeDef(op=functions.name(node.op), input=[rename(ref) for ref in node.input])
    for key, value in sorted(node.attr.items()):
        if key not in _TRACES and value.WhichOneof("value"):
            copy.attr[key].CopyFrom(functions.in_attribute(value))
    return copy


def _node_of(ref: str) -> str:
    return ref.lstrip("^").partition(":")[0]


def _renamed_ref(ref: str, renamed: Mapping[str, str]) -> str:
    control, name = ("^", ref[1:]) if ref.startswith("^") else ("", ref)
    node, colon, output = name.partition(":")
    return f"{control}{renamed[node]}{colon}{output}"


class _Functions:
    """A graph's functions (bodies of loops and branches), numbered in the order in which they are first used."""

    def __init__(self, library: Any) -> None:
        self._old = {function.signature.name: function for function in library.function}
        self._names: dict[str, str] = {}

    def name(self, name: str) -> str:
        """The new name of a function; other names stay."""
        if name not in self._old:
            return name
        return self._names.setdefault(name, f"function_{len(self._names)}")

    def in_attribute(self, value: Any) -> Any:
        """A copy of a node's attribute with the functions in it renamed."""
        copy = attr_value_pb2.AttrValue()
        copy.CopyFrom(value)
        for call in _calls(copy):
            call.name = self.name(call.name)
            for key in sorted(call.attr):
                call.attr[key].CopyFrom(self.in_attribute(call.attr[key]))
        return copy

    def library(self) -> Any:
        """The functions that were named so far, and those that they use in turn."""
        library = function_pb2.FunctionDefLibrary()
        done = 0
        while done < len(self._names):  # grows while functions are rewritten
            old = list(self._names)[done]
            library.function.append(_function(self._old[old], self._names[old], self))
            done += 1
        return library


def _calls(value: Any) -> Iterator[Any]:
    if value.WhichOneof("value") == "func":
        yield value.func
    yield from value.list.func


def _function(old: Any, name: str, functions: _Functions) -> Any:
    nodes = {node.name: node for node in old.node_def}
    arguments = {arg.name: f"{name}_arg_{index}" for index, arg in enumerate(old.signature.input_arg)}
    results = {arg.name: f"result_{index}" for index, arg in enumerate(old.signature.output_arg)}
    controls = {control: f"control_{index}" for index, control in enumerate(old.signature.control_output)}
    roots = [_node_of(old.ret[result]) for result in results] + [old.control_ret[control] for control in controls]
    order = in_order(roots, nodes)
    renamed = _numbered([nodes[node] for node in order], arguments, prefix=f"{name}_", functions=functions)

    new = function_pb2.FunctionDef()
    new.signature.CopyFrom(old.signature)
    new.signature.name = name
    new.signature.control_output[:] = list(controls.values())
    for side, names in ((new.signature.input_arg, arguments), (new.signature.output_arg, results)):
        for arg in side:
            arg.name = names[arg.name]
    for node in order:
        rewritten = _rewritten(nodes[node], lambda ref: _renamed_ref(ref, renamed), functions)
        rewritten.name = renamed[node]
        new.node_def.append(rewritten)
    for result, tensor in old.ret.items():
        new.ret[results[result]] = _renamed_ref(tensor, renamed)
    for control, node in old.control_ret.items():
        new.control_ret[controls[control]] = renamed[node]
    for key, value in old.attr.items():
        if key not in _TRACES:
            new.attr[key].CopyFrom(functions.in_attribute(value))
    return new
