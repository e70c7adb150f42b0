"""A GraphDef that can be edited: who uses what, constants as arrays, shapes as TensorFlow infers them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import graph_pb2, node_def_pb2

from keraship.exporter.canonical import in_order
from keraship.exporter.freeze import Frozen

Array = np.ndarray[Any, Any]
Shape = tuple[int | None, ...]


class Graph:
    """A frozen graph's nodes by name; every change of inputs goes through its methods, which keep the users true.

    A tensor is written as NodeDefs do: "node" for a node's first output, "node:1" for its second.
    kept: the nodes that must stay under their names: the signature's, and the one that fills lookup tables.
    shapes: those of another Graph of the same nodes, which takes less time than to infer them again.
    """

    def __init__(self, frozen: Frozen, shapes: Mapping[str, Shape | None] | None = None) -> None:
        self._frozen = frozen
        self.nodes: dict[str, Any] = {}
        self.users: dict[str, Counter[str]] = {}
        self.shapes = dict(_inferred_shapes(frozen.graph) if shapes is None else shapes)
        self._constants: dict[str, Array] = {}
        self.kept = set(frozen.kept)
        for node in frozen.graph.node:
            self._insert(node if node.op == "Const" else _copy(node))  # nothing changes a constant

    def frozen(self) -> Frozen:
        """The graph as it is now, less what no output needs."""
        graph = graph_pb2.GraphDef(versions=self._frozen.graph.versions, library=self._frozen.graph.library)
        graph.node.extend(self.nodes[name] for name in self.ordered())
        return replace(self._frozen, graph=graph)

    @property
    def library(self) -> Any:
        """The functions: bodies of loops and branches."""
        return self._frozen.graph.library

    def ordered(self) -> list[str]:
        """The names of the needed nodes, each after its inputs."""
        return in_order(sorted(self.kept), self.nodes)

    def ancestors(self, name: str) -> set[str]:
        """The nodes that a node is computed from."""
        return set(in_order([name], self.nodes)) - {name}

    def of(self, *ops: str) -> Iterator[Any]:
        """The nodes of these ops, in the graph's order; those that the loop over them takes out are left out."""
        return (node for node in list(self.nodes.values()) if node.op in ops and node.name in self.nodes)

    def producer(self, ref: str) -> Any:
        """The node whose output `ref` is."""
        return self.nodes[name_of(ref)]

    def only_user(self, node: Any) -> Any:
        """The one node that uses `node`, once, and by its first output; None where there is another or it is kept."""
        users = self.users.get(node.name, Counter())
        if node.name in self.kept or users.total() != 1:
            return None
        user = self.nodes[next(iter(users))]
        return user if node.name in map(plain, user.input) else None

    def constant(self, ref: str) -> Array | None:
        """A constant's value, not to be changed in place; None where `ref` is none."""
        node = self.nodes.get(name_of(ref))
        while node is not None and node.op == "Identity" and not _has_control(node):
            node = self.nodes.get(name_of(node.input[0]))
        if node is None or node.op != "Const":
            return None
        if node.name not in self._constants:
            self._constants[node.name] = tf.make_ndarray(node.attr["value"].tensor)
        return self._constants[node.name]

    def shape(self, ref: str) -> Shape | None:
        """What is known of a tensor's shape; None where not even its rank is."""
        return self.shapes.get(plain(ref))

    def add(self, op: str, name: str, inputs: Sequence[str], **attributes: Any) -> str:
        """A new node, under `name` or one like it; returns its name.

        attributes: a tf.DType, bool, int, float, text, or a list of one of these.
        """
        node = node_def_pb2.NodeDef(op=op, name=self._free(name), input=inputs)
        for key, value in attributes.items():
            set_attribute(node.attr[key], value)
        self._insert(node)
        return str(node.name)

    def add_constant(self, name: str, value: Any, dtype: Any = None) -> str:
        """A new constant; dtype: a tf.DType of the same width where numpy has none of its own, such as tf.qint8."""
        array = np.asarray(value)
        tensor = tf.make_tensor_proto(array)
        if dtype is not None:
            tensor.dtype = dtype.as_datatype_enum
        node = node_def_pb2.NodeDef(op="Const", name=self._free(name))
        node.attr["dtype"].type = tensor.dtype
        node.attr["value"].tensor.CopyFrom(tensor)
        self._insert(node)
        self.shapes[node.name] = array.shape
        return str(node.name)

    def set_input(self, node: Any, index: int, ref: str) -> None:
        """Let a node's input come from elsewhere."""
        old = node.input[index]
        self._forget(node.name, old)
        node.input[index] = ref
        self.users.setdefault(name_of(ref), Counter())[node.name] += 1
        self.remove(self.nodes[name_of(old)])

    def redirect(self, ref: str, new: str, *, but: Iterable[str] = ()) -> None:
        """Let everything that uses the tensor `ref` use `new`, less the nodes named `but`."""
        spared = {*but, name_of(new)}
        for user in [name for name in self.users.get(name_of(ref), ()) if name not in spared]:
            node = self.nodes[user]
            for index, old in enumerate(node.input):
                if plain(old) == plain(ref):
                    self.set_input(node, index, new)
                elif old == f"^{name_of(ref)}" and plain(ref) == name_of(ref):
                    self.set_input(node, index, f"^{name_of(new)}")

    def bypass(self, node: Any, ref: str) -> None:
        """Let the users of a node's first output use `ref` instead, and take the node out."""
        self.redirect(node.name, ref)
        self.remove(node)

    def remove(self, node: Any) -> None:
        """Take out a node that nothing uses, and what was there for it alone."""
        stack = [node.name]
        while stack:
            name = stack.pop()
            if name in self.nodes and name not in self.kept and not self.users.get(name):
                removed = self.nodes.pop(name)
                for ref in removed.input:
                    self._forget(name, ref)
                stack += map(name_of, removed.input)

    def _insert(self, node: Any) -> None:
        self.nodes[node.name] = node
        for ref in node.input:
            self.users.setdefault(name_of(ref), Counter())[node.name] += 1

    def _forget(self, user: str, ref: str) -> None:
        users = self.users[name_of(ref)]
        users[user] -= 1
        if not users[user]:
            del users[user]

    def _free(self, name: str) -> str:
        free, count = name, 0
        while free in self.nodes:
            count += 1
            free = f"{name}_{count}"
        return free


