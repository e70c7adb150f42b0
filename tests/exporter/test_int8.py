"""int8: what each 8-bit op computes, beside float; the traps of sums, signs and saturation."""

import keras
import numpy as np
import pytest
from frozen_graphs import drawn, frozen, ops, run
from keras import layers

from keraship.exporter.fold import fold
from keraship.exporter.graph import Graph
from keraship.exporter.int8_calibrate import calibrate
from keraship.exporter.int8_plan import plan
from keraship.exporter.int8_rewrite import rewrite, tensors_of
from keraship.exporter.int8_weights import quantized_weights

IMAGES = (8, 9, 6)


def quantized(before, data):
    """Everything that can be in 8 bits is."""
    graph = Graph(before)
    planned = plan(graph)
    return rewrite(before, planned.targets, calibrate(before, tensors_of(graph, planned.targets), data)), planned


def both(inputs, outputs, feed=None, rows=16):
    """A model folded, the same in 8 bits, and the relative error of its outputs."""
    before = fold(frozen(keras.Model(inputs, outputs)))
    feed = feed or drawn(before, rows=rows)
    after, planned = quantized(before, feed)
    expected, got = run(before, feed), run(after, feed)
    worst = max(
        np.sqrt(np.mean((expected[name] - got[name]) ** 2)) / (np.sqrt(np.mean(expected[name] ** 2)) or 1)
        for name in expected
    )
    return after, planned, worst


def fusions(graph):
    """What is fused into each 8-bit op."""
    return [
        [name.decode() for name in node.attr["fused_ops"].list.s]
        for node in graph.graph.node
        if node.op.startswith(("_FusedQuantized", "_QuantizedMatMul"))
    ]


