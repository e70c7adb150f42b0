"""One file, or two beyond a message's limit; both load where they lie."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from keraship.bundle import ONNX_DATA
from keraship.exporter.onnx_file import write_onnx


@pytest.fixture
def model():
    """y = x w1 w2, of 16 kB each, and a small constant."""
    weights = np.random.default_rng(0).random((2, 64, 64), np.float32)
    floats = helper.make_tensor("w2", TensorProto.FLOAT, (64, 64), weights[1].ravel())  # not as raw bytes
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w1"], ["a"]),
            helper.make_node("MatMul", ["a", "w2"], ["b"]),
            helper.make_node("Mul", ["b", "half"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 64])],
        [numpy_helper.from_array(weights[0], "w1"), floats, numpy_helper.from_array(np.float32(0.5), "half")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), weights


def test_a_model_within_the_limit_is_one_file(model, tmp_path):
    """Its name is all that is returned."""
    assert write_onnx(model[0], tmp_path) == ["model.onnx"]
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_weights_beyond_the_limit_lie_beside_the_model(model, tmp_path):
    """Two files, which onnxruntime loads by the path of the first; the weights are stored by their plain name."""
    before = model[0].SerializeToString()
    assert write_onnx(model[0], tmp_path, limit=20_000) == ["model.onnx", ONNX_DATA]
    assert model[0].SerializeToString() == before  # the model itself stays whole
    assert (tmp_path / "model.onnx").stat().st_size < 2_000
    light = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    locations = [entry.value for tensor in light.graph.initializer for entry in tensor.external_data][::3]
    assert locations == [ONNX_DATA, ONNX_DATA]
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    x = np.ones((3, 64), np.float32)
    np.testing.assert_allclose(session.run(None, {"x": x})[0], x @ model[1][0] @ model[1][1] / 2, rtol=1e-5)
