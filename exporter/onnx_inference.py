"""tf2onnx's own inference of shapes, corrected: it takes the branches of a Select to be of one shape."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import tensorflow as tf
from tf2onnx import shape_inference

_SELECTS = ("Select", "SelectV2")


@contextlib.contextmanager
def broadcasting_selects() -> Iterator[None]:
    """Where TensorFlow does not know a shape (behind a lookup table), let branches of a Select be broadcast."""
    partial = shape_inference.infer_output_shapes_with_partial_inputs
    given = shape_inference.infer_input_shapes
    with (
        mock.patch.object(
            shape_inference,
            "infer_output_shapes_with_partial_inputs",
            lambda op: _infer(op) if op.type in _SELECTS else partial(op),
        ),
        mock.patch.object(
            shape_inference, "infer_input_shapes", lambda op: False if op.type in _SELECTS else given(op)
        ),
    ):
        yield


def _infer(op: Any) -> bool:
    shapes = [tensor.shape for tensor in op.inputs]
    if any(shape.rank is None for shape in shapes):
        return False
    both = tf.broadcast_static_shape(shapes[1], shapes[2])
    op.outputs[0].set_shape(tf.broadcast_static_shape(shapes[0], both) if op.type == "SelectV2" else both)
    return True
