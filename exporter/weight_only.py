"""Weights stored in fewer bits, and made float again in the graph: smaller files, the float model's speed.

Runtimes fold the conversion as they load, so nothing is left of it when a request comes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keraship.bundle import Coverage, KeptFloat
from keraship.exporter.contractions import contraction
from keraship.exporter.coverage import elements, share
from keraship.exporter.freeze import Frozen
from keraship.exporter.graph import Array, Graph, name_of
from keraship.exporter.layer_names import layer_of

SMALLEST = 256
"""Constants of fewer elements stay: biases and factors, which would save nothing and lose digits."""

Store = Callable[[Graph, Any, Array, int], str]
"""(graph, the constant's node, its value, its axis of channels) -> the ref of the float32 tensor made in the graph."""


def store_weights(frozen: Frozen, store: Store, keep_float: tuple[str, ...]) -> tuple[Frozen, Coverage]:
    """Every constant of float32, of SMALLEST or more elements and two or more axes, stored by `store`."""
    graph = Graph(frozen)
    quantized: dict[str, int] = {}
    total: dict[str, int] = {}
    kept = []
    stored = 0
    for node in list(graph.of("Const")):
        value = graph.constant(node.name)
        if value is None or not _is_weight(graph, node, value):
            continue
        users = sorted(graph.users[node.name])
        ops = [graph.nodes[user].op for user in users]
        for op in ops:
            total[op] = total.get(op, 0) + 1
        why = _obstacle(value, users, keep_float, _LIMITS.get(store, np.inf))
        if why:
            kept += [KeptFloat(layer_of(user), op, why) for user, op in zip(users, ops, strict=True)]
            continue
        for op in ops:
            quantized[op] = quantized.get(op, 0) + 1
        stored += value.size
        graph.redirect(node.name, store(graph, node, value, _axis(graph, node, value)))
    return graph.frozen(), Coverage(quantized, total, share(stored, elements(frozen)), tuple(kept))


def as_int8(graph: Graph, node: Any, value: Array, axis: int) -> str:
    """Eight bits and a scale for each channel."""
    others = tuple(index for index in range(value.ndim) if index != axis)
    scale = np.maximum(np.abs(value).max(axis=others, keepdims=True), 1e-30).astype(np.float32) / np.float32(127)
    levels = np.clip(np.rint(value / scale), -127, 127).astype(np.int8)
    stored = graph.add_constant(f"{node.name}/int8", levels)
    cast = graph.add("Cast", f"{node.name}/float", [stored], SrcT=tf.int8, DstT=tf.float32, Truncate=False)
    scales = graph.add_constant(f"{node.name}/scale", scale)
    return graph.add("Mul", f"{node.name}/scaled", [cast, scales], T=tf.float32)


def as_float16(graph: Graph, node: Any, value: Array, _axis: int) -> str:
    """Sixteen bits: 11 of them digits."""
    stored = graph.add_constant(f"{node.name}/float16", value.astype(np.float16))
    return graph.add("Cast", f"{node.name}/float", [stored], SrcT=tf.float16, DstT=tf.float32, Truncate=False)


_LIMITS: dict[Store, float] = {as_float16: float(np.finfo(np.float16).max)}
"""The largest magnitude that a way to store can hold."""


def _is_weight(graph: Graph, node: Any, value: Array) -> bool:
    used = bool(graph.users.get(node.name)) and node.name not in graph.kept
    return used and value.dtype == np.float32 and value.ndim >= 2 and value.size >= SMALLEST


def _obstacle(value: Array, users: list[str], keep_float: tuple[str, ...], limit: float) -> str:
    if any(
        item in (user, layer_of(user)) or layer_of(user).startswith(f"{item}/") for item in keep_float for user in users
    ):
        return "asked to stay float"
    if not np.all(np.isfinite(value)):
        return "its weights hold numbers that are not finite"
    if np.abs(value).max() > limit:
        return "its weights are too large for 16 bits"
    return ""


def _axis(graph: Graph, node: Any, value: Array) -> int:
    """The axis with a scale of its own for each place: output channels; rows of an embedding; the last otherwise."""
    for user in (graph.nodes[name] for name in graph.users[node.name]):
        if user.op in ("GatherV2", "ResourceGather", "Gather"):
            return 0
        kind = contraction(user)
        if kind is not None and name_of(user.input[kind.weights]) == node.name:
            return max(kind.outputs, key=lambda axis: value.shape[axis])
    return value.ndim - 1
