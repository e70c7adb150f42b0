"""SavedModels in the form of TensorFlow Serving's own test data: graphs of TensorFlow 1, examples, assets, state."""

from functools import partial
from pathlib import Path
from typing import Any

import tensorflow as tf

v1 = tf.compat.v1
utils = v1.saved_model.utils
info = utils.build_tensor_info


def save_half_plus(folder: Path, *, three: bool = False) -> None:
    """y = x / 2 + 2 (or 3), y2 = x / 2 + 3, y3 = x2 / 2 + 3, with signatures to predict, classify and regress.

    x and x2 come as features of tf.Examples; a file of the version is read, to prove that it is found.
    """
    with tf.Graph().as_default(), v1.Session() as session:
        a = v1.get_variable("a", initializer=0.5)
        b = v1.get_variable("b", initializer=3.0 if three else 2.0)
        c = v1.get_variable("c", initializer=3.0)
        examples = v1.placeholder(tf.string, name="tf_example")
        features = v1.io.parse_example(
            examples,
            {
                "x": tf.io.FixedLenFeature([1], tf.float32),
                "x2": tf.io.FixedLenFeature([1], tf.float32, default_value=[0.0]),
            },
        )
        x = tf.identity(features["x"], name="x")
        y = tf.add(tf.multiply(a, x), b, name="y")
        y2 = tf.add(tf.multiply(a, x), c, name="y2")
        y3 = tf.add(tf.multiply(a, features["x2"]), c, name="y3")
        folder.parent.mkdir(parents=True, exist_ok=True)
        asset = folder.parent / "foo.txt"
        asset.write_text("asset-file-contents")
        path = tf.constant(str(asset))
        v1.add_to_collection(v1.GraphKeys.ASSET_FILEPATHS, path)
        remembered = v1.get_variable("path", initializer="none", collections=[])
        remember = v1.assign(remembered, path)
        contents = tf.io.read_file(remembered)
        session.run(v1.global_variables_initializer())
        _save(
            folder,
            session,
            {
                "serving_default": _signature({"x": x}, {"y": y}, "predict"),
                "asset": _signature({"x": x}, {"contents": contents}, "predict"),
                "regress_x_to_y": _signature({"inputs": examples}, {"outputs": y}, "regress"),
                "regress_x_to_y2": _signature({"inputs": examples}, {"outputs": y2}, "regress"),
                "regress_x2_to_y3": _signature({"inputs": features["x2"]}, {"outputs": y3}, "regress"),
                "classify_x_to_y": _signature({"inputs": examples}, {"scores": y}, "classify"),
                "classify_x2_to_y3": _signature({"inputs": features["x2"]}, {"scores": y3}, "classify"),
                "classify_both": _signature(
                    {"inputs": examples},
                    {
                        "classes": tf.strings.join([tf.fill(tf.shape(features["x"]), "c"), tf.as_string(x, 1)]),
                        "scores": y,
                    },
                    "classify",
                ),
                "classes_only": _signature({"inputs": examples}, {"classes": tf.as_string(x, 1)}, "classify"),
            },
            assets=[path],
            main_op=remember.op if hasattr(remember, "op") else remember,
        )
        asset.unlink()


def save_counter(folder: Path) -> None:
    """A variable that requests change; nothing goes in but, in one signature, how much to add."""
    with tf.Graph().as_default(), v1.Session() as session:
        counter = v1.get_variable("counter", initializer=0.0, use_resource=False)
        delta = v1.placeholder(tf.float32, name="delta")
        added = v1.assign_add(counter, delta, name="added")
        session.run(v1.global_variables_initializer())
        _save(
            folder,
            session,
            {
                "get_counter": _signature({}, {"output": counter}, "predict"),
                "incr_counter": _signature({}, {"output": v1.assign_add(counter, 1.0, name="incr")}, "predict"),
                "incr_counter_by": _signature({"delta": delta}, {"output": added}, "predict"),
                "reset_counter": _signature({}, {"output": v1.assign(counter, 0.0, name="reset")}, "predict"),
            },
        )


