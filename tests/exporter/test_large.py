"""Models too large for one message: their weights stay variables, written once. The limit is lowered for small ones."""

from pathlib import Path

import numpy as np
import pytest

from keraship import bundle
from keraship.errors import ExportError, VerificationError
from keraship.exporter import export, freeze, verify
from keraship.quiet import import_keras


@pytest.fixture(scope="module")
def keras():
    return import_keras()


@pytest.fixture(scope="module")
def model(keras):
    """Words and numbers through a lookup table, a loop, attention, normalization, and weights that two layers share."""
    layers = keras.layers
    keras.utils.set_random_seed(4)
    words = keras.Input((6,), dtype="string", name="words")
    hidden = layers.Embedding(5, 8)(layers.StringLookup(vocabulary=["the", "quick", "brown", "fox"])(words))
    hidden = layers.Bidirectional(layers.LSTM(8, return_sequences=True))(hidden)
    hidden = layers.MultiHeadAttention(2, 4)(hidden, hidden)
    twice = layers.Dense(16, activation="gelu")
    hidden = layers.Dropout(0.5)(layers.BatchNormalization()(twice(twice(hidden))))
    return keras.Model(words, layers.Dense(3, name="scores")(layers.GlobalAveragePooling1D()(hidden)))


@pytest.fixture(scope="module", autouse=True)
def _low_limit():
    """A limit that every model passes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(freeze, "LIMIT", freeze._ROOM + 1000)
        yield


@pytest.fixture(scope="module")
def version(tmp_path_factory, model):
    repository = tmp_path_factory.mktemp("repository")
    return export(model, repository, name="large", formats=["saved_model"], classify=True).folder


def test_the_weights_stand_in_the_checkpoint_once(version):
    """saved_model.pb holds none, the checkpoint each one time; the manifest lists its files."""
    from tensorflow.core.protobuf import saved_model_pb2

    manifest = bundle.read_manifest(version)
    files = manifest.artifact("saved_model").files
    data = "variables/variables.data-00000-of-00001"
    assert set(files) == {bundle.SAVED_MODEL, "variables/variables.index", data, bundle.WARMUP}
    assert files[data].bytes <= 1.02 * manifest.source.weights_bytes
    graph = saved_model_pb2.SavedModel.FromString((version / bundle.SAVED_MODEL).read_bytes()).meta_graphs[0]
    nodes = [*graph.graph_def.node, *(node for each in graph.graph_def.library.function for node in each.node_def)]
    assert max(len(node.attr["value"].tensor.tensor_content) for node in nodes if node.op == "Const") < 200
    assert not graph.HasField("object_graph_def")
    assert not {node.op for node in nodes if "Random" in node.op}


def test_it_is_proven_again_by_verify(version):
    """In a fresh process without Keras, both signatures; and a change of the checkpoint is noticed."""
    assert verify(version).artifacts[0].parity.max_rel_error <= 1e-5


def test_sessions_and_our_server_answer_alike(version):
    """A v1 session, tf.saved_model.load and the server's backend restore the variables and fill the table."""
    import tensorflow as tf

    from keraship.serving.backend import BackendOptions, open_backend

    inputs, expected = bundle.read_golden(version)
    backend = open_backend(version, BackendOptions())
    (scores,) = backend.run("serving_default", inputs, ["scores"])
    np.testing.assert_allclose(scores, expected["scores"], rtol=1e-5, atol=1e-6)
    examples, classified = bundle.read_golden(version, "classify")
    (scores,) = backend.run("classify", examples, ["scores"])
    np.testing.assert_allclose(scores, classified["scores"], rtol=1e-5, atol=1e-6)
    backend.close()

    loaded = tf.saved_model.load(str(version))
    answer = loaded.signatures["predict"](words=tf.constant(inputs["words"]))
    np.testing.assert_allclose(answer["scores"], expected["scores"], rtol=1e-5, atol=1e-6)


def test_the_same_bytes_whatever_the_process_did_before(keras, model, tmp_path):
    """Graph, checkpoint and its index: from the file, in a process that has made other layers since."""
    from keraship.exporter import savedmodel, trace
    from keraship.keras_file import load

    model.save(tmp_path / "model.keras")
    written = []
    for folder in (tmp_path / "first", tmp_path / "second"):
        folder.mkdir()
        savedmodel.write_saved_model(freeze.freeze(trace.trace(load(tmp_path / "model.keras"))), folder)
        written.append({path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()})
        keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])(np.ones((1, 2)))
    assert written[0] == written[1]
    assert len(written[0]) == 3


def test_other_formats_and_schemes_are_refused(model, tmp_path):
    """Only a float SavedModel can keep its weights beside it, which is said before anything is written."""
    with pytest.raises(ExportError, match="--formats saved_model"):
        export(model, tmp_path, name="large")
    assert not list(tmp_path.iterdir())


def test_a_damaged_checkpoint_is_noticed(version, tmp_path):
    """The digests of its files stand in the manifest."""
    import shutil

    copy = tmp_path / "large" / "1"
    shutil.copytree(version, copy)
    path = next(Path(copy / "variables").glob("*data*"))
    damaged = bytearray(path.read_bytes())
    damaged[100] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(VerificationError, match="variables/variables"):
        verify(copy)
