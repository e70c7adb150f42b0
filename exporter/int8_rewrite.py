"""Planned layers become TensorFlow's 8-bit ops; 8 bits flow from one to the next, float only where others want it.

What the ops expect and do was found by numerical experiment, which tests/exporter/test_int8_ops.py repeats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from keraship.exporter.fold_layout import merge_constants
from keraship.exporter.freeze import Frozen
from keraship.exporter.graph import Graph, Shape, name_of, plain
from keraship.exporter.int8_calibrate import Range
from keraship.exporter.int8_plan import KERNELS, MOVES, Target
from keraship.exporter.int8_weights import quantized_weights

U8, S8, F32 = tf.quint8, tf.qint8, tf.float32

SIGNED_SUM = 255 / 127
"""A signed summand makes the kernel write signed bytes, where unsigned ones are declared: so is a larger range."""


def rewrite(
    frozen: Frozen,
    targets: Sequence[Target],
    ranges: Mapping[str, Range],
    *,
    shapes: Mapping[str, Shape | None] | None = None,
) -> Frozen:
    """The graph with `targets`, a plan's for it or a part of them, in 8 bits.

    ranges: of the tensors of `tensors_of`. shapes: of the graph that was planned for, where they are known.
    """
    rewriting = _Rewriting(Graph(frozen, shapes), targets, ranges)
    for target in targets:
        rewriting.replace(target)
    rewriting.finish()
    merge_constants(rewriting.graph)
    return rewriting.graph.frozen()


def tensors_of(graph: Graph, targets: Sequence[Target]) -> list[str]:
    """The tensors whose ranges `rewrite` needs."""
    tensors: list[str] = []
    for target in targets:
        tensors += [source(graph, target.layer.data), target.out]
        tensors += [source(graph, target.summand)] if target.summand else []
    return tensors


def source(graph: Graph, ref: str) -> str:
    """Where a tensor's values come from, before ops that only move them or choose among them."""
    ref = plain(ref)
    while ":" not in ref and _is_moving(graph, graph.nodes[ref]):
        ref = plain(graph.nodes[ref].input[0])
    return ref


@dataclass(frozen=True)
class _Bytes:
    """A tensor in 8 bits: the refs of it and of its least and largest number, its type, and how zero is placed."""

    value: str
    low: str
    high: str
    dtype: Any
    mode: str = "SCALED"


