"""What tf2onnx lacks or gets wrong: Keras models that need it convert, and onnxruntime answers as they do."""

import numpy as np
import onnxruntime
import pytest

from keraship.errors import ExportError
from keraship.quiet import import_keras

keras = import_keras()
layers, ops = keras.layers, keras.ops


class Call(layers.Layer):
    """A function as a layer, under whose name it can be found."""

    def __init__(self, function, name="call"):
        super().__init__(name=name)
        self.function = function

    def call(self, inputs):
        return self.function(inputs)


@pytest.fixture(scope="module")
def convert():
    """A layer, or a function, on one input of a shape -> the ONNX model, and the Keras model's answer and inputs."""
    from keraship.exporter import freeze, golden, to_onnx, trace

    def run(layer, shape, dtype="float32"):
        keras.utils.set_random_seed(3)
        x = keras.Input(shape, dtype=dtype, name="x")
        traced = trace.trace(keras.Model(x, layer(x)), outputs=["y"])
        inputs, outputs = golden.golden(traced.signature, traced.answer, None)
        return to_onnx.to_onnx(freeze.freeze(traced), opset=18), inputs["x"], outputs["y"]

    return run


def answer(model, x):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["y"], {"x": x})[0]


IMAGE, ROWS = (12, 11, 3), (6, 5)
CASES = {
    "expm1": (Call(lambda x: ops.expm1((x - 0.5) * 20)), ROWS, "float32"),
    "log1p": (Call(lambda x: ops.log1p((x - 0.1) * 1e-3) + ops.log1p(x)), ROWS, "float32"),
    "celu": (layers.Activation("celu"), ROWS, "float32"),
    "grouped convolution": (layers.Conv2D(6, 3, groups=3), IMAGE, "float32"),
    "output padding": (layers.Conv2DTranspose(4, 3, strides=2, output_padding=1), IMAGE, "float32"),
    "bilinear": (layers.Resizing(7, 9), IMAGE, "float32"),
    "bilinear, open sizes": (layers.Resizing(7, 9), (None, None, 3), "float32"),
    "nearest": (layers.Resizing(7, 9, interpolation="nearest"), IMAGE, "float32"),
    "bicubic": (layers.Resizing(7, 9, interpolation="bicubic"), IMAGE, "float32"),
    "lanczos": (layers.Resizing(7, 9, interpolation="lanczos3"), IMAGE, "float32"),
    "area": (layers.Resizing(7, 9, interpolation="area"), IMAGE, "float32"),
    "antialias": (Call(lambda x: ops.image.resize(x, (5, 5), antialias=True)), IMAGE, "float32"),
    "discretization": (layers.Discretization([0.1, 0.5, 0.9]), ROWS, "float32"),
    "search": (
        Call(lambda x: ops.searchsorted(np.float32([0.1, 0.5, 0.9]), x[:, 0, 0], side="right")),
        ROWS,
        "float32",
    ),
    "argmax": (Call(lambda x: ops.argmax(ops.concatenate([x * 0, -x * 0], 1), 1)), ROWS, "float32"),
    "slice update": (Call(lambda x: ops.slice_update(x, (1, 5, 1), ops.ones((2, 2, 2)))), ROWS, "float32"),
    "in top k": (Call(lambda x: ops.in_top_k(ops.cast(x[:, 0] * 5, "int32"), x, 2)), (5,), "float32"),
    "fourier": (Call(lambda x: ops.concatenate(ops.rfft(x), -1)), (3, 20), "float32"),
    "fourier, padded": (Call(lambda x: ops.concatenate(ops.rfft(x, 32), -1)), (20,), "float32"),
    "fourier and back": (Call(lambda x: ops.irfft([part * 2 for part in ops.rfft(x)])), (18,), "float32"),
    "spectrogram": (layers.STFTSpectrogram(frame_length=16, frame_step=8, fft_length=16), (64, 1), "float32"),
    "slice update of open size": (
        Call(lambda x: ops.slice_update(x, (0, 1), ops.ones_like(x[:, :2]))),
        (5,),
        "float32",
    ),
    "integer lookup": (layers.IntegerLookup(vocabulary=[3, 5, 7, 1], output_mode="multi_hot"), (4,), "int64"),
    "string lookup": (layers.StringLookup(vocabulary=["the", "quick"]), (4,), "string"),
}