CONV, PRODUCT = ["BiasAdd", "Requantize"], ["BiasAdd", "Dequantize"]
WITH_RELU = ["BiasAdd", "Relu", "Requantize"]
SINGLE = {
    "conv": (IMAGES, [lambda: layers.Conv2D(5, 3)], CONV),
    "conv_relu": (IMAGES, [lambda: layers.Conv2D(5, 3, padding="same", activation="relu")], WITH_RELU),
    "conv_relu6": (IMAGES, [lambda: layers.Conv2D(5, 3), lambda: layers.ReLU(6.0)], WITH_RELU),
    "strided_without_bias": (IMAGES, [lambda: layers.Conv2D(5, 3, strides=2, use_bias=False)], CONV),
    "dilated": (IMAGES, [lambda: layers.Conv2D(5, 3, dilation_rate=2, padding="same")], CONV),
    "padded": (IMAGES, [lambda: layers.ZeroPadding2D(((0, 1), (2, 1))), lambda: layers.Conv2D(5, 3)], CONV),
    "depthwise": (IMAGES, [lambda: layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same")], CONV),
    "depthwise_padded": (IMAGES, [lambda: layers.ZeroPadding2D(1), lambda: layers.DepthwiseConv2D(3, strides=2)], CONV),
    "conv1d": ((9, 6), [lambda: layers.Conv1D(5, 3, activation="relu")], WITH_RELU),
    "dense": ((6,), [lambda: layers.Dense(5)], PRODUCT),
    "dense_relu": ((6,), [lambda: layers.Dense(5, activation="relu")], ["BiasAdd", "Relu", "Dequantize"]),
    "dense_relu6": ((6,), [lambda: layers.Dense(5, activation="relu6")], ["BiasAdd", "Relu6", "Dequantize"]),
    "dense_gelu": ((6,), [lambda: layers.Dense(5, activation="gelu")], ["BiasAdd", "GeluExact", "Dequantize"]),
    "dense_of_rank_3": (
        (None, 6),
        [lambda: layers.Dense(5, activation="gelu")],
        ["BiasAdd", "GeluExact", "Dequantize"],
    ),
    "einsum": ((7, 6), [lambda: layers.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de")], PRODUCT),
}


@pytest.mark.parametrize("name", SINGLE)
def test_a_layer_in_8_bits_is_near_the_float_one(name):
    """With the ops that follow it inside; 8 bits of weights and of activations give some 1 to 3 percent."""
    shape, steps, fused = SINGLE[name]
    x = inputs = layers.Input(shape, name="x")
    for step in steps:
        x = step()(x)
    after, planned, error = both(inputs, {"y": x})
    assert fusions(after) == [fused]
    assert not planned.kept
    assert error < 0.03


def test_bytes_flow_from_layer_to_layer():
    """Convolutions, pooling, padding and flattening between two conversions."""
    x = inputs = layers.Input(IMAGES, name="x")
    x = layers.MaxPooling2D(2)(layers.Conv2D(8, 3, activation="relu", padding="same")(x))
    x = layers.ReLU(6.0)(layers.DepthwiseConv2D(3)(layers.ZeroPadding2D(1)(x)))
    x = layers.Dense(5, activation="relu")(layers.Flatten()(layers.Conv2D(4, 1)(x)))
    after, _, error = both(inputs, {"y": layers.Dense(3)(x)})
    found = ops(after)
    assert (found["QuantizeV2"], found["Dequantize"], found["QuantizedMaxPool"]) == (1, 0, 1)
    assert error < 0.05


def residual(x, shortcut, channels=6):
    inner = layers.Conv2D(channels, 3, padding="same", activation="relu")(x)
    return layers.ReLU()(layers.Add()([layers.Conv2D(channels, 3, padding="same")(inner), shortcut]))


def test_a_residual_sum_of_signed_bytes_is_right():
    """The kernel fills half of the range there; not declared so, a third of the values would be cut off."""
    x = layers.Input(IMAGES, name="x")
    y = residual(x, layers.Conv2D(6, 1)(x))
    after, _, error = both(x, {"y": residual(y, y)})
    assert sum("Sum" in fused for fused in fusions(after)) == 2
    assert error < 0.05


def test_a_summand_that_others_need_later_is_not_overwritten():
    """A sum is written where its summand was."""
    x = layers.Input(IMAGES, name="x")
    stem = layers.Conv2D(6, 3, padding="same", activation="relu")(x)
    y = residual(stem, stem)
    late = layers.Conv2D(6, 3)(layers.Concatenate()([y, stem]))
    after, _, error = both(x, {"y": late})
    assert not any("Sum" in fused for fused in fusions(after))
    assert error < 0.05


def test_a_summand_that_is_an_output_is_not_overwritten():
    x = layers.Input(IMAGES, name="x")
    stem = layers.Conv2D(6, 3, padding="same", activation="relu")(x)
    after, _, error = both(x, {"stem": stem, "y": residual(stem, stem)})
    assert not any("Sum" in fused for fused in fusions(after))
    assert error < 0.05


def test_an_input_is_never_a_summand():
    x = layers.Input(IMAGES, name="x")
    after, _, error = both(x, {"y": residual(x, x)})
    assert not any("Sum" in fused for fused in fusions(after))
    assert error < 0.05


def test_values_between_layers_stay_right_as_outputs():
    x = layers.Input(IMAGES, name="x")
    first = layers.Conv2D(5, 3, activation="relu")(x)
    pooled = layers.MaxPooling2D(2)(first)
    second = layers.Conv2D(4, 3)(pooled)
    _, _, error = both(x, {"first": first, "pooled": pooled, "second": second, "z": keras.ops.sin(pooled)})
    assert error < 0.03


def test_layers_that_share_weights_are_both_right_and_stored_once():
    shared = layers.Dense(300)
    x = layers.Input((200,), name="x")
    after, _, error = both(x, {"a": shared(x), "b": shared(keras.ops.sin(x))})
    assert error < 0.03
    assert after.graph.ByteSize() < 1.2 * 200 * 300


@pytest.mark.parametrize(
    ("shape", "layer"),
    [
        ((6, 6, 64), lambda: layers.Conv2D(8, 3, use_bias=False)),
        ((6, 6, 64), lambda: layers.Conv2D(8, 3, padding="same", dilation_rate=2, use_bias=False)),
        ((6, 6, 3), lambda: layers.Conv2D(8, 5, use_bias=False)),
        ((6, 6, 64), lambda: layers.DepthwiseConv2D(5, use_bias=False)),
        ((512,), lambda: layers.Dense(64, use_bias=False)),
        ((7, 512), lambda: layers.Dense(64, use_bias=False)),
    ],
    ids=["conv", "dilated", "few_channels", "depthwise", "dense", "dense_of_rank_3"],
)
@pytest.mark.parametrize("low", [0.0, -1.0], ids=["unsigned", "signed"])
def test_the_largest_weights_and_activations_do_not_saturate(shape, layer, low):
    """CPUs without VNNI add pairs of products in 16 bits."""
    x = layers.Input(shape, name="x")
    made = layer()
    model = keras.Model(x, {"y": made(x)})
    before = frozen(model)
    made.kernel.assign(np.ones(made.kernel.shape))
    from keraship.exporter.freeze import freeze
    from keraship.exporter.trace import trace

    before = fold(freeze(trace(model)))
    feed = np.ones((4, *shape), np.float32)
    feed[0, ..., 0] = low
    after, _ = quantized(before, {"x": feed})
    expected, got = run(before, {"x": feed})["y"], run(after, {"x": feed})["y"]
    assert np.abs(expected - got).max() < 0.03 * np.abs(expected).max()


def test_neighbouring_weights_of_one_sign_come_to_128_at_most():
    weights = np.random.default_rng(0).normal(size=(3, 3, 7, 5)).astype(np.float32)
    levels, size = quantized_weights(weights, (3,), (2,))
    pairs = levels[:, :, 0:6:2].astype(int) + levels[:, :, 1:6:2]
    assert np.abs(pairs).max() <= 128
    assert np.abs(levels / 127 * size - weights).max() < 0.012 * np.abs(weights).max()


def test_channels_and_activations_of_zeros_stay_zeros():
    x = layers.Input(IMAGES, name="x")
    made = layers.Conv2D(4, 3, activation="relu")
    model = keras.Model(x, {"y": layers.Dense(2)(made(x))})
    frozen(model)
    kernel, bias = made.kernel.numpy(), made.bias.numpy()
    kernel[..., 1], bias[1] = 0, 0
    made.kernel.assign(kernel)
    made.bias.assign(bias)
    from keraship.exporter.freeze import freeze
    from keraship.exporter.trace import trace

    before = fold(freeze(trace(model)))
    for data in (drawn(before, rows=16), {"x": np.zeros((16, *IMAGES), np.float32)}):
        after, _ = quantized(before, data)
        expected, got = run(before, data)["y"], run(after, data)["y"]
        assert np.sqrt(np.mean((expected - got) ** 2)) < 0.03 * np.sqrt(np.mean(expected**2)) + 1e-3


STAYING = {
    "attention": ((7, 6), lambda x: layers.MultiHeadAttention(2, 3)(x, x), "an activation times an activation"),
    "conv3d": ((5, 5, 5, 2), lambda x: layers.Conv3D(3, 2)(x), "no 8-bit kernel"),
    "transposed": (IMAGES, lambda x: layers.Conv2DTranspose(3, 2)(x), "no 8-bit kernel"),
    "grouped": (IMAGES, lambda x: layers.Conv2D(6, 3, groups=2)(x), "compiled function"),
    "recurrent": ((7, 6), lambda x: layers.LSTM(3)(x), "inside a loop"),
    "float64": ((6,), lambda x: layers.Dense(3, dtype="float64")(x), "computes in float64"),
}


@pytest.mark.parametrize("name", STAYING)
def test_what_stays_float_says_why_under_its_layers_name(name):
    shape, step, reason = STAYING[name]
    x = layers.Input(shape, name="x")
    model = keras.Model(x, {"y": layers.Dense(3)(layers.Flatten()(step(x)))})
    kept = plan(Graph(fold(frozen(model)))).kept
    assert reason in kept[0].reason
    assert kept[0].layer in [layer.name for layer in model.layers]
