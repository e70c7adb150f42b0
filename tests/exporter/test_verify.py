"""Artifacts that differ, processes that die: each is found, and said all at once."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from keraship import bundle
from keraship.errors import BundleError, VerificationError
from keraship.exporter import children, verify
from keraship.exporter.findings import Comparison, Findings
from keraship.exporter.runtime_check import compare
from keraship.exporter.verify import judge


@pytest.fixture
def copy(cnn, tmp_path):
    """A copy of the published version, to be spoilt."""
    return shutil.copytree(cnn, tmp_path / "cnn" / "1")


def only(folder, format_):
    """Leave one artifact in a version's manifest, with the digests of the files as they are now."""
    manifest = bundle.read_manifest(folder)
    artifact = manifest.artifact(format_)
    renewed = dataclasses.replace(artifact, files=bundle.file_entries(folder, *artifact.files))
    golden = bundle.file_entry(folder / bundle.GOLDEN)
    bundle.write_manifest(folder, dataclasses.replace(manifest, artifacts=(renewed,), golden=golden))


def test_a_published_version_is_proven_again(cnn, keraship):
    """Every artifact is run once more; by the model's folder too; --json holds what was measured."""
    done = keraship("verify", cnn.parent, "--json")
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed["verdict"] == "equal"
    assert [artifact["format"] for artifact in printed["artifacts"]] == ["saved_model", "onnx"]


def test_changed_and_missing_files_are_all_named(copy, keraship):
    """One sentence holds both; exit status 1."""
    (copy / bundle.ONNX).write_bytes(b"something else")
    (copy / bundle.WARMUP).unlink()
    done = keraship("verify", copy)
    assert done.returncode == 1
    assert "model.onnx was changed" in done.stderr
    assert "tf_serving_warmup_requests cannot be read" in done.stderr


def test_other_answers_are_found(copy):
    """Every batch size that differs is named with its shape, its error and the tolerance."""
    inputs, outputs = bundle.read_golden(copy)
    bundle.write_golden(copy, inputs, {"scores": outputs["scores"] + 0.01})
    only(copy, "onnx")
    with pytest.raises(VerificationError) as caught:
        verify(copy)
    for part in ("'scores' [1, 3] at 1 rows", "'scores' [8, 3] at 8 rows", "differs by 0.01", "1e-05 is allowed"):
        assert part in str(caught.value)


def test_other_names_are_found(copy):
    """An artifact whose outputs are called otherwise is no artifact of this signature."""
    raw = (copy / bundle.MANIFEST).read_text()
    (copy / bundle.MANIFEST).write_text(raw.replace('"scores"', '"points"'))
    only(copy, "onnx")
    with pytest.raises(VerificationError, match="expected the outputs points; got scores"):
        verify(copy)


def test_an_artifact_that_cannot_be_loaded_is_found(copy):
    """What the runtime said stands in the message."""
    (copy / bundle.ONNX).write_bytes(b"no model")
    only(copy, "onnx")
    with pytest.raises(VerificationError, match=r"checked onnx ended with 1: .*InvalidProtobuf"):
        verify(copy)


def test_a_process_that_hangs_or_is_killed_is_found(copy, monkeypatch):
    """It is ended when its time is up."""
    only(copy, "onnx")
    monkeypatch.setattr(children, "TIMEOUT", 0.01)
    with pytest.raises(VerificationError, match="ended by signal 9, or ran for more than"):
        verify(copy)


def test_a_folder_without_versions_is_refused(tmp_path):
    """BundleError, as everywhere."""
    with pytest.raises(BundleError, match="expected versions"):
        verify(tmp_path)


def test_judge_names_every_fault():
    """Faults, mismatches and answers that do not repeat; numbers that are none are never within a tolerance."""
    comparisons = (
        Comparison(1, "a", (1, 2), 1e-7, 1.0),
        Comparison(2, "b", (2, 2), float("inf"), 1.0),
        Comparison(7, "c", (7,), float("nan"), 1.0),
    )
    faults = judge(Findings(0.1, ("odd",), comparisons, repeat_error=0.5, row_error=None), 1e-5)
    assert [fault.split()[0] for fault in faults] == ["odd", "output", "output", "asked"]


@pytest.mark.parametrize(
    ("expected", "got", "error"),
    [
        (np.zeros((2, 2)), np.full((2, 2), 1e-3), 1e-3),
        (np.full((2, 2), 100.0), np.full((2, 2), 101.0), 0.01),
        (np.array([np.nan, 1.0]), np.array([np.nan, 1.0]), 0.0),
        (np.array([np.nan, 1.0]), np.array([0.0, 1.0]), np.inf),
        (np.array([1.0, 1.0]), np.array([np.nan, 1.0]), np.inf),
        (np.array([np.inf]), np.array([-np.inf]), np.inf),
        (np.ones(2), np.ones(3), np.inf),
        (np.ones(2), np.ones(2, np.float32), np.inf),
        (np.array([b"a", b"bc"], object), np.array([b"a", b"bd"], object), np.inf),
        (np.array([], np.float32), np.array([], np.float32), 0.0),
        (np.array([True]), np.array([False]), np.inf),
    ],
)
def test_compare(expected, got, error):
    """Errors are relative to the output's largest value; shapes, dtypes, texts and NaNs must agree."""
    (comparison,) = compare({"x": expected}, {"x": got}, len(expected))
    assert comparison.max_rel == pytest.approx(error)


def test_an_output_that_is_missing_differs():
    """Nothing is compared by absence."""
    (comparison,) = compare({"x": np.ones(2)}, {}, 2)
    assert comparison.max_abs == np.inf


def test_blocked_modules_cannot_be_imported(python):
    """Where artifacts are checked, neither Keras nor the model's own modules can be had."""
    program = """
        from keraship.exporter.runtime_check import block
        block(["keras", "doubling"])
        for name in ("keras", "keras.layers", "doubling"):
            try:
                __import__(name)
            except ImportError:
                print("blocked")
    """
    assert python(program).split() == ["blocked"] * 3
