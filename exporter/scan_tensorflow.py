"""What is dangerous in a TensorFlow graph: a SavedModel's saved_model.pb, a frozen .pb, Keras 2's keras_metadata.pb.

Field numbers: tensorflow/core/protobuf/{saved_model,meta_graph,saver}.proto and core/framework/{graph,function,
node_def,attr_value,tensor}.proto.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from keraship.check_archive import leads_out
from keraship.check_config import check_config
from keraship.danger import Finding, danger, notice
from keraship.errors import ModelError
from keraship.exporter import protobuf_walk as walk
from keraship.exporter.tensorflow_ops import BY_ATTRIBUTE, DANGEROUS, OF_CHECKPOINTS, OF_TABLES
from keraship.reasons import reason

SAVED_MODEL = "saved_model.pb"
_KERAS_METADATA = "keras_metadata.pb"
_FINGERPRINT = "fingerprint.pb"  # numbers alone

_SPLAT = 64 << 20  # elements: a constant of one repeated value may claim so many before it is taken for a bomb
_SPLAT_RATIO = 1000
_REMEDY = "do not run it; export the model again from its source"


@dataclass(frozen=True)
class Node:
    """A node of a graph or of a function. attributes: their messages by name."""

    name: str
    op: str
    inputs: tuple[str, ...]
    attributes: dict[str, memoryview]

    @property
    def callees(self) -> set[str]:
        """The functions that it may call."""
        named = {self.op}
        for value in self.attributes.values():
            named |= {walk.text(function, 1) for function in walk.messages(value, 10)}
            named |= {walk.text(function, 1) for function in walk.path(value, 1, 9)}
        return named


@dataclass(frozen=True)
class Graph:
    """The nodes of a graph, and those of each function in its library, "" being the graph itself."""

    nodes: dict[str, list[Node]]

    def reached(self, tensors: Iterable[str]) -> set[tuple[str, str]]:
        """Function and node of all that runs for some tensors of the graph; a called function runs as a whole."""
        top = {node.name: node for node in self.nodes[""]}
        found: set[tuple[str, str]] = set()
        functions: set[str] = set()
        pending = [_node_name(tensor) for tensor in tensors]
        while pending:
            name = pending.pop()
            if name in top and ("", name) not in found:
                found.add(("", name))
                pending += [_node_name(given) for given in top[name].inputs]
                functions |= top[name].callees & self.nodes.keys() - {""}
        waiting = list(functions)
        while waiting:
            for node in self.nodes[function := waiting.pop()]:
                found.add((function, node.name))
                new = node.callees & self.nodes.keys() - functions - {""}
                functions |= new
                waiting += new
        return found


def scan_pb(path: Path) -> Iterator[Finding]:
    """A file that ends in .pb; raises ModelError where it is not whole, or holds no graph."""
    if path.name == _FINGERPRINT:
        return
    try:
        message = walk.mapped(path)
        if path.name == _KERAS_METADATA:
            yield from _scan_metadata(message)
            return
        graphs = list(_meta_graphs(message))
        if path.name != SAVED_MODEL:
            graphs += [(message, message[:0])]  # a GraphDef, which names nothing to be run
        findings = [found for graph, meta in graphs for found in _scan_graph(graph, meta)]
        empty = not any(_read_nodes(graph, 1) for graph, _ in graphs)
    except ValueError as error:
        raise ModelError(f"{path} is not a whole TensorFlow graph ({reason(error)}); get the file anew") from error
    if empty:
        raise ModelError(f"expected a SavedModel or a frozen graph in {path}; it holds no graph")
    yield from findings


def _meta_graphs(message: memoryview) -> Iterator[tuple[memoryview, memoryview]]:
    """Each GraphDef of a SavedModel with the MetaGraphDef that it stands in."""
    for meta in walk.messages(message, 2):
        for graph in walk.messages(meta, 2):
            yield graph, meta


def _scan_graph(message: memoryview, meta: memoryview) -> Iterator[Finding]:
    graph = _read_graph(message)
    assets = _assets(meta)
    for file, _ in assets:
        if leads_out(file):
            yield danger("path", file, "the graph names an asset that lies outside of its folder", _REMEDY)
    loaders = graph.reached(_saver(meta)) - graph.reached(_run(meta))
    for function, nodes in graph.nodes.items():
        constants = {node.name for node in nodes if node.op == "Const"} - {tensor for _, tensor in assets}
        for node in nodes:
            where = f"{function}/{node.name}".lstrip("/")
            yield from _judge(node, where, is_loaders=(function, node.name) in loaders)
            yield from _judge_table(node, where, constants, has_assets=bool(assets))
            yield from _judge_constant(node, where)


def _judge(node: Node, where: str, *, is_loaders: bool) -> Iterator[Finding]:
    what = DANGEROUS.get(node.op) or (OF_CHECKPOINTS.get(node.op) if not is_loaders else None)
    if what:
        yield danger("op", where, f"the operation {node.op} {what}", _REMEDY)
    if node.op in BY_ATTRIBUTE:
        attribute, harmless, what = BY_ATTRIBUTE[node.op]
        value = walk.text(node.attributes.get(attribute, memoryview(b"")), 2)
        if not value.startswith(harmless) and value:
            yield danger("op", where, f"the operation {node.op} {what}, {value!r:.100}", _REMEDY)


def _judge_table(node: Node, where: str, constants: set[str], *, has_assets: bool) -> Iterator[Finding]:
    """A lookup table filled from a text file: the model's own asset, or any file of the machine."""
    if node.op not in OF_TABLES:
        return
    names = {_node_name(given) for given in node.inputs}
    if has_assets and not names & constants:
        yield notice("op", where, "a lookup table is read from the model's assets", "look at assets/")
    else:
        yield danger("op", where, f"the operation {node.op} reads a local file into a lookup table", _REMEDY)


