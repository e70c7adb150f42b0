"""Writes the models of the suite as SavedModels, by TensorFlow 1's builder where nothing else is said.

A program of its own: python tests/conformance/make_tensorflow.py FOLDER
half_plus_two and half_plus_three have the signatures of TensorFlow Serving's own test models of these names.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import tensorflow as tf

v1 = tf.compat.v1
PREDICT, CLASSIFY, REGRESS = (f"tensorflow/serving/{each}" for each in ("predict", "classify", "regress"))

DTYPES = (
    "float", "double", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool", "string",
    "half", "bfloat16", "complex64", "complex128", "qint8",
)  # fmt: skip
_NUMPY = {"float": "float32", "double": "float64", "half": "float16"}

Signatures = dict[str, tuple[str, dict[str, Any], dict[str, Any]]]


def main() -> None:
    folder = Path(sys.argv[1])
    for dtype in DTYPES:
        _save(folder / f"identity_{dtype}" / "1", lambda dtype=dtype: _identity(_NUMPY.get(dtype, dtype)))
    for name in ("scalar", "matrix", "cube"):
        _save(folder / name / "1", lambda: _identity("float32"))
    for name, version, offset in (("half_plus_two", 123, 2.0), ("half_plus_three", 123, 3.0)):
        _save(folder / name / f"{version:08d}", lambda offset=offset: _half_plus(offset))
    for version in (1, 2, 3):
        _save(folder / "versions" / str(version), lambda version=version: _simple(lambda x: x / 2 + float(version)))
    for name, build in MODELS.items():
        _save(folder / name / "1", build)
    _save_tf2(folder / "tf2" / "1")
    _save_defaults(folder / "defaults" / "1")
    _save_lite(folder / "lite" / "1")


def _save(folder: Path, build: Callable[[], Signatures]) -> None:
    with tf.Graph().as_default(), v1.Session() as session:
        signatures = build()
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(folder))
        info = v1.saved_model.build_tensor_info
        builder.add_meta_graph_and_variables(
            session,
            [v1.saved_model.tag_constants.SERVING],
            {
                name: v1.saved_model.build_signature_def(
                    {key: info(tensor) for key, tensor in inputs.items()},
                    {key: info(tensor) for key, tensor in outputs.items()},
                    method,
                )
                for name, (method, inputs, outputs) in signatures.items()
            },
        )
        builder.save()


def _identity(dtype: str) -> Signatures:
    x = v1.placeholder(dtype, None, name="x")
    return {"serving_default": (PREDICT, {"x": x}, {"y": tf.identity(x, name="y")})}


def _simple(function: Callable[[Any], Any], dtype: str = "float32", name: str = "y") -> Signatures:
    x = v1.placeholder(dtype, None, name="x")
    return {"serving_default": (PREDICT, {"x": x}, {name: function(x)})}


def _half_plus(offset: float) -> Signatures:
    """TensorFlow Serving's saved_model_half_plus_two.py, by its signatures."""
    example = v1.placeholder(tf.string, name="tf_example")
    features = v1.parse_example(
        example,
        {"x": v1.FixedLenFeature([1], tf.float32), "x2": v1.FixedLenFeature([1], tf.float32, default_value=[0.0])},
    )
    a, b, c = (v1.get_variable(name, initializer=value) for name, value in (("a", 0.5), ("b", offset), ("c", 3.0)))
    x, x2 = tf.identity(features["x"], name="x"), tf.identity(features["x2"], name="x2")
    y, y2, y3 = tf.add(a * x, b, name="y"), tf.add(a * x, c, name="y2"), tf.add(a * x2, c, name="y3")
    return {
        "serving_default": (PREDICT, {"x": x}, {"y": y}),
        "classify_x_to_y": (CLASSIFY, {"inputs": example}, {"scores": y}),
        "regress_x_to_y": (REGRESS, {"inputs": example}, {"outputs": y}),
        "regress_x_to_y2": (REGRESS, {"inputs": example}, {"outputs": y2}),
        "classify_x2_to_y3": (CLASSIFY, {"inputs": x2}, {"scores": y3}),
        "regress_x2_to_y3": (REGRESS, {"inputs": x2}, {"outputs": y3}),
    }


def _linear() -> Signatures:
    return _simple(lambda x: tf.matmul(x, [[2.0], [3.0]], name="product") + 1.0)


def _two_inputs() -> Signatures:
    a, b = v1.placeholder(tf.float32, None, name="a"), v1.placeholder(tf.int32, None, name="b")
    outputs = {"total": a + tf.cast(b, tf.float32), "pairs": tf.stack([b, b], axis=1)}
    return {"serving_default": (PREDICT, {"a": a, "b": b}, outputs)}


def _image_and_text() -> Signatures:
    x = v1.placeholder(tf.string, None, name="x")
    return {"serving_default": (PREDICT, {"x": x}, {"image_bytes": tf.identity(x), "text": tf.identity(x)})}


def _uneven() -> Signatures:
    x = v1.placeholder(tf.float32, None, name="x")
    return {"serving_default": (PREDICT, {"x": x}, {"a": tf.identity(x), "b": tf.concat([x, x], 0)})}


def _no_inputs() -> Signatures:
    return {"serving_default": (PREDICT, {}, {"y": tf.constant([1.0])})}


def _refuses() -> Signatures:
    """Raises an error of any length: x times an "e"."""
    x = v1.placeholder(tf.int32, None, name="x")
    text = tf.strings.reduce_join(tf.fill(tf.reshape(x, [1]), "e"))
    with tf.control_dependencies([tf.debugging.Assert(tf.constant(False), [text], summarize=1)]):
        return {"serving_default": (PREDICT, {"x": x}, {"y": tf.identity(x)})}


