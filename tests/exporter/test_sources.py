"""What can be exported: SavedModels from everywhere, legacy .h5 files, Lambda layers where they are trusted."""

import json

import numpy as np
import pytest

from keraship import bundle
from keraship.errors import ExportError, ModelError
from keraship.exporter import export
from keraship.quiet import import_keras

import_keras()

import keras  # noqa: E402  # TensorFlow's chatter first
import tensorflow as tf  # noqa: E402
from keras import layers  # noqa: E402

from keraship.exporter import freeze, load, random_layers  # noqa: E402  # import TensorFlow


class Scaled(tf.Module):
    """Two signatures, a variable, and a table that is an asset."""

    def __init__(self, vocabulary):
        super().__init__()
        self.scale = tf.Variable([2.0, 3.0])
        filler = tf.lookup.TextFileInitializer(
            str(vocabulary),
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        )
        self.table = tf.lookup.StaticHashTable(filler, -1)

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="b"), tf.TensorSpec([None, 2], name="a")])
    def difference(self, b, a):
        return {"difference": b * self.scale - a, "a sum": tf.reduce_sum(a, 1)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="words")])
    def indices(self, words):
        return {"indices": self.table.lookup(words)}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """SavedModels: keras (model.export), module (two signatures), session (TF 1), bare (none), files (reads one)."""
    folder = tmp_path_factory.mktemp("saved_models")
    model = keras.Sequential([keras.Input((4,), name="x"), layers.Dense(3), layers.Dropout(0.5)])
    model.export(folder / "keras", verbose=False)
    (folder / "words.txt").write_text("the\nfox\n")
    module = Scaled(folder / "words.txt")
    signatures = {"serving_default": module.difference, "words": module.indices}
    tf.saved_model.save(module, folder / "module", signatures=signatures)
    tf.saved_model.save(module, folder / "bare")
    reads = tf.Module()
    reads.f = tf.function(
        lambda x: x + tf.strings.to_number(tf.io.read_file("/nowhere/secret")), input_signature=[tf.TensorSpec([None])]
    )
    tf.saved_model.save(reads, folder / "files", signatures=reads.f)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, [None, 2])
        weights = tf.compat.v1.get_variable("w", [2, 3])
        y = tf.matmul(x, weights)
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.saved_model.simple_save(session, str(folder / "session"), {"x": x}, {"y": y})
    return folder


@pytest.mark.parametrize(
    ("name", "signature", "expected"),
    [
        ("keras", None, "(x: float32 [-1,4]) -> (output_0: float32 [-1,3])"),
        ("keras", "serve", "(x: float32 [-1,4]) -> (output_0: float32 [-1,3])"),
        (
            "module",
            None,
            "(a: float32 [-1,2], b: float32 [-1,2]) -> (a_sum: float32 [-1], difference: float32 [-1,2])",
        ),
        ("module", "words", "(words: string [-1]) -> (indices: int64 [-1])"),
        ("session", None, "(x: float32 [-1,2]) -> (y: float32 [-1,3])"),
    ],
)
def test_a_saved_model_keeps_its_signature_and_answers(folders, name, signature, expected):
    """Frozen, the graph answers as the SavedModel's own signature does, under the same names."""
    traced = load.trace_any(load.load(folders / name), signature=signature)
    assert str(traced.signature) == expected
    frozen = freeze.freeze(traced)
    assert not any(node.op in ("VarHandleOp", "ReadVariableOp") for node in frozen.graph.node)
    random = np.random.default_rng(0)
    arrays = {
        spec.name: random.random((3, *spec.shape[1:])).astype(np.float32)
        if spec.dtype == "float32"
        else np.array([b"fox", b"no", b"the"], object)
        for spec in traced.signature.inputs
    }
    wrapped = tf.compat.v1.wrap_function(lambda: tf.compat.v1.import_graph_def(frozen.graph, name=""), [])
    feeds = [wrapped.graph.as_graph_element(spec.tensor) for spec in frozen.signature.inputs]
    if frozen.init:
        wrapped.prune([], wrapped.graph.as_graph_element(frozen.init))()
    pruned = wrapped.prune(feeds, [wrapped.graph.as_graph_element(spec.tensor) for spec in frozen.signature.outputs])
    got = pruned(*[tf.constant(arrays[spec.name]) for spec in traced.signature.inputs])
    for (output, want), tensor in zip(traced.answer(arrays).items(), got, strict=True):
        np.testing.assert_allclose(tensor, want, rtol=1e-6, err_msg=output)


