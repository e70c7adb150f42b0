"""A traced model as one graph that needs no Keras and no custom code, with its weights inside where they fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import (
    _run_inline_graph_optimization,  # what the other does first; it cannot do only that
    convert_variables_to_constants_v2,
)

from keraship import dtypes
from keraship.errors import ExportError
from keraship.exporter.canonical import canonical, named
from keraship.exporter.layer_names import layer_of
from keraship.exporter.trace import Traced
from keraship.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from keraship.exporter.signatures import Additions

LIMIT = 2**31 - 1
"""A protobuf message's largest size, in bytes; a SavedModel's graph and an ONNX file are one message each."""


_ROOM = 2**26  # for the nodes, beside the weights


@dataclass(frozen=True)
class Variable:
    """A weight that stays outside of the graph: the node of its handle, and the tf.Variable that holds its value."""

    node: str
    value: Any


@dataclass(frozen=True)
class Frozen:
    """A graph that computes the signature.

    graph: a GraphDef; its placeholders and outputs are called as in the signature, other nodes as they were traced,
    below the names of their layers. signature: each spec with its tensor in the graph, "images:0".
    init: the node that fills lookup tables, to be run once after loading; empty where there are none. additions: what
    a SavedModel of it holds beside, for further signatures. variables: the weights, where they are too large to be
    constants of the graph.
    """

    graph: Any
    signature: Signature
    init: str = ""
    additions: Additions | None = None
    variables: tuple[Variable, ...] = ()

    @property
    def float_dtypes(self) -> set[str]:
        """The floating point types that the graph computes with."""
        numbers = {node.attr[key].type for node in _all_nodes(self.graph) for key in ("T", "dtype") if key in node.attr}
        names = {dtypes.BY_NUMBER[number].name for number in numbers if number in dtypes.BY_NUMBER}
        return names & {"float16", "bfloat16", "float32", "float64"}

    def canonical(self, *, keep: Iterable[str] = ()) -> Frozen:
        """The same under names that follow from what the graph computes, whatever else the process did before.

        keep: nodes that keep theirs, beside those of the signature.
        """
        return replace(self, graph=canonical(self.graph, keep=[*self.kept, *keep]))

    @property
    def kept(self) -> tuple[str, ...]:
        """The nodes that must stay, whatever is made of the graph."""
        specs = (*self.signature.inputs, *self.signature.outputs)
        init = [self.init] if self.init else []
        return (*(spec.name for spec in specs), *init, *(variable.node for variable in self.variables))


def freeze(traced: Traced) -> Frozen:
    """Put the weights into the graph as constants, and the contents of lookup tables beside them.

    Weights that would let the graph pass 2 GB stay variables, all of them.
    Raises ExportError for a graph that is too large even so, and for resources that are no lookup tables.
    """
    _check_reads_only(traced.function.graph)
    weights = sum(variable.shape.num_elements() * variable.dtype.size for variable in traced.function.variables)
    if weights > LIMIT - _ROOM:
        return _with_variables(traced)
    frozen = convert_variables_to_constants_v2(traced.function, lower_control_flow=False, aggressive_inlining=True)
    kept = [tensor.op.name for tensor in frozen.inputs]  # the signature's inputs, then what is no variable
    captures = {tensor.op.name: held for held, tensor in traced.function.graph.captures if tensor.op.name in kept}
    placeholders = [name for name in kept if name not in captures]
    return _finished(frozen.graph.as_graph_def(), traced, placeholders, captures)


def _with_variables(traced: Traced) -> Frozen:
    graph = _run_inline_graph_optimization(traced.function, lower_control_flow=False, aggressive_inlining=True)
    captures = {tensor.op.name: held for held, tensor in traced.function.graph.captures}
    values = {id(variable.handle): variable for variable in traced.function.variables}
    handles = {node: values[id(held)] for node, held in captures.items() if id(held) in values}
    constants = {node: held for node, held in captures.items() if held.dtype != tf.resource}
    for node in graph.node:
        if node.name in handles:
            _make_handle(node, handles[node.name])
        elif node.name in constants:
            _make_constant(node, constants[node.name])
    placeholders = [tensor.op.name for tensor in traced.function.inputs if tensor.op.name not in captures]
    tables = {node: held for node, held in captures.items() if node not in handles and node not in constants}
    finished = _finished(graph, traced, placeholders, tables)
    return _with_numbered_handles(finished, handles)


def _make_handle(node: Any, variable: Any) -> None:
    node.op = "VarHandleOp"
    node.attr.clear()
    node.attr["dtype"].type = variable.dtype.as_datatype_enum
    node.attr["shape"].shape.CopyFrom(variable.shape.as_proto())


def _make_constant(node: Any, tensor: Any) -> None:
    value = tf.make_tensor_proto(tensor.numpy(), tensor.dtype)
    node.op = "Const"
    node.attr.clear()
    node.attr["dtype"].type = value.dtype
    node.attr["value"].tensor.CopyFrom(value)


def _with_numbered_handles(frozen: Frozen, handles: Mapping[str, Any]) -> Frozen:
    """The variables that the graph uses, numbered: their own names may hold numbers of the process."""
    taken = {node.name.partition("/")[0] for node in frozen.graph.node}
    scope = next(name for name in map("variables{}".format, ["", *range(len(taken) + 1)]) if name not in taken)
    used = [node for node in frozen.graph.node if node.op == "VarHandleOp"]
    names = {node.name: f"{scope}/{index}" for index, node in enumerate(used)}
    for node in used:
        node.attr["shared_name"].s = names[node.name].encode()
    variables = tuple(Variable(names[node.name], handles[node.name]) for node in used)
    for node in frozen.graph.node:
        node.name = names.get(node.name, node.name)
        node.input[:] = [_renamed(reference, names) for reference in node.input]
    return replace(frozen, variables=variables)


def _renamed(reference: str, names: Mapping[str, str]) -> str:
    node, colon, output = reference.removeprefix("^").partition(":")
    return f"{'^' if reference.startswith('^') else ''}{names.get(node, node)}{colon}{output}"


def _finished(graph: Any, traced: Traced, placeholders: list[str], captures: dict[str, Any]) -> Frozen:
    """The graph with its tables inside, and the signature's names at its ends."""
    init = _embed_tables(graph, captures)
    signature = traced.signature
    outputs = [tensor.name for tensor in traced.function.outputs]
    result = named(
        graph,
        inputs={node: spec.name for node, spec in zip(placeholders, signature.inputs, strict=True)},
        outputs={spec.name: tensor for tensor, spec in zip(outputs, signature.outputs, strict=True)},
        extra=[init] if init else [],
    )
    _set_output_dtypes(result, signature)
    _check_size(result.ByteSize())
    return Frozen(result, _with_tensors(signature), init)