@pytest.mark.parametrize("case", CASES)
def test_converts_and_answers_alike(convert, case):
    """Within float32's accuracy of the largest value."""
    model, x, expected = convert(*CASES[case])
    feed = np.vectorize(bytes.decode, otypes=[object])(x) if x.dtype.kind == "O" else x
    for rows in (8, 3):
        want = expected[:rows]
        np.testing.assert_allclose(answer(model, feed[:rows]), want, rtol=0, atol=1e-5 * np.abs(want).max() + 1e-9)


def test_expm1_and_log1p_keep_the_digits_of_small_numbers(convert):
    """exp(x) - 1 would have lost half of them at 1e-4."""
    for function, exact in ((ops.expm1, np.expm1), (ops.log1p, np.log1p)):
        model, _, _ = convert(Call(function), (1,))
        x = np.float32([[1e-7], [-1e-4], [1e-3], [0.4999], [0.6], [20.0]])
        np.testing.assert_allclose(answer(model, x), exact(x.astype(float)), rtol=1e-6)


def test_bfloat16_inside_becomes_float32(convert):
    """A mixed_bfloat16 model converts; its answers are as close as bfloat16 allows."""
    hidden, last = layers.Dense(8, dtype="mixed_bfloat16", activation="relu"), layers.Dense(4)
    model, x, expected = convert(lambda x: last(hidden(x)), ROWS)
    np.testing.assert_allclose(answer(model, x), expected, atol=5e-2 * np.abs(expected).max())


def test_bfloat16_outputs_are_refused(convert):
    """By the output's name."""
    with pytest.raises(ExportError, match="give no bfloat16, which y would be"):
        convert(layers.Dense(4, dtype="bfloat16"), ROWS)


def test_text_is_refused_with_the_layer_and_the_way_out(convert):
    """ONNX has no such operations; the model behind the layer can be exported."""
    layer = layers.TextVectorization(vocabulary=["the", "quick"], output_sequence_length=4, name="words")
    with pytest.raises(ExportError) as caught:
        convert(layer, (1,), "string")
    said = str(caught.value)
    for part in ("StaticRegexReplace", "the layer 'words'", "--formats saved_model", "keras.Model("):
        assert part in said


def test_comparing_text_is_refused(convert):
    """tf2onnx would compare numbers, which the text is not."""
    with pytest.raises(ExportError, match=r"Equal of text in the layer 'words'.*ONNX does not work on text"):
        convert(layers.StringLookup(vocabulary=["the", "quick"], mask_token="", name="words"), (4,), "string")


def test_an_operation_that_onnx_has_not_is_refused_with_its_layer(convert):
    """Op and layer, and what can be done."""
    with pytest.raises(ExportError, match=r"Cholesky in the layer 'decompose'; export the model with --formats saved"):
        convert(
            Call(lambda x: ops.cholesky(ops.matmul(x, ops.transpose(x, (0, 2, 1))) + ops.eye(6)), name="decompose"),
            ROWS,
        )


def test_what_onnxruntime_cannot_run_is_refused(convert):
    """Valid ONNX is not enough: onnxruntime has no float64 convolution."""
    with pytest.raises(ExportError, match=r"onnxruntime cannot run the converted model: .*'precise/Conv'"):
        convert(layers.Conv2D(2, 3, dtype="float64", name="precise"), IMAGE, "float64")


def test_nodes_are_called_after_their_layers(convert):
    """Each node that holds weights; the first of two in one layer has the plain name."""
    model, _, _ = convert(
        keras.Sequential([layers.Dense(4, name="first"), layers.Dense(2, name="scores")], name="body"), (5,)
    )
    assert {node.name for node in model.graph.node if "/" in node.name} == {"body/first/MatMul", "body/scores/MatMul"}
