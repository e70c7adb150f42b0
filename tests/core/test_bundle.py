"""The model repository: versions, manifests, golden samples, and publishing that nothing can half do."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from keraship import bundle
from keraship.bundle import Artifact, FileEntry, Manifest, Parity, Quality, Source, stage
from keraship.errors import BundleError, VersionExists
from keraship.signature import Signature, TensorSpec

SIGNATURE = Signature(
    inputs=(TensorSpec("images", "float32", (None, 8, 8, 1), tensor="images:0"),),
    outputs=(TensorSpec("scores", "float32", (None, 10)), TensorSpec("anything", "string", None)),
)


@pytest.fixture
def manifest() -> Manifest:
    entry = FileEntry(bytes=3, sha256="ab" * 32)
    artifact = Artifact(
        format="onnx",
        files={"model.onnx": entry},
        load_seconds=0.1,
        parity=Parity(1e-7, 2e-7, 1e-5, agreement=1.0, batch_sizes=(1, 2, 7)),
        row_independent=True,
        latency_ms={"1": 0.2},
        quality=Quality("accuracy", 0.98, 0.96, 0.99, samples=360),
        opset=18,
    )
    source = Source("best.keras", "cd" * 32, "Functional", weights_bytes=1000)
    return Manifest(source, {"serving_default": SIGNATURE}, (artifact,), golden=entry, tools={"keraship": "0.1.0"})


def test_a_manifest_is_read_back_as_it_was_written(tmp_path: Path, manifest: Manifest) -> None:
    """Everything survives, unknown shapes and ranks included."""
    bundle.write_manifest(tmp_path, manifest)
    assert bundle.read_manifest(tmp_path) == manifest


def test_the_same_manifest_gives_the_same_bytes(tmp_path: Path, manifest: Manifest) -> None:
    """Whatever order its tables were filled in."""
    twin = dataclasses.replace(manifest, tools={"b": "2", "a": "1"})
    other = dataclasses.replace(manifest, tools={"a": "1", "b": "2"})
    written = []
    for name, value in (("one", twin), ("two", other)):
        (tmp_path / name).mkdir()
        bundle.write_manifest(tmp_path / name, value)
        written.append((tmp_path / name / bundle.MANIFEST).read_bytes())
    assert written[0] == written[1]


def test_the_shipped_schema_is_the_classes_schema_and_describes_a_manifest(tmp_path: Path, manifest: Manifest) -> None:
    """manifest.schema.json can't drift, and a validator that knows only it accepts what we write."""
    shipped = json.loads((Path(bundle.__file__).parent / "manifest.schema.json").read_text())
    assert shipped == bundle.manifest_schema(), "run `make schema`"
    bundle.write_manifest(tmp_path, manifest)
    jsonschema.validate(json.loads((tmp_path / bundle.MANIFEST).read_text()), shipped)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "No such file"),
        (b"", "not a manifest of format 1"),
        (b"[" * 100_000, "not a manifest of format 1"),
        (b"\xff\xfe", "not a manifest of format 1"),
        (b'{"format_version": 1}', "missing required field `source`"),
        (b'{"format_version": 9, "other": 1}', "has format version 9"),
        (b'{"format_version": "x"}', "Expected `int`, got `str`"),
    ],
)
def test_a_broken_manifest_is_one_sentence(tmp_path: Path, content: bytes | None, says: str) -> None:
    """Missing, empty, nested, not text, incomplete, from the future, of another type."""
    (tmp_path / "keraship").mkdir()
    if content is not None:
        (tmp_path / bundle.MANIFEST).write_bytes(content)
    with pytest.raises(BundleError, match=says) as caught:
        bundle.read_manifest(tmp_path)
    assert "\n" not in str(caught.value)


def test_golden_samples_of_every_kind_come_back(tmp_path: Path) -> None:
    """Numbers, strings with a NUL at the end, and types that .npy does not know."""
    import ml_dtypes

    inputs = {
        "numbers": np.arange(6, dtype=np.float32).reshape(2, 3),
        "words": np.array([[b"a\0", b""], [b"\xff", b"word"]], object),
        "half": np.array([1, 2], ml_dtypes.bfloat16),
    }
    entry = bundle.write_golden(tmp_path, inputs, {"scalar": np.float64(3)})
    assert entry == bundle.file_entry(tmp_path / bundle.GOLDEN)
    read, outputs = bundle.read_golden(tmp_path)
    assert read.keys() == inputs.keys()
    for name, array in inputs.items():
        assert read[name].dtype == array.dtype
        assert np.array_equal(read[name], array)
    assert outputs["scalar"].shape == ()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half a zip", b"no zip at all"])
