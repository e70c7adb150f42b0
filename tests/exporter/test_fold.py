"""Folding: the same answers from fewer ops."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from frozen_graphs import drawn, error, frozen, ops, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers

from keraship.exporter.fold import fold
from keraship.exporter.savedmodel import write_saved_model

IMAGES = (8, 9, 4)
AFFINE = {"Mul", "AddV2", "Add", "Sub", "FusedBatchNormV3", "RealDiv", "Rsqrt"}
NORMALIZATIONS = {
    "whole": {},
    "no_center": {"center": False},
    "no_scale": {"scale": False},
    "bare": {"center": False, "scale": False},
}


def chain(shape, *steps):
    """A model that applies layers, or functions of tensors, one after the other."""
    x = inputs = layers.Input(shape, name="x")
    for step in steps:
        x = step(x)
    return keras.Model(inputs, {"y": x})


def check(model, tolerance=1e-5, **draw):
    """Fold a model, assert that its answers stay, and return the folded graph."""
    before = frozen(model)
    after = fold(before)
    feed = drawn(before, **draw)
    assert error(run(before, feed), run(after, feed)) <= tolerance
    return after


CONTRACTIONS = {
    "conv": (IMAGES, lambda: layers.Conv2D(5, 3, padding="same")),
    "strided": (IMAGES, lambda: layers.Conv2D(5, 3, strides=2, use_bias=False)),
    "dilated": (IMAGES, lambda: layers.Conv2D(5, 3, dilation_rate=2, padding="same")),
    "depthwise": (IMAGES, lambda: layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False)),
    "separable": (IMAGES, lambda: layers.SeparableConv2D(5, 3)),
    "transposed": (IMAGES, lambda: layers.Conv2DTranspose(5, 3, strides=2)),
    "conv1d": ((9, 4), lambda: layers.Conv1D(5, 3)),
    "conv3d": ((5, 6, 5, 2), lambda: layers.Conv3D(3, 2)),
    "transposed3d": ((4, 4, 4, 2), lambda: layers.Conv3DTranspose(3, 2)),
    "dense": ((6,), lambda: layers.Dense(5)),
    "dense_of_rank_3": ((7, 6), lambda: layers.Dense(5)),
    "dense_of_open_length": ((None, 6), lambda: layers.Dense(5)),
    "dense_of_open_sizes": ((None, None, 6), lambda: layers.Dense(5, use_bias=False)),
    "einsum": ((None, 6), lambda: layers.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de")),
    "einsum_of_two": ((7, 2, 3), lambda: layers.EinsumDense("abcd,cde->abe", (None, 4), bias_axes="e")),
}


@pytest.mark.parametrize(
    ("name", "normalization"),
    [*((name, "whole") for name in CONTRACTIONS), *(("depthwise", form) for form in NORMALIZATIONS if form != "whole")],
)
def test_a_normalization_behind_a_layer_leaves_no_op(name, normalization):
    """All that is left of it is at most one BiasAdd."""
    shape, layer = CONTRACTIONS[name]
    folded = check(chain(shape, layer(), layers.BatchNormalization(**NORMALIZATIONS[normalization])))
    assert not AFFINE & set(ops(folded)), ops(folded)
    assert ops(folded)["BiasAdd"] <= 1


@pytest.mark.parametrize(
    ("shape", "steps"),
    [
        (IMAGES, [layers.Conv2D(5, 3)]),
        (IMAGES, [layers.Conv2D(5, 1, padding="same", strides=2)]),
        (IMAGES, [layers.DepthwiseConv2D(3, depth_multiplier=2)]),
        ((9, 4), [layers.Conv1D(5, 3)]),
        ((6,), [layers.Dense(5)]),
        ((7, 6), [layers.Dense(5)]),
        (IMAGES, [layers.Flatten(), layers.Dense(5)]),
    ],
    ids=["conv", "pointwise", "depthwise", "conv1d", "dense", "dense_of_rank_3", "flattened"],
)
def test_a_normalization_before_a_layer_that_pads_nothing_moves_into_it(shape, steps):
    folded = check(chain(shape, layers.ReLU(), layers.BatchNormalization(), *steps))
    assert not AFFINE & set(ops(folded)), ops(folded)


def test_a_normalization_before_padding_stays():
    """A padded zero is not shifted."""
    folded = check(chain(IMAGES, layers.ReLU(), layers.BatchNormalization(), layers.Conv2D(5, 3, padding="same")))
    assert {"Mul", "AddV2"} <= set(ops(folded))


def test_large_inputs_are_centred_before_they_are_multiplied():
    """Normalization's mean stays apart, for a product of numbers around a million would lose their last digits."""
    normalization = layers.Normalization(mean=[1e6] * 6, variance=[1.0] * 6)
    before = frozen(chain((6,), normalization, layers.Dense(5)))
    feed = {"x": (1e6 + drawn(before)["x"]).astype(np.float32)}
    assert error(run(before, feed), run(fold(before), feed)) <= 1e-5


