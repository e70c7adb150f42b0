"""TensorFlow operations that tf2onnx lacks, or gets wrong, written in ONNX operations.

HANDLERS is the table; each handler gets a _Rewrite, which is the node to replace, and returns the tensor that stands
for its output. One that cannot do so raises _Leave, and the operation is reported as one that ONNX has not.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf
from tf2onnx import utils

from keraship.exporter.onnx_prepare import Tables

Array = np.ndarray[Any, Any]

_NCHW, _NHWC = [0, 3, 1, 2], [0, 2, 3, 1]


def handlers(tables: Tables) -> dict[str, tuple[Callable[..., None], list[Any]]]:
    """What tf2onnx takes as custom_op_handlers; tables: the graph's lookup tables, by node."""
    return {op: (partial(_handle, handle, tables), []) for op, handle in HANDLERS.items()}


class _Leave(Exception):  # noqa: N818  # no error: the node stays, and is named with all others that do
    """The node cannot be written in ONNX."""


class _Rewrite:
    """A node that is being replaced: what it reads, and how to make ONNX nodes for it."""

    def __init__(self, graph: Any, node: Any, tables: Tables) -> None:
        self._graph = graph
        self.node = node
        self.inputs: list[str] = list(node.input)
        self.tables = tables

    def dtype(self, index: int = 0) -> Any:
        """The numpy type of an input."""
        return utils.map_onnx_to_numpy_type(self._graph.get_dtype(self.inputs[index]))

    def dtype_of(self, tensor: str) -> Any:
        """The numpy type of any tensor."""
        return utils.map_onnx_to_numpy_type(self._graph.get_dtype(tensor))

    def shape(self, index: int = 0) -> list[int]:
        """The shape of an input, -1 for sizes that are open; where its rank is open too there is nothing to be done."""
        return self.shape_of(self.inputs[index])

    def shape_of(self, tensor: str) -> list[int]:
        """The shape of any tensor."""
        shape = self._graph.get_shape(tensor)
        if shape is None:
            raise _Leave
        return list(shape)

    def constant(self, index: int) -> Array:
        """The value of an input that has one."""
        node = self.node.inputs[index]
        if not node.is_const():
            raise _Leave
        return np.asarray(node.get_tensor_value(as_list=False))

    def attr(self, name: str, default: Any) -> Any:
        value = self.node.get_attr_value(name)
        return default if value is None else value

    def has(self, name: str) -> bool:
        return self.node.get_attr(name) is not None

    def users(self) -> list[Any]:
        return list(self._graph.find_output_consumers(self.node.output[0]))

    def op(self, op: str, *inputs: Any, domain: str = "", **attr: Any) -> str:
        """The output of a new node; arrays among the inputs become constants."""
        refs = [self._ref(value) for value in inputs]
        made = self._graph.make_node(op, refs, attr=attr, domain=domain, name=utils.make_name(self.node.name))
        return str(made.output[0])

    def cast(self, tensor: str, dtype: Any) -> str:
        return self.op("Cast", tensor, to=utils.map_numpy_to_onnx_dtype(np.dtype(dtype)))

    def finish(self, tensor: str) -> None:
        node = self.node
        shapes, dtypes, outputs = node.output_shapes, node.output_dtypes, node.output
        self._graph.remove_node(node.name)
        self._graph.make_node("Identity", [tensor], name=node.name, outputs=outputs, shapes=shapes, dtypes=dtypes)

    def _ref(self, value: Any) -> str:
        if isinstance(value, str):
            return value
        return str(self._graph.make_const(utils.make_name(f"{self.node.name}/const"), np.asarray(value)).output[0])


def _handle(handle: Handler, tables: Tables, graph: Any, node: Any, _name: str, _args: list[Any]) -> None:
    rewrite = _Rewrite(graph, node, tables)
    try:
        rewrite.finish(handle(rewrite))
    except _Leave:
        return


def _erfc(x: _Rewrite) -> str:
    return x.op("Sub", np.ones((), x.dtype()), x.op("Erf", x.inputs[0]))


def _expm1(x: _Rewrite) -> str:
    """exp(x) - 1; near zero 2 t / (1 - t) with t = tanh(x / 2), which keeps all digits."""
    one, two = np.ones((), x.dtype()), np.full((), 2, x.dtype())
    (value,) = x.inputs
    tanh = x.op("Tanh", x.op("Div", value, two))
    near = x.op("Div", x.op("Mul", two, tanh), x.op("Sub", one, tanh))
    return _near_zero(x, near, x.op("Sub", x.op("Exp", value), one))


