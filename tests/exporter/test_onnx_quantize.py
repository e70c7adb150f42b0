"""Quantized ONNX: a quarter of the size, the same answers within reason, standard operations, the open batch."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from keraship.errors import ExportError
from keraship.exporter import onnx_check
from keraship.exporter.onnx_quantize import SCHEMES, answers, quantize_onnx


def weights(*shape):
    """The same for each shape, whichever test comes first."""
    return (np.random.default_rng(shape).standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def make(nodes, initializers, shape=(8, 8, 3), classes=5):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", classes])],
        [numpy_helper.from_array(array, name) for name, array in initializers.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.fixture(scope="module")
def model():
    """Two convolutions, an embedding-like gather, a dense layer; named as to_onnx names them."""
    return make(
        [
            helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
            helper.make_node("Conv", ["t", "w1", "b1"], ["c1"], name="first/Conv", pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c1"], ["r1"]),
            helper.make_node("Conv", ["r1", "w2"], ["c2"], name="second/Conv", pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c2"], ["r2"]),
            helper.make_node("GlobalAveragePool", ["r2"], ["p"]),
            helper.make_node("Flatten", ["p"], ["f"]),
            helper.make_node("Gemm", ["f", "w3", "b3"], ["y"], name="scores/Gemm"),
        ],
        {
            "w1": weights(32, 3, 3, 3),
            "b1": weights(32),
            "w2": weights(64, 32, 3, 3),
            "w3": weights(64, 5) * 20,
            "b3": weights(5),
        },
    )


@pytest.fixture(scope="module")
def data():
    return {"x": np.random.default_rng(5).random((100, 8, 8, 3)).astype(np.float32)}


def error(model, quantized, data):
    left, right = answers(model, data)["y"], answers(quantized, data)["y"]
    return float(np.sqrt(np.mean((left - right) ** 2)) / np.sqrt(np.mean(left**2)))


@pytest.mark.parametrize(
    ("scheme", "size", "most"),
    [("int8", 0.4, 0.1), ("dynamic", 0.4, 0.05), ("weight_only", 0.4, 0.05), ("float16", 0.6, 1e-3)],
)
def test_every_scheme_is_smaller_and_answers_nearly_alike(model, data, scheme, size, most):
    """With operations of the standard only, an open batch, names as they were; all layers are counted."""
    made = quantize_onnx(model, scheme, calibration=data)
    assert made.model.ByteSize() < size * model.ByteSize()
    assert 0 < error(model, made.model, data) <= most
    onnx.checker.check_model(made.model, full_check=True)
    assert all(onnx_check.is_standard(node, 18) for node in made.model.graph.node)
    assert [opset.domain for opset in made.model.opset_import] == [""]
    assert made.model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert [value.name for value in made.model.graph.output] == ["y"]
    assert answers(made.model, {"x": data["x"][:1]})["y"].shape == (1, 5)
    assert made.coverage.quantized == made.coverage.total == {"Conv": 2, "Gemm": 1}
    assert made.coverage.weights_share > 0.98
    assert not made.model.graph.value_info
    assert not made.coverage.kept_float


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_same_model_gives_the_same_bytes(model, data, scheme):
    """And the float model stays what it was."""
    before = model.SerializeToString(deterministic=True)
    first, second = (quantize_onnx(model, scheme, calibration=data).model for _ in range(2))
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)
    assert model.SerializeToString(deterministic=True) == before


def test_layers_are_kept_float_when_asked(model, data):
    """By the layer's name, which the coverage repeats; other names are refused with those that there are."""
    made = quantize_onnx(model, "int8", calibration=data, keep_float=["first"])
    assert made.coverage.quantized == {"Conv": 1, "Gemm": 1}
    (kept,) = made.coverage.kept_float
    assert (kept.layer, kept.op, kept.reason) == ("first", "Conv", "asked for")
    with pytest.raises(ExportError, match=r"expected layers out of first, second, scores to keep.*got third"):
        quantize_onnx(model, "weight_only", calibration=None, keep_float=["third"])


