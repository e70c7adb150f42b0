"""What stands in a published version: asked with TensorFlow, onnxruntime and TensorFlow Serving's own messages."""

import hashlib

import numpy as np
import onnx
import onnxruntime
import pytest

from keraship import bundle
from keraship.signature import TensorSpec


def test_two_processes_write_the_same_bytes(repositories):
    """saved_model.pb, model.onnx, golden.npz and the warm-up file do not depend on the process that wrote them."""
    for name in ("cnn", "lstm"):
        for path in (bundle.SAVED_MODEL, bundle.ONNX, bundle.GOLDEN, bundle.WARMUP):
            first, second = (
                hashlib.sha256((repository / name / "1" / path).read_bytes()).hexdigest() for repository in repositories
            )
            assert first == second, f"{name}: {path}"


def test_the_manifest_says_what_was_proven(cnn):
    """Source, signatures, both artifacts with parity, quality, latency and row independence, and the tools."""
    manifest = bundle.read_manifest(cnn)
    assert manifest.source.model == "Sequential"
    assert manifest.source.file == "cnn.keras"
    assert manifest.source.quality is not None
    assert manifest.source.quality.samples == 40
    assert list(manifest.signatures) == ["predict", "serving_default"]
    signature = manifest.signatures["serving_default"]
    assert signature.inputs == (TensorSpec("images", "float32", (None, 8, 8, 1)),)
    assert signature.outputs == (TensorSpec("scores", "float32", (None, 3)),)
    assert [artifact.format for artifact in manifest.artifacts] == ["saved_model", "onnx"]
    for artifact in manifest.artifacts:
        assert artifact.parity.max_rel_error <= artifact.parity.tolerance == 1e-5
        assert artifact.parity.agreement == 1.0
        assert artifact.parity.batch_sizes == (1, 2, 7, 8)
        assert artifact.row_independent
        assert artifact.quality == manifest.source.quality
        assert set(artifact.latency_ms) == {"1", "8"}
    assert manifest.artifact("onnx").opset == 18
    assert manifest.tools["tensorflow"]
    assert not bundle.changed_files(cnn, manifest)


def test_golden_samples_are_the_first_rows_of_the_data(cnn, labelled):
    """With --evaluate the golden inputs are real data, 8 rows of it."""
    inputs, outputs = bundle.read_golden(cnn)
    with np.load(labelled) as data:
        np.testing.assert_array_equal(inputs["images"], data["images"][:8].astype(np.float32))
    assert outputs["scores"].shape == (8, 3)


def test_weights_stand_in_the_saved_model_once(cnn):
    """The SavedModel is one file, no larger than the weights and 100 KB, and holds no variable."""
    from tensorflow.core.protobuf import saved_model_pb2

    manifest = bundle.read_manifest(cnn)
    assert set(manifest.artifact("saved_model").files) == {bundle.SAVED_MODEL, bundle.WARMUP}
    assert not (cnn / "variables").exists()
    raw = (cnn / bundle.SAVED_MODEL).read_bytes()
    assert len(raw) <= manifest.source.weights_bytes + 100_000
    ops = {node.op for node in saved_model_pb2.SavedModel.FromString(raw).meta_graphs[0].graph_def.node}
    assert "Conv2D" in ops
    assert not ops & {"VarHandleOp", "ReadVariableOp", "StatelessRandomUniformV2"}


LOAD = """
    import sys
    sys.modules["keras"] = None
    import numpy as np, tensorflow as tf
    from pathlib import Path
    from keraship import bundle
    for folder in sys.argv[1:]:
        inputs, expected = bundle.read_golden(Path(folder))
        loaded = tf.saved_model.load(folder)
        for name in ("serving_default", "predict"):
            for rows in (1, 2, 7):
                asked = {key: tf.constant(array[:rows]) for key, array in inputs.items()}
                for key, tensor in loaded.signatures[name](**asked).items():
                    np.testing.assert_allclose(tensor.numpy(), expected[key][:rows], rtol=1e-5, atol=1e-6)
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            graph = tf.compat.v1.saved_model.load(session, ["serve"], folder)
            signature = graph.signature_def["serving_default"]
            feeds = {signature.inputs[key].name: array for key, array in inputs.items()}
            for key, array in expected.items():
                np.testing.assert_allclose(session.run(signature.outputs[key].name, feeds), array, rtol=1e-5, atol=1e-6)
        print("alike")
"""


def test_stock_tensorflow_answers_alike(cnn, lstm, python):
    """A fresh process without Keras loads the SavedModels as objects and into v1 sessions, and they answer alike."""
    assert python(LOAD, cnn, lstm).split() == ["alike", "alike"]


@pytest.mark.parametrize("name", ["cnn", "lstm"])
def test_onnx_is_valid_and_answers_alike(repositories, name):
    """The checker accepts model.onnx; its names are the signature's, its first dimension is `batch`."""
    folder = repositories[0] / name / "1"
    signature = bundle.read_manifest(folder).signatures["serving_default"]
    model = onnx.load(str(folder / bundle.ONNX))
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(str(folder / bundle.ONNX), providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == [spec.name for spec in signature.inputs]
    assert [value.name for value in session.get_outputs()] == [spec.name for spec in signature.outputs]
    assert {value.shape[0] for value in (*session.get_inputs(), *session.get_outputs())} == {"batch"}
    inputs, expected = bundle.read_golden(folder)
    for rows in (1, 2, 7):
        answers = session.run(None, {key: array[:rows] for key, array in inputs.items()})
        for spec, answer in zip(signature.outputs, answers, strict=True):
            np.testing.assert_allclose(answer, expected[spec.name][:rows], rtol=1e-5, atol=1e-6)


def test_warmup_requests_are_readable_by_tensorflow_serving(cnn):
    """The warm-up file is a TFRecord of PredictionLogs: a request of one row and one of the golden batch."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    records = tf.data.TFRecordDataset(str(cnn / bundle.WARMUP))
    logs = [prediction_log_pb2.PredictionLog.FromString(record.numpy()) for record in records]
    requests = [log.predict_log.request for log in logs]
    assert {(request.model_spec.name, request.model_spec.signature_name) for request in requests} == {
        ("cnn", "serving_default")
    }
    inputs, _ = bundle.read_golden(cnn)
    for request, rows in zip(requests, (1, 8), strict=True):
        np.testing.assert_array_equal(tf.make_ndarray(request.inputs["images"]), inputs["images"][:rows])