def _log1p(x: _Rewrite) -> str:
    """log(1 + x); near zero 2 atanh(x / (2 + x)), which keeps all digits."""
    one, two = np.ones((), x.dtype()), np.full((), 2, x.dtype())
    (value,) = x.inputs
    near = x.op("Mul", two, x.op("Atanh", x.op("Div", value, x.op("Add", two, value))))
    return _near_zero(x, near, x.op("Log", x.op("Add", one, value)))


def _near_zero(x: _Rewrite, near: str, far: str) -> str:
    is_near = x.op("Less", x.op("Abs", x.inputs[0]), np.full((), 0.5, x.dtype()))
    return x.op("Where", is_near, near, far)


def _bucketize(x: _Rewrite) -> str:
    """The number of boundaries that are not above each value."""
    boundaries = np.asarray(x.attr("boundaries", []), np.float32)
    value = x.op("Unsqueeze", x.cast(x.inputs[0], np.float32), np.array([-1]))
    return _counted(x, x.op("GreaterOrEqual", value, boundaries))


def _lower_bound(x: _Rewrite) -> str:
    return _bound(x, "Less")


def _upper_bound(x: _Rewrite) -> str:
    return _bound(x, "LessOrEqual")


def _bound(x: _Rewrite, comparison: str) -> str:
    """sorted (rows, n), values (rows, m) -> (rows, m): the number of sorted elements that are less."""
    ordered = x.op("Unsqueeze", x.inputs[0], np.array([1]))
    values = x.op("Unsqueeze", x.inputs[1], np.array([2]))
    return _counted(x, x.op(comparison, ordered, values))


def _counted(x: _Rewrite, truths: str) -> str:
    count = x.op("ReduceSum", x.cast(truths, np.int32), np.array([-1]), keepdims=0)
    return x.cast(count, utils.map_onnx_to_numpy_type(x.node.output_dtypes[0]))


def _bincount(x: _Rewrite) -> str:
    """(rows, n) or (n,) whole numbers -> how often each of 0 to size - 1 is among a row's, or whether it is.

    With weights, of the numbers' shape, each counts by its own.
    """
    size = x.op("Squeeze", x.cast(x.inputs[1], np.int64))
    bins = x.op("Range", np.array(0), size, np.array(1))
    hits = x.op("Equal", x.op("Unsqueeze", x.cast(x.inputs[0], np.int64), np.array([-1])), bins)
    together = "ReduceMax" if x.attr("binary_output", 0) else "ReduceSum"
    if x.node.inputs[2].is_const() and not x.constant(2).size:
        marks = x.cast(hits, np.int32)
    else:
        marks = x.op("Where", hits, x.op("Unsqueeze", x.inputs[2], np.array([-1])), np.zeros((), x.dtype(2)))
    counts = x.op(together, marks, np.array([-2]), keepdims=0)
    return x.cast(counts, utils.map_onnx_to_numpy_type(x.node.output_dtypes[0]))


def _bitcast(x: _Rewrite) -> str:
    """Only what asks for the sign bit of a float32: Keras' argmax and signbit do."""
    users = x.users()
    if x.dtype() != np.float32 or not users or not all(_asks_for_sign(user) for user in users):
        raise _Leave
    zero = np.zeros((), np.float32)
    below = x.op("Less", x.inputs[0], zero)
    below_zero = x.op("Less", x.op("Reciprocal", x.inputs[0]), zero)  # -0.0 is not less than 0.0, 1 / -0.0 is
    return x.op("Where", x.op("Or", below, below_zero), np.int32(-1), np.int32(0))


def _asks_for_sign(user: Any) -> bool:
    sign = np.iinfo(np.int32).min
    consts = [node.get_tensor_value(as_list=False) for node in user.inputs if node is not None and node.is_const()]
    return user.type in ("BitwiseAnd", "And") and any(np.all(value == sign) for value in consts)


def _table_find(x: _Rewrite) -> str:
    """A lookup in a table of whole numbers or text."""
    table = next((x.tables[name] for name in (x.inputs[0], x.inputs[0].partition(":")[0]) if name in x.tables), None)
    if table is None:
        raise _Leave
    keys, values = table
    default = x.constant(2)
    kinds = keys.dtype.kind, values.dtype.kind
    if kinds not in _ENCODED or default.size != 1:
        raise _Leave
    key_name, value_name, default_name = _ENCODED[kinds]
    key = x.cast(x.inputs[1], np.int64) if kinds[0] == "i" else x.inputs[1]
    attr = {key_name: keys.tolist(), value_name: values.tolist(), default_name: default.item()}
    found = x.op("LabelEncoder", key, domain="ai.onnx.ml", **attr)
    return x.cast(found, values.dtype) if kinds[1] == "i" and values.dtype != np.int64 else found


