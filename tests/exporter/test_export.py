"""The export as a whole: odd models, targets that refuse, processes that are killed."""

import json

import numpy as np
import pytest

from keraship import bundle
from keraship.errors import BundleError, DataError, ExportError, VersionExists
from keraship.exporter import export
from keraship.quiet import import_keras
from keraship.samples import Samples
from keraship.signature import Signature, TensorSpec

import_keras()

import doubling  # noqa: E402  # TensorFlow's chatter first
import keras  # noqa: E402
from keras import layers  # noqa: E402

from keraship.exporter.warmup import write_warmup  # noqa: E402  # imports TensorFlow


def coded():
    """A subclassed model that knows its inputs from one call."""
    model = doubling.Coded()
    model({"left": np.ones((2, 4), np.float32), "right": np.ones((2, 3), np.float32)})
    return model


def attention():
    """Custom layer, attention of open length, several outputs, names that graphs give their own nodes."""
    tokens = keras.Input((None, 4), name="Const 0")
    hidden = doubling.Doubling()(layers.MultiHeadAttention(2, 3, name="MatMul_0")(tokens, tokens))
    return keras.Model(
        tokens, [layers.LayerNormalization(name="Mul_0")(hidden), layers.Dense(2, activation="gelu")(hidden)]
    )


def half():
    """A model that computes in float16, with an unused input."""
    left, unused = keras.Input((6,), name="left"), keras.Input((2,), name="unused")
    hidden = layers.Dense(8, dtype="mixed_float16")(left)
    return keras.Model({"left": left, "unused": unused}, {"out": layers.Dense(3, dtype="float32")(hidden)})