def test_a_layer_that_costs_accuracy_is_found_and_kept(data):
    """One whose weights hold a large number in each channel: 8 bits leave nothing of the rest."""
    spoilt = weights(64, 64)
    spoilt[0] *= 3000  # times an input that is next to nothing
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("MatMul", ["f", "w0"], ["a"], name="good/MatMul"),
        helper.make_node("Mul", ["a", "mask"], ["m"]),
        helper.make_node("MatMul", ["m", "w1"], ["b"], name="bad/MatMul"),
        helper.make_node("MatMul", ["b", "w2"], ["y"], name="scores/MatMul"),
    ]
    mask = np.ones(64, np.float32)
    mask[0] = 1e-6
    model = make(nodes, {"w0": weights(192, 64), "mask": mask, "w1": spoilt, "w2": weights(64, 5)})
    made = quantize_onnx(model, "weight_only", calibration=data)
    (kept,) = made.coverage.kept_float
    assert (kept.layer, kept.op) == ("bad", "MatMul")
    assert kept.reason.startswith("accuracy: alone it moves the outputs by ")
    assert made.coverage.layer_errors[0].layer == "bad"
    assert error(model, made.model, data) < 0.05
    assert made.coverage.weights_share == pytest.approx((192 * 64 + 64 * 5) / (192 * 64 + 64 * 5 + 64 * 64 + 64))


def test_what_is_asked_wrongly_is_refused(model, data):
    """Unknown schemes, int8 without data, models without weights."""
    with pytest.raises(ExportError, match="expected a scheme out of int8, dynamic, weight_only, float16; got 'int4'"):
        quantize_onnx(model, "int4", calibration=data)
    with pytest.raises(ExportError, match="ranges of activations from data; give some: --calibrate"):
        quantize_onnx(model, "int8", calibration=None)
    bare = make([helper.make_node("Flatten", ["x"], ["y"])], {}, (5,))
    with pytest.raises(ExportError, match="no layer that float16 can quantize; leave float16 out"):
        quantize_onnx(bare, "float16", calibration=None)


def test_weights_in_the_body_of_a_loop_are_stored_small(data):
    """A recurrent layer's matrix, seen from the body of a Loop; int8 leaves it alone and says so."""
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["state", "w"], ["next"], name="cell/MatMul"),
            helper.make_node("Identity", ["go"], ["still"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("Loop", ["turns", "", "f"], ["last"], body=body),
        helper.make_node("MatMul", ["last", "w2"], ["y"], name="scores/MatMul"),
    ]
    model = make(nodes, {"turns": np.array(3), "w": weights(192, 192), "w2": weights(192, 1)}, classes=1)
    made = quantize_onnx(model, "weight_only", calibration=data)
    assert made.coverage.quantized == {"MatMul": 2}
    assert error(model, made.model, data) < 0.05
    kept = quantize_onnx(model, "int8", calibration=data).coverage.kept_float
    assert [(item.layer, item.reason) for item in kept] == [("cell", "inside of a loop")]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_model_of_a_fixed_number_of_rows_is_quantized_with_as_many(model, data, scheme):
    """Calibration rows are put to it four at a time."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in (*fixed.graph.input, *fixed.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    made = quantize_onnx(fixed, scheme, calibration=data)
    assert error(fixed, made.model, {"x": data["x"][:4]}) < 0.1
    with pytest.raises(ExportError, match="expected 4 rows of calibration data, which the model takes at once; got 3"):
        quantize_onnx(fixed, scheme, calibration={"x": data["x"][:3]})


def test_text_among_the_inputs_is_fed_as_bytes():
    """A lookup of words before a dense layer, calibrated on them."""
    nodes = [
        helper.make_node(
            "LabelEncoder",
            ["x"],
            ["ids"],
            domain="ai.onnx.ml",
            keys_strings=["a", "b"],
            values_int64s=[1, 2],
            default_int64=0,
        ),
        helper.make_node("Gather", ["table", "ids"], ["e"], name="words/Gather"),
        helper.make_node("MatMul", ["e", "w"], ["y"], name="scores/MatMul"),
    ]
    model = make(nodes, {"table": weights(3, 32), "w": weights(32, 5)}, ())
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    words = {"x": np.array([b"a", b"b", b"c"] * 4, object)}
    made = quantize_onnx(model, "int8", calibration=words)
    assert made.coverage.quantized == {"MatMul": 1}
    assert error(model, made.model, words) < 0.1