def test_padding_moves_into_the_convolution():
    folded = check(chain(IMAGES, layers.ZeroPadding2D((1, 2)), layers.Conv2D(5, 3, strides=2)))
    assert "Pad" not in ops(folded)
    folded = check(chain(IMAGES, layers.ZeroPadding2D(((0, 1), (2, 0))), layers.DepthwiseConv2D(3)))
    assert "Pad" not in ops(folded)


def test_a_dilated_convolution_is_one_op():
    folded = check(chain(IMAGES, layers.Conv2D(5, 3, dilation_rate=(2, 3), padding="same"), layers.ReLU()))
    assert not {"SpaceToBatchND", "BatchToSpaceND"} & set(ops(folded))


def test_a_dense_layer_of_rank_3_is_one_product():
    folded = check(chain((7, 6), layers.Dense(5, activation="relu")))
    assert not {"Shape", "Prod", "GatherV2", "BatchMatMulV2", "Transpose"} & set(ops(folded))
    assert ops(folded)["Reshape"] == 2


def test_a_transformer_block_keeps_its_answers():
    x = inputs = layers.Input((None, 8), name="x")
    x = x + layers.MultiHeadAttention(2, 4)(layers.LayerNormalization()(x), x)
    x = x + layers.Dense(8)(layers.Dense(16, activation="gelu")(layers.LayerNormalization()(x)))
    folded = check(keras.Model(inputs, {"y": x}))
    assert ops(folded)["MatMul"] == 6


def layer(kind, **arguments):
    return st.tuples(st.just(kind), st.fixed_dictionaries(arguments))


def squared_distance(x):
    return x + keras.ops.square(1.5 - x)


PADDING = st.sampled_from(["same", "valid"])
STEPS = st.one_of(
    layer(layers.Conv2D, filters=st.integers(1, 5), kernel_size=st.sampled_from([1, 3]), padding=PADDING),
    layer(layers.Conv2D, filters=st.just(4), kernel_size=st.just(3), dilation_rate=st.just(2), padding=PADDING),
    layer(layers.DepthwiseConv2D, kernel_size=st.just(3), depth_multiplier=st.integers(1, 2), padding=PADDING),
    layer(layers.Conv2DTranspose, filters=st.just(3), kernel_size=st.just(2), strides=st.integers(1, 2)),
    layer(layers.BatchNormalization, center=st.booleans(), scale=st.booleans()),
    layer(layers.Rescaling, scale=st.sampled_from([0.5, 2.0]), offset=st.sampled_from([0.0, -1.0])),
    layer(layers.ReLU, max_value=st.sampled_from([None, 6.0])),
    layer(layers.ZeroPadding2D, padding=st.integers(0, 2)),
    layer(layers.Dense, units=st.integers(1, 5)),
    layer(layers.Lambda, function=st.just(squared_distance)),
)


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(STEPS, min_size=2, max_size=6), outputs=st.booleans())
def test_any_stack_of_layers_keeps_its_answers(steps, outputs):
    """With the values in between as outputs too."""
    x = inputs = layers.Input((17, 16, 2), name="x")
    values = {}
    for index, (kind, arguments) in enumerate(steps):
        x = values[f"y{index}"] = kind(**arguments)(x)
    check(keras.Model(inputs, values if outputs else {"y": x}))


def test_weights_that_two_layers_share_stay_right():
    shared = layers.Conv2D(40, 3, use_bias=False)
    x = layers.Input((8, 8, 30), name="x")
    normalized = [layers.BatchNormalization()(shared(x)) for _ in range(2)]
    check(keras.Model(x, {"a": normalized[0], "b": normalized[1], "c": shared(x)}))