def name_of(ref: str) -> str:
    """The node of a reference: "node" for "node", "node:1" and "^node"."""
    return ref.lstrip("^").partition(":")[0]


def set_attribute(attribute: Any, value: Any) -> None:
    """Put a Python value into an AttrValue: a tf.DType, bool, int, float, text, or a list of one of these."""
    for kind, (field, listed, stored) in _FIELDS.items():
        if isinstance(value, list) and value and isinstance(value[0], kind):
            getattr(attribute.list, listed).extend(stored(item) for item in value)
            return
        if isinstance(value, kind):
            setattr(attribute, field, stored(value))
            return
    attribute.list.SetInParent()  # an empty list


_FIELDS: dict[type, tuple[str, str, Any]] = {
    tf.DType: ("type", "type", lambda dtype: dtype.as_datatype_enum),
    bool: ("b", "b", bool),  # before int, which a bool is too
    int: ("i", "i", int),
    float: ("f", "f", float),
    str: ("s", "s", str.encode),
}


def plain(ref: str) -> str:
    """A node's first output without its number."""
    return ref.removesuffix(":0")


def _copy(node: Any) -> Any:
    copy = node_def_pb2.NodeDef()
    copy.CopyFrom(node)
    return copy


def _has_control(node: Any) -> bool:
    return any(ref.startswith("^") for ref in node.input)


def _inferred_shapes(graph: Any) -> dict[str, Shape | None]:
    with tf.Graph().as_default() as imported:
        tf.import_graph_def(graph, name="")
    return {
        plain(tensor.name): None if tensor.shape.rank is None else tuple(tensor.shape)
        for operation in imported.get_operations()
        for tensor in operation.outputs
    }