def _check_size(size: int) -> None:
    if size > LIMIT:
        raise ExportError(
            f"the model's graph holds {size / 1e9:.2f} GB beside its weights, and may hold {LIMIT / 1e9:.2f}; "
            "make its large constants weights"
        )


def _check_reads_only(graph: Any) -> None:
    """A graph that writes to its variables has a memory, which constants can't be."""
    writing = {node.name: node.op for node in _all_nodes(graph.as_graph_def()) if node.op in _WRITES}
    if writing:
        said = ", ".join(f"{op} in {layer_of(name)!r}" for name, op in list(writing.items())[:3])
        raise ExportError(
            f"the model writes to its weights when it answers ({said}), and an artifact has no memory; "
            "keep its state in keras.Variable, or give the state in and out as an input and an output"
        )


_WRITES = {"AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp"}
_WRITES |= {"ResourceScatterUpdate", "ResourceScatterAdd", "ResourceScatterNdUpdate", "ResourceScatterNdAdd"}


def _all_nodes(graph: Any) -> list[Any]:
    return [*graph.node, *(node for function in graph.library.function for node in function.node_def)]


def _set_output_dtypes(graph: Any, signature: Signature) -> None:
    numbers = {spec.name: dtypes.by_name(spec.dtype).number for spec in signature.outputs}
    for node in graph.node:
        if node.name in numbers:
            node.attr["T"].type = numbers[node.name]


def _with_tensors(signature: Signature) -> Signature:
    def with_tensor(spec: TensorSpec) -> TensorSpec:
        return replace(spec, tensor=f"{spec.name}:0")

    return Signature(tuple(map(with_tensor, signature.inputs)), tuple(map(with_tensor, signature.outputs)))


def _embed_tables(graph: Any, captures: dict[str, Any]) -> str:
    """Make each captured lookup table a node of the graph, filled by an init node, whose name is returned."""
    fillers = []
    for index, (name, resource) in enumerate(captures.items()):
        types = _table_types(graph, name, resource)
        keys, values = (
            array.numpy()
            for array in tf.raw_ops.LookupTableExportV2(table_handle=resource, Tkeys=types[0], Tvalues=types[1])
        )
        fillers.append(_embed_table(graph, name, index, _sorted_by_key(keys, values)))
    if not fillers:
        return ""
    graph.node.add(name="init_tables", op="NoOp", input=[f"^{filler}" for filler in fillers])
    return "init_tables"


def _embed_table(graph: Any, name: str, index: int, content: tuple[Any, Any]) -> str:
    nodes = {node.name: node for node in graph.node}
    keys, values = (tf.make_tensor_proto(array) for array in content)
    table = nodes[name]
    table.op = "HashTableV2"
    table.attr.clear()
    table.attr["key_dtype"].type = keys.dtype
    table.attr["value_dtype"].type = values.dtype
    table.attr["shared_name"].s = f"table_{index}".encode()
    inputs = [name]
    for part, tensor in (("keys", keys), ("values", values)):
        node = graph.node.add(name=f"{name}/{part}", op="Const")
        node.attr["dtype"].type = tensor.dtype
        node.attr["value"].tensor.CopyFrom(tensor)
        inputs.append(node.name)
    filler = graph.node.add(name=f"{name}/fill", op="InitializeTableV2", input=inputs)
    filler.attr["Tkey"].type = keys.dtype
    filler.attr["Tval"].type = values.dtype
    return str(filler.name)


def _sorted_by_key(keys: Any, values: Any) -> tuple[Any, Any]:
    """A hash table gives its entries in any order."""
    order = np.argsort(keys)
    return keys[order], values[order]


def _table_types(graph: Any, name: str, resource: Any) -> tuple[int, int]:
    """The types of a table's keys and values, which only the ops that use it know."""
    using = list(_users(graph, name))
    for node in using:
        if node.op == "LookupTableFindV2":
            return node.attr["Tin"].type, node.attr["Tout"].type
    users = sorted({node.op for node in using})
    raise ExportError(
        f"the model holds a resource that cannot be written into an artifact: {resource!r:.200}, used by "
        f"{', '.join(users) or 'nothing'}; only weights and lookup tables can"
    )


def _users(graph: Any, name: str) -> Iterator[Any]:
    """The nodes that take a node's output, also where functions that were inlined hand it on."""
    for node in graph.node:
        if any(reference.partition(":")[0] == name for reference in node.input):
            if node.op == "Identity":
                yield from _users(graph, node.name)
            else:
                yield node
