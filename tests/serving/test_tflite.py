"""TFLite models: which file is run, its signatures, shapes, strings, and several callers at once."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keraship import bundle
from keraship.errors import StatusError
from keraship.serving.backend import BackendOptions, open_backend
from keraship.serving.prediction import PredictCall, predict
from keraship.serving.servable import Servable
from keraship.signature import Signature, TensorSpec

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # TensorFlow's own, at its import

VERSION = "00000123"
X, Y = "serving_default_x", "PartitionedCall"  # as the converter calls the tensors


def opened(folder: Path, **options: Any) -> Servable:
    return Servable("m", 1, open_backend(folder, BackendOptions(**options)))


def ask(servable: Servable, inputs: dict[str, Any], **call: Any) -> dict[str, Any]:
    return predict(servable, PredictCall(inputs=inputs, read=np.asarray, **call)).outputs


def refused(run: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(StatusError) as caught:
        run()
    return caught.value.code, caught.value.details


@pytest.fixture(scope="module")
def plain(saved_models: Path) -> Servable:
    return opened(saved_models / "tflite" / VERSION, tflite_interpreters=2)


def test_tensors_are_called_without_their_index(plain: Servable) -> None:
    signature = plain.backend.signatures["serving_default"]
    assert signature.inputs == (TensorSpec(X, "float32", (None, 1), tensor=f"{X}:0"),)
    assert signature.outputs == (TensorSpec(Y, "float32", (None, 1), tensor=f"{Y}:0"),)
    assert signature.method_name == "tensorflow/serving/predict"


@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (0, 1), (2, 1), (4,), (), (2, 2, 2)])
def test_inputs_are_resized_to_what_comes(plain: Servable, shape: tuple[int, ...]) -> None:
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    np.testing.assert_array_equal(ask(plain, {X: x})[Y], x / 2 + 2)


def test_a_wrong_dtype_is_named(plain: Servable) -> None:
    found = refused(lambda: ask(plain, {X: np.int32([[1]])}))
    assert found == ("INVALID_ARGUMENT", "Expects arg[0] to be float but int32 is provided")


def test_many_callers_at_once(plain: Servable) -> None:
    """Of several shapes; each gets the answer to its own question."""

    def run(number: int) -> bool:
        x = np.full((number % 5 + 1, 1), number, np.float32)
        return np.array_equal(ask(plain, {X: x})[Y], x / 2 + 2)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(run, range(300)))


def test_a_deadline_ends_the_wait_for_an_interpreter(saved_models: Path) -> None:
    servable = opened(saved_models / "tflite" / VERSION, tflite_interpreters=1)
    backend: Any = servable.backend
    with backend._pool.take(None):
        code, _ = refused(lambda: ask(servable, {X: np.float32([[1]])}, timeout=0.01))
    assert code == "DEADLINE_EXCEEDED"
    assert ask(servable, {X: np.float32([[2]])})[Y].tolist() == [[3.0]]


STRINGS = [[b"a\0b", b"\xff", b""], [], [[b"a"], [b"bc\0"]], b"x\0", b""]


@pytest.mark.parametrize("value", STRINGS)
def test_strings_come_back(saved_models: Path, value: Any) -> None:
    servable = opened(saved_models / "tflite_strings" / VERSION)
    sent = np.array(value, object)
    (answer,) = ask(servable, {"serving_default_s": sent}).values()
    assert (answer.shape, answer.tolist()) == (sent.shape, sent.tolist())


def test_signatures_of_the_metadata(saved_models: Path) -> None:
    servable = opened(saved_models / "tflite_with_sigdef" / VERSION)
    assert sorted(servable.backend.signatures) == ["regress", "serving_default"]
    assert ask(servable, {"x": np.float32([[2]])})["y"].tolist() == [[3.0]]
    assert ask(servable, {"inputs": np.float32([[4]])}, signature_name="regress")["outputs"].tolist() == [[4.0]]


FAULTS = [
    ("tflite_broken", "INVALID_ARGUMENT", "Invalid SignatureDefs found in TfLite model: Failed to parse signature def"),
    ("tflite_unknown", "INTERNAL", "Unknown tensor 'nowhere:0'.\n\tSignature input x references an unknown tensor"),
]


@pytest.mark.parametrize(("model", "code", "details"), FAULTS)
def test_metadata_with_a_mistake(saved_models: Path, model: str, code: str, details: str) -> None:
    assert refused(lambda: opened(saved_models / model / VERSION)) == (code, details)


@pytest.mark.parametrize("content", [b"", b"junk" * 100, None], ids=["empty", "junk", "half"])
def test_a_file_that_is_no_model(saved_models: Path, tmp_path: Path, content: bytes | None) -> None:
    whole = (saved_models / "tflite" / VERSION / "model.tflite").read_bytes()
    (tmp_path / "model.tflite").write_bytes(whole[: len(whole) // 2] if content is None else content)
    code, details = refused(lambda: opened(tmp_path))
    assert code == "FAILED_PRECONDITION"
    assert details.startswith(f"TFLite cannot run {tmp_path / 'model.tflite'}: ")


def test_it_is_the_last_choice_unless_it_is_asked_for(saved_models: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved_models / "half_plus_two" / VERSION, tmp_path / "1"))
    shutil.copy(saved_models / "tflite" / VERSION / "model.tflite", folder)
    assert "regress_x_to_y" in opened(folder).backend.signatures
    for options in ({"prefer_tflite": True}, {"kind": "tflite"}):
        assert list(opened(folder, **options).backend.signatures) == ["serving_default"]
    (folder / "model.tflite").unlink()
    assert "regress_x_to_y" in opened(folder, prefer_tflite=True).backend.signatures
    assert refused(lambda: opened(folder, kind="tflite")) == (
        "NOT_FOUND",
        f"Could not find model.tflite at supplied export directory path: {folder}.",
    )


def test_a_version_that_keraship_exported_has_its_manifests_names(saved_models: Path, tmp_path: Path) -> None:
    """As with every other runtime, so that callers see no difference."""
    shutil.copy(saved_models / "tflite" / VERSION / "model.tflite", tmp_path)
    same = Signature((TensorSpec("x", "float32", (None, 1)),), (TensorSpec("y", "float32", (None, 1)),))
    signatures = {
        "serving_default": same,
        "predict": same,
        "another": Signature((TensorSpec("z", "float32", (None, 1)),), (TensorSpec("y", "float32", (None, 1)),)),
    }
    source = bundle.Source(file="m.keras", sha256="", model="Model", weights_bytes=0)
    entry = bundle.FileEntry(bytes=0, sha256="")
    artifact = bundle.Artifact(
        format="tflite",
        files={"model.tflite": entry},
        load_seconds=0,
        parity=bundle.Parity(0, 0, 0, None, (1,)),
        row_independent=True,
        signatures=("serving_default", "predict"),
    )
    bundle.write_manifest(tmp_path, bundle.Manifest(source, signatures, (artifact,), golden=entry, tools={}))
    servable = opened(tmp_path)
    assert sorted(servable.backend.signatures) == ["predict", "serving_default"]
    for name in servable.backend.signatures:
        assert ask(servable, {"x": np.float32([[2]])}, signature_name=name)["y"].tolist() == [[3.0]]


def test_runs_do_not_wait_for_each_other(plain: Servable) -> None:
    """While one interpreter is taken, another answers."""
    backend: Any = plain.backend
    answers: list[Any] = []
    with backend._pool.take(None):
        thread = threading.Thread(target=lambda: answers.append(ask(plain, {X: np.float32([[2]])}, timeout=30)))
        thread.start()
        thread.join(30)
    assert answers[0][Y].tolist() == [[3.0]]