def save_odd(folder: Path) -> None:
    """Signatures for examples that the server must refuse, and one with default inputs; nothing has variables."""
    with tf.Graph().as_default(), v1.Session() as session:
        examples = v1.placeholder(tf.string, name="examples")
        other = v1.placeholder(tf.float32, name="other")
        count = tf.shape(examples)[0]
        column = tf.fill([count, 1], 1.5)
        wide = tf.fill([count, 2], 1.5)
        words = tf.fill([count, 2], "w")
        takes = {"inputs": examples}
        defaults = _signature({"x": other, "k": v1.placeholder(tf.float32, name="k")}, {}, "predict")
        defaults.outputs["y"].CopyFrom(info(tf.add(other, _tensor("k:0"), name="sum")))
        defaults.defaults["k"].CopyFrom(tf.make_tensor_proto([10.0]))
        _save(
            folder,
            session,
            {
                "serving_default": defaults,
                "two_inputs": _signature({"inputs": examples, "other": other}, {"outputs": column}, "regress"),
                "input_name": _signature({"examples": examples}, {"outputs": column}, "regress"),
                "output_name": _signature(takes, {"y": column}, "regress"),
                "three_outputs": _signature(takes, {"classes": words, "scores": wide, "x": wide}, "classify"),
                "two_outputs": _signature(takes, {"outputs": column, "x": wide}, "regress"),
                "predicts": _signature(takes, {"outputs": column}, "predict"),
                "scores": _signature(takes, {"scores": wide}, "predict"),
                "wide": _signature(takes, {"outputs": wide}, "regress"),
                "double": _signature(takes, {"outputs": tf.cast(column, tf.float64)}, "regress"),
                "short": _signature(takes, {"outputs": column[1:]}, "regress"),
                "flat": _signature(takes, {"outputs": column[:, 0]}, "regress"),
                "flat_scores": _signature(takes, {"scores": column[:, 0]}, "classify"),
                "float_classes": _signature(takes, {"classes": wide}, "classify"),
                "double_scores": _signature(takes, {"scores": tf.cast(wide, tf.float64)}, "classify"),
                "short_scores": _signature(takes, {"scores": wide[1:]}, "classify"),
                "short_classes": _signature(takes, {"classes": words[1:]}, "classify"),
                "uneven": _signature(takes, {"classes": words, "scores": column}, "classify"),
                "no_classes": _signature(takes, {"scores": wide[:, :0]}, "classify"),
                "slow": _signature({"x": other}, {"y": _slow(other)}, "predict"),
                "slow_regress": _signature(takes, {"outputs": column + 0 * _slow(column)}, "regress"),
            },
        )


def save_tagged(folder: Path) -> None:
    """One graph tagged serve, another tagged serve and gpu; each says which it is."""
    builder = v1.saved_model.Builder(str(folder))
    for number, tags in enumerate((["serve"], ["serve", "gpu"])):
        with tf.Graph().as_default(), v1.Session() as session:
            v1.get_variable("v", initializer=1.0)
            session.run(v1.global_variables_initializer())
            signatures = {"serving_default": _signature({}, {"y": tf.constant([float(number)])}, "predict")}
            if number:
                builder.add_meta_graph(tags, signatures)
            else:
                builder.add_meta_graph_and_variables(session, tags, signatures)
    builder.save()


def _slow(value: tf.Tensor) -> tf.Tensor:
    """The value, after counting for days; only a timeout ends it before."""
    start = tf.cast(0 * tf.reduce_sum(value), tf.int64)
    count = tf.while_loop(lambda n: n < 2**40, lambda n: n + 1, [start])
    return value + tf.cast(count, tf.float32)


def _tensor(name: str) -> tf.Tensor:
    return v1.get_default_graph().get_tensor_by_name(name)


def _signature(inputs: dict[str, Any], outputs: dict[str, Any], method: str) -> Any:
    return v1.saved_model.build_signature_def(
        {name: info(tensor) for name, tensor in inputs.items()},
        {name: info(tensor) for name, tensor in outputs.items()},
        f"tensorflow/serving/{method}",
    )


def _save(folder: Path, session: Any, signatures: dict[str, Any], assets: Any = None, main_op: Any = None) -> None:
    builder = v1.saved_model.Builder(str(folder))
    builder.add_meta_graph_and_variables(session, ["serve"], signatures, assets_collection=assets, main_op=main_op)
    builder.save()


MODELS = {
    "half_plus_two": save_half_plus,
    "half_plus_three": partial(save_half_plus, three=True),
    "counter": save_counter,
    "odd": save_odd,
    "tagged": save_tagged,
}
