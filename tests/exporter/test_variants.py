"""Quantized variants, from a model that was trained on real digits: made, judged, published together, or not at all."""

import dataclasses

import numpy as np
import pytest
from sklearn.datasets import load_digits

from keraship import bundle
from keraship.errors import DataError, ExportError, VerificationError
from keraship.exporter import export, gate, verify
from keraship.quiet import import_keras

FORMATS = ["saved_model", "onnx", "tflite"]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A folder with digits.keras, and calibrate.npz and test.npz, which it was not trained on."""
    keras = import_keras()
    folder = tmp_path_factory.mktemp("digits")
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8, 1).astype(np.float32) / 16
    keras.utils.set_random_seed(5)
    model = keras.Sequential(
        [
            keras.layers.Input((8, 8, 1), name="images"),
            keras.layers.Conv2D(16, 3, activation="relu", name="edges"),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dense(32, activation="relu", name="hidden"),
            keras.layers.Dense(10, activation="softmax", name="scores"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
    model.fit(images[:1200], labels[:1200], epochs=6, verbose=0)
    model.save(folder / "digits.keras")
    np.savez(folder / "calibrate.npz", images=images[:128])
    np.savez(folder / "test.npz", images=images[1200:], labels=labels[1200:])
    return folder


@pytest.fixture(scope="module", autouse=True)
def anyhow_fast():
    """A model so small takes longer in int8; what is slower is refused in tests/exporter/test_gate.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gate, "SLOWER", float("inf"))
        yield


def exported(digits, to, **options):
    """An export of the digits, calibrated and judged by the digits' data."""
    given = {"calibrate": digits / "calibrate.npz", "evaluate": digits / "test.npz", "max_drop": 3.0}
    return export(digits / "digits.keras", to, **{"formats": ["saved_model"], **given, **options})


@pytest.fixture(scope="module")
def whole(digits, tmp_path_factory):
    """Every format by every scheme."""
    return exported(
        digits,
        tmp_path_factory.mktemp("whole"),
        formats=FORMATS,
        quantize=["int8", "weight_only", "float16", "dynamic"],
    )


def test_every_scheme_is_a_model_of_its_own(whole):
    """All under one version number, each with the formats that know its scheme, and as good as was asked for."""
    assert {scheme: folder.folder.parent.name for scheme, folder in whole.variants.items()} == {
        "int8": "digits-int8",
        "weight_only": "digits-weight_only",
        "float16": "digits-float16",
        "dynamic": "digits-dynamic",
    }
    assert {variant.folder.name for variant in whole.variants.values()} == {"1"}
    made = {scheme: [each.format for each in variant.manifest.artifacts] for scheme, variant in whole.variants.items()}
    assert made == {
        "int8": FORMATS,
        "weight_only": ["saved_model", "onnx"],
        "float16": FORMATS,
        "dynamic": ["onnx", "tflite"],
    }
    for variant in whole.variants.values():
        for artifact in variant.manifest.artifacts:
            assert artifact.drop is not None
            assert artifact.drop.high <= 3.0
            assert artifact.quality is not None
            assert artifact.quality.samples == 597
            assert set(artifact.latency_ratio) == {"1", "8"}


@pytest.mark.parametrize(("scheme", "at_most"), [("int8", 0.45), ("weight_only", 0.45), ("float16", 0.65)])
def test_quantized_files_are_smaller_and_say_what_they_hold(whole, scheme, at_most):
    """The share of the weights, and the ops, that are quantized stand in the manifest."""
    for format_ in ("saved_model", "onnx"):
        artifact, plain = (each.manifest.artifact(format_) for each in (whole.variants[scheme], whole))
        own, float_ = (each.files[min(each.files, key=len)].bytes for each in (artifact, plain))
        assert own < at_most * float_
        assert artifact.coverage.weights_share > 0.9
        assert artifact.coverage.quantized == artifact.coverage.total
        assert sum(artifact.coverage.total.values()) >= 2  # weights too small to be worth it may stay as they are