def _spin() -> Signatures:
    """Counts to n, slowly: a run that a deadline can end."""
    n = v1.placeholder(tf.int32, [], name="n")
    m = tf.ones([256, 256])
    _, y = v1.while_loop(
        lambda i, _: i < n, lambda i, y: (i + 1, tf.matmul(y, m) / 256.0), [0, m], parallel_iterations=1
    )
    return {"serving_default": (PREDICT, {"n": n}, {"y": tf.reduce_max(y)})}


def _strange() -> Signatures:
    """Signatures that Classify and Regress must refuse, each for a reason of its own."""
    example = v1.placeholder(tf.string, None, name="tf_example")
    size = tf.size(example)
    floats, strings = tf.ones([size, 2]), tf.fill([size, 2], "c")
    vector = tf.ones([size])
    inputs = {"inputs": example}
    wrong = tf.ones([size + 1, 2])
    return {
        "serving_default": (PREDICT, {"x": example}, {"y": vector}),
        "custom_method": ("my/method", {"x": example}, {"y": vector}),
        "classify": (CLASSIFY, inputs, {"scores": floats, "classes": strings}),
        "classify_classes": (CLASSIFY, inputs, {"classes": strings}),
        "classify_other_key": (CLASSIFY, {"x": example}, {"scores": floats}),
        "classify_two_inputs": (CLASSIFY, {"inputs": example, "x": example}, {"scores": floats}),
        "classify_three_outputs": (CLASSIFY, inputs, {"scores": floats, "classes": strings, "more": floats}),
        "classify_other_output": (CLASSIFY, inputs, {"y": floats}),
        "classify_vector": (CLASSIFY, inputs, {"scores": vector}),
        "classify_text_scores": (CLASSIFY, inputs, {"scores": strings}),
        "classify_float_classes": (CLASSIFY, inputs, {"classes": floats}),
        "classify_batch": (CLASSIFY, inputs, {"scores": wrong}),
        "classify_widths": (CLASSIFY, inputs, {"scores": tf.ones([size, 3]), "classes": strings}),
        "regress_column": (REGRESS, inputs, {"outputs": tf.ones([size, 1])}),
        "regress_vector": (REGRESS, inputs, {"outputs": vector}),
        "regress_other_key": (REGRESS, {"x": example}, {"outputs": vector}),
        "regress_other_output": (REGRESS, inputs, {"y": vector}),
        "regress_two_outputs": (REGRESS, inputs, {"outputs": vector, "more": vector}),
        "regress_wide": (REGRESS, inputs, {"outputs": floats}),
        "regress_batch": (REGRESS, inputs, {"outputs": tf.ones([size + 1])}),
        "regress_text": (REGRESS, inputs, {"outputs": tf.fill([size], "c")}),
    }


def _features() -> Signatures:
    """Says which features came: floats, whole numbers and bytes, each a single value or its default."""
    example = v1.placeholder(tf.string, None, name="tf_example")
    features = v1.parse_example(
        example,
        {
            "f": v1.FixedLenFeature([], tf.float32, default_value=-1.0),
            "i": v1.FixedLenFeature([], tf.int64, default_value=-1),
            "s": v1.FixedLenFeature([], tf.string, default_value="none"),
        },
    )
    inputs = {"inputs": example}
    label = tf.strings.join([features["s"], tf.strings.as_string(features["i"])], separator=" ")
    return {
        "serving_default": (CLASSIFY, inputs, {"classes": label[:, None], "scores": features["f"][:, None]}),
        "regress": (REGRESS, inputs, {"outputs": features["f"]}),
    }


MODELS: dict[str, Callable[[], Signatures]] = {
    "linear": _linear,
    "two_inputs": _two_inputs,
    "image": lambda: _simple(tf.identity, "string", "image_bytes"),
    "image_and_text": _image_and_text,
    "total": lambda: _simple(tf.reduce_sum, name="total"),
    "uneven": _uneven,
    "to_half": lambda: _simple(lambda x: tf.cast(x, tf.float16)),
    "no_inputs": _no_inputs,
    "refuses": _refuses,
    "spin": _spin,
    "strange": _strange,
    "features": _features,
}


class _Module(tf.Module):
    """y = x + a variable of 1."""

    def __init__(self) -> None:
        super().__init__()
        self.one = tf.Variable(1.0)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def serve(self, x: Any) -> dict[str, Any]:
        return {"y": x + self.one}


def _save_tf2(folder: Path) -> None:
    module = _Module()
    tf.saved_model.save(module, str(folder), {"serving_default": module.serve})


def _save_lite(folder: Path) -> None:
    """x / 2 + 1 as a SavedModel, and beside it x + 100 as TFLite: so one sees which was run."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def add(x: Any) -> Any:
        return x + 100.0

    _save(folder, lambda: _simple(lambda x: x / 2 + 1.0))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([add.get_concrete_function()])
    (folder / "model.tflite").write_bytes(converter.convert())


def _save_defaults(folder: Path) -> None:
    """total = a + b, where b may be left out and is 10 then: a SignatureDef with defaults."""
    from tensorflow.core.protobuf import saved_model_pb2

    def build() -> Signatures:
        a, b = (v1.placeholder(tf.float32, None, name=name) for name in "ab")
        return {"serving_default": (PREDICT, {"a": a, "b": b}, {"total": a + b})}

    _save(folder, build)
    path = folder / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    signature = model.meta_graphs[0].signature_def["serving_default"]
    signature.defaults["b"].CopyFrom(tf.make_tensor_proto([10.0]))
    path.write_bytes(model.SerializeToString())


if __name__ == "__main__":
    main()