class _Rewriting:
    """While it goes on, the float ops stay, and layers find their inputs by the old names; `finish` lets go of them."""

    def __init__(self, graph: Graph, targets: Sequence[Target], ranges: Mapping[str, Range]) -> None:
        self.graph = graph
        self._ranges = ranges
        self._products = {target.node.name for target in targets if target.is_product}
        self._made: dict[tuple[str, bool], _Bytes] = {}
        self._floats: dict[str, str] = {}

    def replace(self, target: Target) -> None:
        """Make a layer's 8-bit op."""
        if target.is_product:
            self._product(target)
        else:
            self._convolution(target)

    def finish(self) -> None:
        """Let all that still uses the float ops use what the 8-bit ones give."""
        for out, ref in self._floats.items():
            self.graph.redirect(out, ref)

    def _convolution(self, target: Target) -> None:
        data = self._bytes(target.layer.data, product=False)
        summand = self._bytes(target.summand, product=False) if target.summand else None
        signed = not target.activation and self._ranges[target.out].signed
        dtype = S8 if signed else U8
        high = self._ranges[target.out].size
        if target.activation == "Relu6":
            high = min(high, 6.0)  # what is beyond is cut off, as Relu6 does
        if summand is not None and summand.dtype == S8:
            high *= SIGNED_SUM
        fused = ["BiasAdd", *(["Sum"] if summand else []), *(["Relu"] if target.activation else []), "Requantize"]
        name = target.node.name
        weights, weight_ends = self._weights(target)
        bounds = self._bounds(name, -high if signed else 0.0, high)
        middle = [summand] if summand else []
        inputs = [data.value, weights, self._bias(target), *(item.value for item in middle), data.low, data.high]
        inputs += [*weight_ends, *(end for item in middle for end in (item.low, item.high)), *bounds]
        types = [data.dtype, S8, F32, *(item.dtype for item in middle)]
        added = self.graph.add(
            KERNELS[target.node.op],
            f"{name}/int8",
            inputs,
            Tinput=data.dtype,
            Tfilter=S8,
            Tbias=F32,
            Tsummand=summand.dtype if summand else dtype,
            out_type=dtype,
            Tdevice_inputs=types + [F32] * (len(inputs) - len(types)),
            Thost_inputs=[],
            Tdevice_outputs=[dtype, F32, F32],
            Thost_outputs=[],
            data_format="NHWC",
            fused_ops=fused,
            is_filter_const=True,
            is_bias_const=True,
            **_geometry(target.node),
        )
        self._put(target, _Bytes(added, f"{added}:1", f"{added}:2", dtype))

    def _product(self, target: Target) -> None:
        data = self._bytes(target.layer.data, product=True)
        requantized = target.activation and self._only_products_use(target.out)
        fused = ["BiasAdd", *([target.activation] if target.activation else [])]
        name = target.node.name
        weights, weight_ends = self._weights(target)
        inputs = [data.value, weights, self._bias(target), data.low, data.high, *weight_ends]
        output, result_mode = F32, "SCALED"
        if requantized:
            found = self._ranges[target.out]
            output, result_mode = U8, "MIN_FIRST" if found.signed else "SCALED"
            inputs += self._bounds(name, found.low if found.signed else 0.0, max(found.high, 1e-6))
        types = [data.dtype, S8]
        added = self.graph.add(
            KERNELS["MatMul"],
            f"{name}/int8",
            inputs,
            T1=data.dtype,
            T2=S8,
            Tbias=F32,
            U=F32,
            Tout=output,
            Tdevice_inputs=types + [F32] * (len(inputs) - len(types)),
            Thost_inputs=[],
            Tdevice_outputs=[U8, F32, F32] if requantized else [F32],
            Thost_outputs=[],
            fused_ops=[*fused, "Requantize" if requantized else "Dequantize"],
            input_quant_mode=data.mode,
            output_quant_mode=result_mode,
            is_weight_const=True,
            is_bias_const=True,
            transpose_a=False,
            transpose_b=False,
        )
        if requantized:
            self._put(target, _Bytes(added, f"{added}:1", f"{added}:2", U8, result_mode))
        else:
            self._floats[target.out] = self._moved(target, added, F32)

    def _put(self, target: Target, result: _Bytes) -> None:
        """Let 8-bit users have the result as it is, others as float."""
        moved = _Bytes(self._moved(target, result.value, result.dtype), *_rest(result))
        self._made[target.out, False] = self._made[target.out, True] = moved
        self._floats[target.out] = self._float(f"{target.node.name}/float", moved)

    def _moved(self, target: Target, ref: str, dtype: Any) -> str:
        """The Reshapes behind a layer, now behind its 8-bit op."""
        for name in target.moves:
            ref = self._clone(self.graph.nodes[name], ref, dtype)
        return ref

    def _clone(self, node: Any, ref: str, dtype: Any) -> str:
        """The same op on another tensor, of another type."""
        copy = self.graph.add(node.op, f"{node.name}/int8", [ref, *node.input[1:]])
        for key, value in node.attr.items():
            self.graph.nodes[copy].attr[key].CopyFrom(value)
        self.graph.nodes[copy].attr["T"].type = dtype.as_datatype_enum
        return copy

    def _float(self, name: str, item: _Bytes) -> str:
        narrow = item.dtype == S8
        inputs = [item.value, item.low, item.high]
        return self.graph.add("Dequantize", name, inputs, T=item.dtype, mode=item.mode, narrow_range=narrow, dtype=F32)

    def _bytes(self, ref: str, *, product: bool) -> _Bytes:
        """A tensor in 8 bits, made once for all its users.

        product: whether for a MatMul, which takes any zero point; convolutions want zero in the middle, or at the end.
        """
        ref = plain(ref)
        found = self._made.get((ref, product))
        if found is None or (found.mode != "SCALED" and not product):
            found = self._made[ref, product] = self._moving(ref, product=product) or self._quantize(
                ref, product=product
            )
        return found

    def _moving(self, ref: str, *, product: bool) -> _Bytes | None:
        """What is only moved is moved as bytes, where it comes as bytes."""
        node = self.graph.nodes.get(ref)
        origin = source(self.graph, ref)
        if node is None or origin == ref or (origin, product) not in self._made:
            return None
        item = self._bytes(node.input[0], product=product)
        if item.mode != "SCALED" and node.op not in MOVES:
            return None
        if node.op == "MaxPool":
            return self._pool(node, item)
        return _Bytes(self._clone(node, item.value, item.dtype), *_rest(item))

    def _pool(self, node: Any, item: _Bytes) -> _Bytes:
        sizes = {key: list(node.attr[key].list.i) for key in ("ksize", "strides")}
        padding = node.attr["padding"].s.decode()
        inputs = [item.value, item.low, item.high]
        name = self.graph.add("QuantizedMaxPool", f"{node.name}/int8", inputs, T=item.dtype, padding=padding, **sizes)
        return _Bytes(name, f"{name}:1", f"{name}:2", item.dtype)

    def _quantize(self, ref: str, *, product: bool) -> _Bytes:
        found = self._ranges[source(self.graph, ref)]
        mode = "MIN_FIRST" if product and found.signed else "SCALED"
        dtype = S8 if found.signed and mode == "SCALED" else U8
        low = {"MIN_FIRST": found.low, "SCALED": -found.size}[mode] if found.signed else 0.0
        high = max(found.high, 1e-6, low + 1e-6) if mode == "MIN_FIRST" else found.size
        name = f"{ref.replace(':', '_')}/{'uint8' if mode == 'MIN_FIRST' else 'bytes'}"
        added = self.graph.add(
            "QuantizeV2",
            name,
            [ref, *self._bounds(name, low, high)],
            T=dtype,
            mode=mode,
            round_mode="HALF_TO_EVEN" if mode == "SCALED" else "HALF_AWAY_FROM_ZERO",
            narrow_range=dtype == S8,
        )
        return _Bytes(added, f"{added}:1", f"{added}:2", dtype, mode)

    def _bounds(self, name: str, low: float, high: float) -> list[str]:
        return [
            self.graph.add_constant(f"{name}/{end}", np.float32(value)) for end, value in (("low", low), ("high", high))
        ]

    def _bias(self, target: Target) -> str:
        return self.graph.add_constant(f"{target.node.name}/int8/bias", target.bias.astype(np.float32))

    def _weights(self, target: Target) -> tuple[str, list[str]]:
        """The weights in 8 bits, and the ends of each channel's range."""
        kind, weights = target.layer.kind, target.layer.weights
        levels, size = quantized_weights(weights, kind.outputs, kind.inputs)
        if target.is_product and kind.outputs == (0,):
            levels = np.ascontiguousarray(levels.T)
        name = f"{target.node.name}/int8"
        ends = [
            self.graph.add_constant(f"{name}/weights_{end}", array) for end, array in (("low", -size), ("high", size))
        ]
        return self.graph.add_constant(f"{name}/weights", levels, S8), ends

    def _only_products_use(self, name: str) -> bool:
        """Whether all that uses a tensor, through Reshapes, are products in 8 bits; then it need not become float."""
        users = [self.graph.nodes[user] for user in self.graph.users.get(name, ())]
        return name not in self.graph.kept and all(
            user.name in self._products
            or (user.op in MOVES and name_of(user.input[0]) == name and self._only_products_use(user.name))
            for user in users
        )


def _rest(item: _Bytes) -> tuple[str, str, Any, str]:
    return item.low, item.high, item.dtype, item.mode


def _is_moving(graph: Graph, node: Any) -> bool:
    """Whether an op's results are among its inputs, or zeros; and it works on 8 bits."""
    if node.op == "MaxPool":
        return bool(node.attr["data_format"].s == b"NHWC" and node.attr["padding"].s in (b"SAME", b"VALID"))
    return node.op in MOVES or (node.op == "Pad" and graph.constant(node.input[1]) is not None)


def _geometry(node: Any) -> dict[str, Any]:
    dilations = list(node.attr["dilations"].list.i) or [1, 1, 1, 1]
    padding = node.attr["padding"].s.decode()
    explicit = {"explicit_paddings": list(node.attr["explicit_paddings"].list.i)} if padding == "EXPLICIT" else {}
    return {"strides": list(node.attr["strides"].list.i), "dilations": dilations, "padding": padding, **explicit}