def test_a_product_tied_to_an_embedding_keeps_it():
    embedding = layers.Embedding(11, 6)
    tokens = layers.Input((5,), dtype="int32", name="tokens")
    scores = embedding(tokens) @ keras.ops.transpose(embedding.embeddings)
    before = frozen(keras.Model(tokens, {"y": layers.BatchNormalization()(scores)}))
    feed = {"tokens": np.arange(10, dtype=np.int32).reshape(2, 5)}
    assert error(run(before, feed), run(fold(before), feed)) <= 1e-5


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float16", 1e-2), ("bfloat16", 5e-2)])
def test_other_precisions_keep_their_answers(dtype, tolerance):
    keras.config.set_dtype_policy(dtype)
    try:
        steps = [layers.Conv2D(4, 3), layers.BatchNormalization(), layers.Flatten(), layers.Dense(3)]
        folded = check(chain(IMAGES, *steps), tolerance)
    finally:
        keras.config.set_dtype_policy("float32")
    assert folded.signature.outputs[0].dtype == dtype


@pytest.mark.parametrize("compiled", [True, False], ids=["by_keras", "by_tensorflow"])
def test_grouped_convolutions_stay_runnable(compiled):
    """TensorFlow fuses a BiasAdd with any convolution as it loads, and then has no kernel for groups."""
    kernel = np.random.default_rng(0).normal(size=(3, 3, 2, 6)).astype(np.float32)
    native = layers.Lambda(lambda x: tf.nn.conv2d(x, kernel, 1, "SAME"))
    check(chain(IMAGES, layers.Conv2D(6, 3, groups=2) if compiled else native, layers.BatchNormalization()))


def test_lookup_tables_and_loops_stay_whole():
    words = layers.Input((4,), dtype="string", name="words")
    x = layers.StringLookup(vocabulary=["a", "b", "c"])(words)
    x = layers.GRU(3)(layers.Dense(5)(layers.Embedding(6, 4)(x)))
    before = frozen(keras.Model(words, {"y": layers.BatchNormalization()(x)}))
    feed = {"words": np.array([[b"a", b"b", b"c", b"?"], [b"c", b"c", b"a", b"a"]], object)}
    after = fold(before)
    assert error(run(before, feed), run(after, feed)) <= 1e-5
    assert {"While", "HashTableV2"} <= set(ops(after))


LOADED = """
    import sys
    import numpy as np, tensorflow as tf
    from keraship.quiet import import_keras
    folder = sys.argv[1]
    call = tf.saved_model.load(folder).signatures["serving_default"]
    np.save(f"{folder}/y.npy", call(x=tf.constant(np.load(f"{folder}/x.npy")))["y"])
"""


def test_a_folded_graph_is_the_same_bytes_each_time_and_loads_elsewhere(tmp_path, python):
    steps = [layers.Conv2D(4, 3), layers.BatchNormalization(), layers.ReLU(), layers.Flatten(), layers.Dense(3)]
    before = frozen(chain(IMAGES, *steps))
    feed = drawn(before)
    written = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        write_saved_model(fold(before), tmp_path / name)
        written.append((tmp_path / name / "saved_model.pb").read_bytes())
    assert written[0] == written[1]
    np.save(tmp_path / "first" / "x.npy", feed["x"])
    python(LOADED, tmp_path / "first")
    assert error(run(before, feed), {"y": np.load(tmp_path / "first" / "y.npy")}) <= 1e-5


def test_the_layers_names_stay_in_the_nodes():
    """A layer's quantization is reported under its name."""
    folded = check(chain(IMAGES, layers.Conv2D(4, 3, name="first"), layers.BatchNormalization(name="second")))
    (node,) = [node for node in folded.graph.node if node.op == "Conv2D"]
    assert "first" in node.name


def test_an_optimizer_that_fails_is_said(monkeypatch):
    from keraship.errors import ExportError
    from keraship.exporter import grappler

    def failing(*_args):
        raise tf.errors.InternalError(None, None, "no")

    before = frozen(chain((6,), layers.Dense(5)))
    monkeypatch.setattr(grappler.tf_optimizer, "OptimizeGraph", failing)
    with pytest.raises(ExportError, match="graph optimizer failed"):
        fold(before)