ODD = {
    "coded": (coded, ["left", "right"], ["left_1", "sum"], 1e-5),
    "attention": (attention, ["Const_0"], ["Mul_0", "dense"], 1e-5),
    "half": (half, ["left", "unused"], ["out"], 1e-2),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_models_become_equal_artifacts(tmp_path, name):
    """Subclassed, attention, custom layers, half precision: SavedModel and ONNX answer as Keras does."""
    make, inputs, outputs, tolerance = ODD[name]
    keras.backend.clear_session()
    exported = export(make(), tmp_path, name=name)
    signature = exported.manifest.signatures["serving_default"]
    assert [spec.name for spec in signature.inputs] == inputs
    assert [spec.name for spec in signature.outputs] == outputs
    assert [artifact.parity.tolerance for artifact in exported.manifest.artifacts] == [tolerance] * 2
    assert exported.folder == tmp_path / name / "1"


def test_lookup_tables_are_written_into_the_saved_model(tmp_path):
    """A string model with a vocabulary answers alike where neither Keras nor its table exists."""
    words = keras.Input((1,), dtype="string", name="words")
    model = keras.Model(words, layers.StringLookup(vocabulary=["the", "fox"], name="indices")(words))
    exported = export(model, tmp_path, name="words", formats=["saved_model"])
    assert exported.manifest.artifacts[0].parity.max_abs_error == 0
    inputs, outputs = bundle.read_golden(exported.folder)
    assert (outputs["indices"] > 0).any()
    assert inputs["words"].dtype == object


def test_operations_that_onnx_has_not_are_named(tmp_path, caplog):
    """A string model is refused as ONNX, by the name of the operation, in one sentence; nothing is published."""
    words = keras.Input((1,), dtype="string", name="words")
    model = keras.Model(words, layers.Hashing(7, name="buckets")(words))
    with pytest.raises(ExportError, match=r"StringToHashBucketFast in the layer 'buckets'.*--formats saved_model"):
        export(model, tmp_path / "repo", name="words", formats=["onnx"])
    assert not (tmp_path / "repo").exists()
    assert caplog.text == ""


def test_a_full_disk_is_one_sentence(tmp_path):
    """TensorFlow's writer has errors of its own."""
    (tmp_path / bundle.WARMUP).parent.mkdir()
    (tmp_path / bundle.WARMUP).symlink_to("/dev/full")
    signature = Signature((TensorSpec("x", "float32", (None,)),), ())
    with pytest.raises(BundleError, match=r"cannot write the warm-up requests: .*No space left"):
        write_warmup(tmp_path, "m", signature, [{"x": np.zeros(1, np.float32)}])


def test_rows_that_depend_on_each_other_are_recorded(tmp_path):
    """A model that subtracts the batch's mean is equal at every batch size, and not row independent."""
    x = keras.Input((4,), name="x")
    model = keras.Model(x, x - keras.ops.mean(x, axis=0, keepdims=True))
    exported = export(model, tmp_path, name="centred", formats=["onnx"])
    assert not exported.manifest.artifacts[0].row_independent


def test_names_and_data_in_memory(tmp_path):
    """inputs= and outputs= replace the layers' names; evaluate= takes Samples."""
    model = keras.Sequential([keras.Input((4,)), layers.Dense(1, activation="sigmoid")])
    data = Samples({"anything": np.random.default_rng(0).random((20, 4))}, np.arange(20) % 2)
    exported = export(
        model, tmp_path, name="m", inputs=["features"], outputs=["score"], evaluate=data, formats=["onnx"]
    )
    assert str(exported.manifest.signatures["predict"]) == "(features: float32 [-1,4]) -> (score: float32 [-1,1])"
    assert exported.manifest.artifacts[0].quality == exported.manifest.source.quality


class Restless(layers.Layer):
    """Random at inference too."""

    def call(self, inputs):
        return inputs + keras.random.normal(keras.ops.shape(inputs))


def test_a_model_that_answers_at_random_is_refused(tmp_path):
    """No artifact could be proven equal to it."""
    x = keras.Input((4,))
    with pytest.raises(ExportError, match="differs when it is asked twice"):
        export(keras.Model(x, Restless()(x)), tmp_path, name="m", formats=["onnx"])


def test_a_model_of_unknown_inputs_is_refused(tmp_path):
    """The message says what to do."""
    with pytest.raises(ExportError, match="call it once on a batch"):
        export(keras.Sequential([layers.Dense(2)]), tmp_path, name="m", formats=["onnx"])


def test_what_is_no_model_is_refused(tmp_path):
    """Named by its type."""
    with pytest.raises(ExportError, match=r"expected a keras\.Model .*; got int"):
        export(42, tmp_path, formats=["onnx"])


def test_a_graph_past_the_limit_is_refused(tmp_path, monkeypatch):
    """Protobuf messages end at 2 GB; here at 100 bytes."""
    from keraship.exporter import freeze

    monkeypatch.setattr(freeze, "LIMIT", 100)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(9)])
    with pytest.raises(ExportError, match="GB"):
        export(model, tmp_path, name="m", formats=["onnx"])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"formats": ["tflite9"]}, ExportError, "out of saved_model, onnx, tflite; got tflite9"),
        ({"formats": []}, ExportError, "got none"),
        ({"name": "no/name"}, BundleError, "model name"),
        ({"version": 1}, VersionExists, "versions are never changed"),
        ({"evaluate": "nowhere.npz"}, DataError, "no such file"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(cnn, models, options, error, message):
    """Each with its own class and a sentence; the repository stays as it is."""
    before = sorted(cnn.parent.iterdir())
    with pytest.raises(error, match=message):
        export(models / "cnn.keras", cnn.parent.parent, **{"formats": ["onnx"], **options})
    assert sorted(cnn.parent.iterdir()) == before


def test_data_that_does_not_fit_is_refused(models, tmp_path):
    """Rows of another shape are named, not broadcast."""
    with pytest.raises(DataError, match=r"expects float32 \[-1,8,8,1\]"):
        export(models / "cnn.keras", tmp_path, formats=["onnx"], evaluate=Samples({"images": np.ones((9, 4))}))


def test_an_existing_version_is_refused_before_tensorflow_is_imported(cnn, models, python):
    """The answer comes at once."""
    program = """
        import sys
        from keraship.errors import VersionExists
        from keraship.exporter import export
        try:
            export(sys.argv[1], sys.argv[2], name="cnn", version=1)
        except VersionExists:
            print("tensorflow" in sys.modules)
    """
    assert python(program, models / "cnn.keras", cnn.parent.parent).strip() == "False"


def test_a_target_that_cannot_be_written_is_refused(models, tmp_path):
    """A file stands where the repository should be; a file system takes no folder."""
    (tmp_path / "repo").write_text("")
    with pytest.raises(BundleError, match="is a file"):
        export(models / "cnn.keras", tmp_path / "repo", formats=["onnx"])
    with pytest.raises(BundleError, match="cannot write a version into"):
        export(models / "cnn.keras", "/proc/repo", formats=["onnx"])


def test_the_command_prints_the_manifest(models, keraship, tmp_path):
    """--import, --name, --outputs and --json together, on a model with a layer of its own."""
    done = keraship(
        *("export", models / "custom.keras", "--to", tmp_path, "--name", "m", "--outputs", "twice"),
        *("--import", "doubling", "--formats", "onnx", "--json"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    printed = json.loads(done.stdout)
    assert (printed["name"], printed["version"]) == ("m", "1")
    assert printed["manifest"]["signatures"]["predict"]["outputs"][0]["name"] == "twice"
    assert keraship("inspect", tmp_path / "m").stdout.count("twice: float32 [-1,2]") == 2


def test_the_command_names_formats_that_it_has_not(models, keraship, tmp_path):
    """Wrong usage, exit status 2."""
    done = keraship("export", models / "cnn.keras", "--to", tmp_path, "--formats", "saved_model,gguf")
    assert done.returncode == 2
    assert "got 'gguf'" in done.stderr
