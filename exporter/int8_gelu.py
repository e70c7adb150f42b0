"""The ops that Keras traces a gelu to, 0.5 * x * erfc(-x * sqrt(1/2)), which 8-bit products have fused."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from keraship.exporter.graph import Graph, name_of


def gelu(graph: Graph, node: Any) -> Any:
    """The last node of the gelu of `node`; None where what follows is none."""
    users = [graph.nodes[name] for name in graph.users.get(node.name, ())]
    if node.name in graph.kept or sorted(user.op for user in users) != ["Mul", "Neg"]:
        return None
    half, negative = sorted(users, key=lambda user: str(user.op))
    scaled = graph.only_user(negative)
    erfc = graph.only_user(scaled) if scaled is not None and _is_times(graph, scaled, math.sqrt(0.5)) else None
    last = graph.only_user(erfc) if erfc is not None and erfc.op == "Erfc" else None
    if (
        erfc is None
        or last is None
        or last.op != "Mul"
        or not _is_times(graph, half, 0.5)
        or graph.only_user(half) is not last
    ):
        return None
    return last if {name_of(ref) for ref in last.input} == {half.name, erfc.name} else None


def _is_times(graph: Graph, node: Any, factor: float) -> bool:
    """Whether a node is Mul by this number."""
    return node.op == "Mul" and any(abs(value - factor) < 1e-6 for value in _scalars(graph, node))


def _scalars(graph: Graph, node: Any) -> Iterator[float]:
    for ref in node.input:
        value = graph.constant(ref)
        if value is not None and value.size == 1:
            yield float(value.reshape(()))