_INT, _TEXT = ("keys_int64s", "values_int64s", "default_int64"), ("keys_strings", "values_strings", "default_string")
_ENCODED = {
    ("i", "i"): _INT,
    ("i", "O"): (_INT[0], *_TEXT[1:]),
    ("O", "i"): (_TEXT[0], *_INT[1:]),
    ("O", "O"): _TEXT,
}
"""A LabelEncoder's attributes, by the kinds of keys and values."""


def _resize(x: _Rewrite) -> str:
    """An image, (rows, height, width, channels), to a size; tf2onnx gives the factor, whose rounding may lose a row."""
    kind, nearest_mode, extra = _RESIZES[x.node.type]
    half, corners = x.attr("half_pixel_centers", 0), x.attr("align_corners", 0)
    places = "half_pixel" if half else "align_corners" if corners else "asymmetric"
    nearest = {"nearest_mode": nearest_mode[bool(half or corners)]} if nearest_mode else {}
    image = x.op("Transpose", x.inputs[0], perm=_NCHW)
    if not nearest and x.dtype() != np.float32:
        image = x.cast(image, np.float32)
    fixed = x.op("Slice", x.op("Shape", image), np.array([0]), np.array([2]))
    sizes = x.op("Concat", fixed, x.cast(x.inputs[1], np.int64), axis=0)
    attr = {"mode": kind, "coordinate_transformation_mode": places, **nearest, **extra}
    return x.op("Transpose", x.op("Resize", image, "", "", sizes, **attr), perm=_NHWC)


_RESIZES: dict[str, tuple[str, dict[bool, str], dict[str, Any]]] = {
    # floor((i + 0.5) * factor) is the pixel that TensorFlow takes: the rounded place, for ONNX takes 0.5 off it
    "ResizeNearestNeighbor": ("nearest", {False: "floor", True: "round_prefer_ceil"}, {}),
    "ResizeBilinear": ("linear", {}, {}),
    "ResizeBicubic": ("cubic", {}, {"cubic_coeff_a": -0.5, "exclude_outside": 1}),
}


def _resize_bicubic(x: _Rewrite) -> str:
    """onnxruntime takes no sizes for cubic, so factors, which need not be whole, are left to matrices."""
    return _resize(x) if min(x.shape()[1:3]) < 0 else _resize_by_matrices(x)


def _resize_by_matrices(x: _Rewrite) -> str:
    """Any other way to resize between sizes that are known: linear in the rows and in the columns of an image.

    The two matrices are what TensorFlow's own operation makes of the unit matrix.
    """
    _, *sizes, _ = x.shape()
    if min(sizes) < 0:
        raise _Leave
    rows, columns = (_resize_matrix(x, axis, sizes) for axis in (0, 1))
    image = x.op("Transpose", x.inputs[0], perm=_NCHW)
    if x.dtype() != np.float32:
        image = x.cast(image, np.float32)
    return x.op("Transpose", x.op("MatMul", x.op("MatMul", rows, image), columns.T), perm=_NHWC)


def _resize_matrix(x: _Rewrite, axis: int, sizes: list[int]) -> Array:
    """(new size, size): how each new row (axis 0) or column (axis 1) is made of the old ones."""
    old, new = sizes[axis], x.constant(1)
    unit = np.eye(old, dtype=np.float32).reshape((1, old, 1, old))
    arguments: dict[str, Any] = {"images": unit, "size": np.array([new[axis], 1], np.int32)}
    if x.node.type == "ScaleAndTranslate":
        scale, translation = _scale(x, new, sizes)[axis], x.constant(3)[axis]
        arguments["scale"] = np.array([scale, 1], np.float32)
        arguments["translation"] = np.array([translation, 0], np.float32)
        arguments["kernel_type"] = x.attr("kernel_type", b"lanczos3").decode()
        arguments["antialias"] = bool(x.attr("antialias", 1))
    else:
        arguments |= {name: bool(x.attr(name, 0)) for name in ("align_corners", "half_pixel_centers") if x.has(name)}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:  # tf2onnx works inside a graph of its own
        made = session.run(getattr(tf.raw_ops, x.node.type)(**arguments))
    return np.asarray(made)[0, :, 0, :]


def _scale(x: _Rewrite, new: Array, old: list[int]) -> Array:
    """A constant; or the new size by that of the image, which TensorFlow computes where the batch is open."""
    scale = x.node.inputs[2]
    if scale.type == "Div" and np.array_equal(_constant(scale.inputs[0]), new) and _is_size_of(scale.inputs[1], x):
        return np.asarray(new / np.array(old), np.float32)
    return x.constant(2)