def test_variants_verify_again_and_tampering_is_found(whole, tmp_path):
    """Each does as it did when it was published; other answers than those are found."""
    variant = whole.variants["int8"].folder
    assert [artifact.format for artifact in verify(variant).artifacts] == FORMATS
    inputs, outputs = bundle.read_golden(variant)
    copy = tmp_path / "1"
    copy.mkdir()
    (copy / bundle.ONNX).write_bytes((variant / bundle.ONNX).read_bytes())
    entry = bundle.write_golden(copy, inputs, {"scores": 1 - outputs["scores"]})
    manifest = bundle.read_manifest(variant)
    artifact = dataclasses.replace(manifest.artifact("onnx"), files=bundle.file_entries(copy, bundle.ONNX))
    bundle.write_manifest(copy, dataclasses.replace(manifest, artifacts=(artifact,), golden=entry))
    with pytest.raises(VerificationError, match="onnx: output 'scores'"):
        verify(copy)


def test_static_int8_keeps_rows_apart_and_dynamic_does_not(whole):
    """A server may batch the one; the other's ranges come from the whole batch."""
    assert all(artifact.row_independent for artifact in whole.variants["int8"].manifest.artifacts)
    assert not any(artifact.row_independent for artifact in whole.variants["dynamic"].manifest.artifacts)


def test_one_refusal_publishes_nothing(digits, tmp_path):
    """The reason stands in the error; the repository is as it was."""
    with pytest.raises(VerificationError, match=r"nothing is published, for int8 saved_model is refused: it loses"):
        exported(digits, tmp_path / "repo", quantize=["int8"], max_drop=-100.0)
    assert not (tmp_path / "repo").exists()


def test_what_passes_is_kept_where_that_is_asked_for(digits, tmp_path):
    """The float model is published, the refused variant is not, and the outcome says why."""
    done = exported(digits, tmp_path, quantize=["int8"], max_drop=-100.0, keep_passing=True)
    assert done.variants == {}
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]
    float_, int8 = done.outcome.rows
    assert (float_.verdict, int8.verdict) == ("BEST", "REFUSED")
    assert "it loses" in int8.reason
    assert not list(done.folder.rglob("*int8*"))


def test_tuning_tries_float_layers_and_publishes_the_fastest(digits, tmp_path):
    """Where int8 loses too much whatever stays float, other schemes are left; at most one variant is published."""
    stages = []
    done = exported(digits, tmp_path, tune=True, max_drop=-100.0, progress=stages.append)
    assert stages.count("write saved_model int8") == 4
    assert done.variants == {}
    done = exported(digits, tmp_path, tune=True, max_drop=100.0)
    assert len(done.variants) <= 1
    assert sum(row.verdict == "BEST" for row in done.outcome.rows) == 1


def test_calibration_data_alone_means_int8(digits, tmp_path):
    """And it is what the model is judged by, where no other data is given."""
    done = export(digits / "digits.keras", tmp_path, formats=["saved_model"], calibrate=digits / "calibrate.npz")
    assert list(done.variants) == ["int8"]
    artifact = done.variants["int8"].manifest.artifacts[0]
    assert artifact.parity.agreement >= 0.97
    assert artifact.quality is None


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"calibrate": None, "quantize": ["int8"]}, ExportError, "--calibrate DATA"),
        ({"quantize": ["int9"]}, ExportError, "got int9"),
        ({"quantize": ["dynamic"]}, ExportError, "a scheme that saved_model can hold; got dynamic"),
        ({"calibrate": "nowhere.npz"}, DataError, "no such file"),
    ],
)
def test_what_cannot_be_quantized_is_said_at_once(digits, tmp_path, options, error, message):
    """Before anything is loaded."""
    with pytest.raises(error, match=message):
        exported(digits, tmp_path, **options)


TWICE = """
    import sys
    from keraship.exporter import export, gate
    gate.SLOWER = float("inf")
    folder, repository = sys.argv[1:]
    formats, schemes = ["saved_model", "onnx", "tflite"], ["int8", "float16"]
    export(f"{folder}/digits.keras", repository, formats=formats, quantize=schemes,
           calibrate=f"{folder}/calibrate.npz", evaluate=f"{folder}/test.npz", max_drop=3)
"""


def test_two_processes_make_the_same_bytes(digits, python, whole, tmp_path):
    """Of every artifact of every variant, in every format, whatever else the process did before."""
    python(TWICE, digits, tmp_path)
    for name in ("digits", "digits-int8", "digits-float16"):
        manifests = [bundle.read_manifest(folder / name / "1") for folder in (tmp_path, whole.folder.parent.parent)]
        own, other = ({each.format: each.files for each in manifest.artifacts} for manifest in manifests)
        assert own == other
        assert manifests[0].golden == manifests[1].golden