def test_broken_golden_samples_are_one_error(tmp_path: Path, content: bytes) -> None:
    """A file that is no .npz never shows numpy's own errors."""
    (tmp_path / "keraship").mkdir()
    (tmp_path / bundle.GOLDEN).write_bytes(content)
    with pytest.raises(BundleError, match="expected golden samples"):
        bundle.read_golden(tmp_path)


def test_golden_samples_have_reproducible_bytes(tmp_path: Path) -> None:
    """No time stamp is stored: the same arrays give the same digest."""
    digests = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        digests.add(bundle.write_golden(tmp_path / name, {"x": np.zeros(3)}, {"y": np.ones(3)}).sha256)
        time.sleep(2.1)  # a zip archive counts time in steps of two seconds
    assert len(digests) == 1


def test_versions_are_read_as_tensorflow_serving_reads_them(tmp_path: Path) -> None:
    """Numbers with leading zeros count; hidden, non-numeric and oversized names do not."""
    for name in ("1", "00000123", "2", "x3", ".staging-4", "-5", "99999999999999999999", "1_0", "٣"):
        (tmp_path / name).mkdir()
    (tmp_path / "7").write_text("a file")
    assert list(bundle.versions(tmp_path)) == [1, 2, 123]
    assert bundle.latest(tmp_path).name == "00000123"
    assert bundle.versions(tmp_path / "missing") == {}


def test_a_path_means_a_version_or_the_latest_of_a_model(tmp_path: Path) -> None:
    """`keraship verify repo/digits` and `keraship verify repo/digits/1` both name a version."""
    for version in ("1", "10", "9"):
        _publish(tmp_path, version=int(version))
    assert bundle.resolve(tmp_path / "digits").name == "10"
    assert bundle.resolve(tmp_path / "digits/9").name == "9"
    assert bundle.model_names(tmp_path) == ["digits"]
    with pytest.raises(BundleError, match="there is no such folder"):
        bundle.resolve(tmp_path / "nothing")
    with pytest.raises(BundleError, match="found none"):
        bundle.resolve(tmp_path)


def test_a_version_is_numbered_when_it_is_published(tmp_path: Path) -> None:
    """Two exports at once get two numbers; neither sees the other's folder."""
    with stage(tmp_path, "digits") as first, stage(tmp_path, "digits") as second:
        (first.folder / "model.onnx").write_text("first")
        (second.folder / "model.onnx").write_text("second")
        assert bundle.versions(tmp_path / "digits") == {}
    assert second.published == tmp_path / "digits/1"
    assert first.published == tmp_path / "digits/2"
    assert sorted(os.listdir(tmp_path / "digits")) == ["1", "2"]
    assert (tmp_path / "digits/2/model.onnx").read_text() == "first"


def test_an_existing_version_is_refused_before_any_work(tmp_path: Path) -> None:
    """The block is not entered, and the version stays as it was."""
    _publish(tmp_path, version=3)
    with pytest.raises(VersionExists, match="digits/3 exists"), stage(tmp_path, "digits", 3):
        pytest.fail("the work has begun")


def test_a_version_that_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    """Not even an empty folder, which a rename would replace without a word."""
    with pytest.raises(VersionExists), stage(tmp_path, "digits", 1) as staging:
        (staging.folder / "model.onnx").write_text("mine")
        (tmp_path / "digits/1").mkdir()
    assert os.listdir(tmp_path / "digits") == ["1"]
    assert os.listdir(tmp_path / "digits/1") == []


def test_a_failed_block_leaves_nothing(tmp_path: Path) -> None:
    """Neither the staging folder nor the folders that were made for it."""
    with pytest.raises(RuntimeError), stage(tmp_path / "repo/deep", "digits") as staging:
        (staging.folder / "model.onnx").write_text("half")
        raise RuntimeError
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "version", "says"),
    [
        ("", None, "expected a model name"),
        ("../escape", None, "expected a model name"),
        ("a/b", None, "expected a model name"),
        (".hidden", None, "expected a model name"),
        ("a:b", None, "expected a model name"),
        ("digits", -1, "expected a version from 0"),
        ("digits", 2**63, "expected a version from 0"),
    ],
)
def test_bad_targets_are_refused(tmp_path: Path, name: str, version: int | None, says: str) -> None:
    """No name leads out of the repository, or to a version that TensorFlow Serving could not read."""
    with pytest.raises(BundleError, match=says), stage(tmp_path / "repo", name, version):
        pytest.fail("the work has begun")
    assert not (tmp_path / "repo").exists()