def _constant(node: Any) -> Any:
    return node.get_tensor_value(as_list=False) if node.is_const() else None


def _is_size_of(node: Any, x: _Rewrite) -> bool:
    """Whether a tensor is made of the shape of the image alone."""
    while node.type in ("Cast", "StridedSlice", "Slice", "Identity"):
        node = node.inputs[0]
    return bool(node.type == "Shape" and node.input[0] == x.inputs[0])


def _set_slice(x: _Rewrite) -> str:
    """XlaDynamicUpdateSlice: a block put into a tensor, moved inside where it would stand out."""
    shape, size = x.op("Shape", x.inputs[0]), x.op("Shape", x.inputs[1])
    last = x.op("Sub", shape, size)
    start = x.op("Max", x.op("Min", x.cast(x.inputs[2], np.int64), last), np.zeros((), np.int64))
    everywhere = x.op("NonZero", x.op("Expand", np.ones((), np.int64), size))  # [rank, elements]
    places = x.op("Add", x.op("Transpose", everywhere, perm=[1, 0]), start)
    return x.op("ScatterND", x.inputs[0], places, x.op("Reshape", x.inputs[1], np.array([-1])))


def _in_top_k(x: _Rewrite) -> str:
    """Whether fewer than k scores of a row are larger than that of the target."""
    scores, targets, count = x.inputs
    own = x.op("GatherElements", scores, x.op("Unsqueeze", targets, np.array([1])), axis=1)
    larger = x.op("ReduceSum", x.cast(x.op("Greater", scores, own), np.int64), np.array([1]), keepdims=0)
    return x.op("Less", larger, x.cast(count, np.int64))


def _part(x: _Rewrite, index: int) -> str:
    """Real or Imag of what ONNX has no type for: a complex tensor that was just made, or comes from a transform."""
    made = x.node.inputs[0]
    if made.type == "Complex":
        return str(made.input[index])
    shape = x.shape_of(made.input[0])
    if made.type != "RFFT" or not made.inputs[1].is_const():
        raise _Leave
    length = np.asarray(made.inputs[1].get_tensor_value(as_list=False), np.int64).reshape(())
    signal = x.op("Unsqueeze", made.input[0], np.array([-1]))
    spectrum = x.op("DFT", signal, length, axis=len(shape) - 1, onesided=1)
    return x.op("Gather", spectrum, np.array(index), axis=-1)


def _irfft(x: _Rewrite) -> str:
    """The inverse transform as two products with cosines and sines; ONNX (opset 18) has none from half a spectrum."""
    made, length = x.node.inputs[0], int(x.constant(1).item())
    if made.type != "Complex" or length > _LONGEST:
        raise _Leave
    bins = length // 2 + 1
    if x.shape_of(made.input[0])[-1] != bins:
        raise _Leave
    weight = np.where((np.arange(bins) == 0) | (2 * np.arange(bins) == length), 1, 2) / length
    angles = 2 * np.pi * np.outer(np.arange(bins), np.arange(length)) / length
    dtype = x.dtype_of(made.input[0])
    cosines, sines = ((weight[:, None] * part(angles)).astype(dtype) for part in (np.cos, np.sin))
    return x.op("Sub", x.op("MatMul", made.input[0], cosines), x.op("MatMul", made.input[1], sines))


_LONGEST = 1024  # of an inverse transform, whose matrices grow with the square


def _wrong(_x: _Rewrite) -> str:
    """What tf2onnx converts to something that answers otherwise."""
    raise _Leave


Handler = Callable[[_Rewrite], str]

HANDLERS: dict[str, Handler] = {
    "Erfc": _erfc,
    "Expm1": _expm1,
    "Log1p": _log1p,
    "Bucketize": _bucketize,
    "LowerBound": _lower_bound,
    "UpperBound": _upper_bound,
    "Bitcast": _bitcast,
    "DenseBincount": _bincount,
    "LookupTableFindV2": _table_find,
    "ResizeNearestNeighbor": _resize,
    "ResizeBilinear": _resize,
    "ResizeBicubic": _resize_bicubic,
    "ResizeArea": _resize_by_matrices,
    "ScaleAndTranslate": _resize_by_matrices,
    "XlaDynamicUpdateSlice": _set_slice,
    "InTopKV2": _in_top_k,
    "Real": partial(_part, index=0),
    "Imag": partial(_part, index=1),
    "IRFFT": _irfft,
    "RFFT": _wrong,  # goes, once its parts are taken
    "Complex": _wrong,
    "AsString": _wrong,
    "CTCGreedyDecoder": _wrong,
}