def _judge_constant(node: Node, where: str) -> Iterator[Finding]:
    for value in node.attributes.values():
        for tensor in walk.messages(value, 8):
            sizes = [walk.integer(size, 1) for size in walk.path(tensor, 2, 2)]
            elements = math.prod(sizes)
            if any(size < 0 for size in sizes) or elements > max(_SPLAT, _SPLAT_RATIO * len(tensor)):
                claimed = f"a constant claims the shape {sizes}; {len(tensor)} bytes are there"
                yield danger("oversize", where, claimed, _REMEDY)


def _read_graph(message: memoryview) -> Graph:
    nodes = {"": _read_nodes(message, 1)}
    for function in walk.path(message, 2, 1):
        name = next((walk.text(signature, 1) for signature in walk.messages(function, 1)), "")
        nodes[name or "?"] = [*nodes.get(name or "?", []), *_read_nodes(function, 3)]
    return Graph(nodes)


def _read_nodes(message: memoryview, number: int) -> list[Node]:
    return [_read_node(node) for node in walk.messages(message, number)]


def _read_node(message: memoryview) -> Node:
    attributes = {}
    for entry in walk.messages(message, 5):
        for value in walk.messages(entry, 2):
            attributes[walk.text(entry, 1)] = value
    return Node(walk.text(message, 1), walk.text(message, 2), tuple(walk.texts(message, 3)), attributes)


def _run(meta: memoryview) -> list[str]:
    """The tensors and operations that are run on a call (the signatures' outputs) or at load (the main operations)."""
    tensors = [walk.text(info, 1) for info in walk.path(meta, 5, 2, 2, 2)]
    for collection in walk.messages(meta, 4):
        if walk.text(collection, 1) in ("saved_model_main_op", "legacy_init_op"):
            tensors += [name for names in walk.path(collection, 2, 1) for name in walk.texts(names, 1)]
    return tensors


def _saver(meta: memoryview) -> list[str]:
    """The tensors and operations by which the loader restores variables."""
    return [walk.text(saver, number) for saver in walk.messages(meta, 3) for number in (1, 2, 3)]


def _assets(meta: memoryview) -> list[tuple[str, str]]:
    """Each asset's file, and the node that gives its path."""
    return [
        (walk.text(asset, 2), _node_name("".join(walk.text(info, 1) for info in walk.messages(asset, 1))))
        for asset in walk.messages(meta, 6)
    ]


def _node_name(tensor: str) -> str:
    return tensor.removeprefix("^").partition(":")[0]


def _scan_metadata(message: memoryview) -> Iterator[Finding]:
    """Keras 2's own description of the model's layers, which its load_model() makes them from."""
    for text in walk.path(message, 1, 5):
        try:
            yield from check_config(json.loads(bytes(text)))
        except RecursionError as error:
            raise ValueError("a layer's description is nested without end") from error