def test_a_repository_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """And the file is untouched."""
    (tmp_path / "repo").write_text("mine")
    with pytest.raises(BundleError, match="is a file"), stage(tmp_path / "repo", "digits"):
        pytest.fail("the work has begun")
    assert (tmp_path / "repo").read_text() == "mine"


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    """Its error names no file, so it is known by its number; nothing is left."""
    with (
        pytest.raises(BundleError, match=r"cannot write a version into .*repo/m: No space left on device"),
        bundle.stage(tmp_path / "repo", "m"),
        Path("/dev/full").open("wb", buffering=0) as full,
    ):
        full.write(b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_of_the_next_version_is_named(tmp_path: Path) -> None:
    """It is no version, so the next number would be the same for ever."""
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits/1").write_text("a file")
    with pytest.raises(BundleError, match="a file of that name is in the way"):
        _publish(tmp_path)


def test_what_a_killed_export_left_is_swept_by_the_next(tmp_path: Path) -> None:
    """But never the staging folder of an export that is still at work."""
    killed = _start_export_that_hangs(tmp_path)
    living = _start_export_that_hangs(tmp_path)
    try:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert len(list((tmp_path / "digits").glob(".staging-*"))) == 2
        _publish(tmp_path)
        left = list((tmp_path / "digits").glob(".staging-*"))
        assert [str(living.pid) in folder.name for folder in left] == [True]
        assert list(bundle.versions(tmp_path / "digits")) == [1]
    finally:
        living.kill()
        living.wait()


def test_a_changed_file_of_a_version_is_named(tmp_path: Path, manifest: Manifest) -> None:
    """Missing and altered files both, each in a sentence."""
    (tmp_path / "model.onnx").write_bytes(b"123")
    files = bundle.file_entries(tmp_path, "model.onnx")
    manifest = dataclasses.replace(
        manifest,
        artifacts=(dataclasses.replace(manifest.artifacts[0], files=files),),
        golden=bundle.write_golden(tmp_path, {}, {}),
    )
    assert bundle.changed_files(tmp_path, manifest) == []
    (tmp_path / "model.onnx").write_bytes(b"124")
    (tmp_path / bundle.GOLDEN).unlink()
    assert [fault.split(" ", 1)[0] for fault in bundle.changed_files(tmp_path, manifest)] == [
        bundle.GOLDEN,
        "model.onnx",
    ]


def _publish(repository: Path, version: int | None = None) -> None:
    with stage(repository, "digits", version) as staging:
        (staging.folder / "model.onnx").write_text("a model")


def _start_export_that_hangs(repository: Path) -> subprocess.Popen[str]:
    code = (
        "import sys, time; from pathlib import Path; from keraship.bundle import stage\n"
        "with stage(Path(sys.argv[1]), 'digits') as staging:\n"
        "    (staging.folder / 'half').write_text('x'); print('staged', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(repository)], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "staged\n"
    process.stdout.close()
    return process


def fill(stagings: dict[str, bundle.Staging]) -> None:
    for staging in stagings.values():
        (staging.folder / bundle.ONNX).write_bytes(b"model")


def test_versions_that_belong_together_get_one_number(tmp_path: Path) -> None:
    """Higher than any version of any of them, so that a variant's number is its model's."""
    (tmp_path / "m-int8" / "4").mkdir(parents=True)
    with bundle.stage_all(tmp_path, ["m", "m-int8"]) as stagings:
        fill(stagings)
    assert [staging.published for staging in stagings.values()] == [tmp_path / "m" / "5", tmp_path / "m-int8" / "5"]
    assert bundle.model_names(tmp_path) == ["m", "m-int8"]


def test_what_is_dropped_leaves_no_trace(tmp_path: Path) -> None:
    """Neither a version nor a folder."""
    with bundle.stage_all(tmp_path, ["m", "m-int8"]) as stagings:
        fill(stagings)
        stagings["m-int8"].dropped = True
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    assert stagings["m-int8"].published is None


def test_versions_that_belong_together_are_published_all_or_none(tmp_path: Path) -> None:
    """Something in the way of the second takes the first back."""
    with pytest.raises(BundleError), bundle.stage_all(tmp_path, ["m", "m-int8"]) as stagings:
        fill(stagings)
        (tmp_path / "m-int8" / "1").write_text("a file in the way")
    assert bundle.versions(tmp_path / "m") == {}
    with pytest.raises(VersionExists):
        (tmp_path / "n-int8" / "2").mkdir(parents=True)
        with bundle.stage_all(tmp_path, ["n", "n-int8"], 2):
            raise AssertionError("not reached")
    assert not (tmp_path / "n").exists()