def test_names_of_a_saved_model_can_be_changed(folders):
    """--inputs and --outputs, in the alphabetical order of the signature's own."""
    traced = load.trace_any(load.load(folders / "module"), inputs=["left", "right"], outputs=["total", "rest"])
    ones, twos = np.ones((1, 2), np.float32), np.full((1, 2), 2, np.float32)
    answers = traced.answer({"left": ones, "right": twos})  # a=ones, b=twos
    np.testing.assert_allclose(answers["rest"], [[3.0, 5.0]])
    np.testing.assert_allclose(answers["total"], [2.0])


def test_a_saved_model_becomes_equal_artifacts(folders, tmp_path):
    """A TF 1 SavedModel is exported as any other model; the manifest says where it came from."""
    exported = export(folders / "session", tmp_path, formats=["saved_model", "onnx"])
    assert exported.folder == tmp_path / "session" / "1"
    source = exported.manifest.source
    assert (source.file, source.model, source.weights_bytes) == ("session", "SavedModel", 2 * 3 * 4)
    assert len(source.sha256) == 64
    assert [artifact.format for artifact in exported.manifest.artifacts] == ["saved_model", "onnx"]


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("bare", ModelError, "without signatures.*signatures="),
        ("files", ModelError, "ReadFile reads files.*--trust"),
        (".", ModelError, r"holds none"),
    ],
)
def test_a_saved_model_that_cannot_be_used_is_refused(folders, name, error, message):
    """Each with a sentence that says what to do."""
    with pytest.raises(error, match=message):
        load.load(folders / name)


def test_trust_accepts_operations_on_files(folders):
    """--trust loads the SavedModel that reads a file."""
    traced = load.trace_any(load.load(folders / "files", trust=True))
    with pytest.raises(tf.errors.NotFoundError, match="/nowhere/secret"):
        traced.answer({spec.name: np.zeros(1, np.float32) for spec in traced.signature.inputs})


def test_a_signature_that_is_not_there_is_refused(folders, models):
    """The message names those that are; a Keras model has none to choose from."""
    with pytest.raises(ExportError, match="out of serving_default, words; got nosuch"):
        load.trace_any(load.load(folders / "module"), signature="nosuch")
    with pytest.raises(ExportError, match="leave out --signature predict"):
        load.trace_any(load.load(models / "cnn.keras"), signature="predict")


def test_a_legacy_file_is_exported(tmp_path, keraship):
    """An .h5 file, by the command; the answers are the model's."""
    model = keras.Sequential([keras.Input((4,), name="x"), layers.Dense(3, name="y")])
    model.compile("adam", "mse")
    model.save(tmp_path / "old.h5")
    done = keraship("export", tmp_path / "old.h5", "--to", tmp_path / "repo", "--formats", "onnx", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["manifest"]["source"]["file"] == "old.h5"
    inputs, outputs = bundle.read_golden(tmp_path / "repo" / "old" / "1")
    np.testing.assert_allclose(outputs["y"], model.predict(inputs["x"], verbose=0), rtol=1e-5)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_lambda_layer_needs_trust(tmp_path, suffix):
    """The refusal names the layer and --trust, which loads it."""
    x = keras.Input((4,))
    keras.Model(x, layers.Lambda(lambda t: t + 1, name="plus_one")(x)).save(tmp_path / f"m{suffix}")
    with pytest.raises(ModelError, match=r"plus_one: it holds Python code \(a Lambda layer\).*--trust"):
        load.load(tmp_path / f"m{suffix}")
    traced = load.trace_any(load.load(tmp_path / f"m{suffix}", trust=True))
    (output,) = traced.answer({traced.signature.inputs[0].name: np.ones((1, 4), np.float32)}).values()
    np.testing.assert_array_equal(output, [[2, 2, 2, 2]])


class Forced(keras.Model):
    """Code that calls one of its two dropouts as in training."""

    def __init__(self):
        super().__init__()
        self.calm, self.wild = layers.Dropout(0.5, name="calm"), layers.Dropout(0.5, name="wild")

    def call(self, inputs):
        return self.wild(self.calm(inputs), training=True)


def forced_inside():
    """The same inside of another model. (What Keras' functional models pin, predict() unpins.)"""
    x = keras.Input((4,), name="x")
    return keras.Model(x, layers.Dense(2)(Forced()(x)))


@pytest.mark.parametrize(("make", "named"), [(Forced, ["wild"]), (forced_inside, ["wild"])])
def test_layers_that_are_random_at_inference_are_named(tmp_path, make, named):
    """Of code and nested: the layers that drew numbers, and no others."""
    model = make()
    model(np.ones((1, 4), np.float32))
    assert random_layers.random_layers(model, lambda: model(np.ones((1, 4), np.float32), training=False)) == named
    with pytest.raises(
        ExportError, match=f"asked twice: {' and '.join(map(repr, named))} draws.*without training=True"
    ):
        export(model, tmp_path, name="m", formats=["onnx"])
