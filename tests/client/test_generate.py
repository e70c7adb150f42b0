"""`keraship client generate`: text that a type checker reads, and that asks as it says."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keraship import bundle
from keraship.cli import main
from keraship.client import Client
from keraship.client.generate import generate
from keraship.client.testing import FakeModel, FakeServer
from keraship.errors import InvalidInput
from keraship.signature import Signature, TensorSpec

SIGNATURES = {
    "serving_default": Signature(
        (TensorSpec("images", "float32", (None, 2)), TensorSpec("text", "string", (None,))),
        (TensorSpec("scores", "float32", (None, 2)),),
    ),
    "top-5": Signature((TensorSpec("class", "int64", (None,)),), (TensorSpec("dense/out:0", "bfloat16", None),)),
    "predict": Signature((TensorSpec("1", "bool", ()),), (TensorSpec("1", "qint8", ()), TensorSpec("_1", "int8", ()))),
}

USES = """
import numpy as np
from digits_client import DigitsInt8

def use(model: DigitsInt8) -> None:
    images, whole, text = np.zeros((1, 2), np.float32), np.zeros((1, 2), np.int64), np.array([b"a"], object)
    {use}
"""


def version_dir(folder: Path) -> Path:
    """A version that holds a manifest and golden samples, of the model digits-int8."""
    version = folder / "digits-int8" / "3"
    version.mkdir(parents=True)
    inputs = {"images": np.float32([[1, 2], [3, 4]]), "text": np.array([b"a", b"b"], object)}
    entry = bundle.write_golden(version, inputs, {"scores": np.float32([[0.1, 0.9], [0.8, 0.2]])})
    manifest = bundle.Manifest(
        source=bundle.Source("m.keras", "0", "Model", 0), signatures=SIGNATURES, artifacts=(), golden=entry, tools={}
    )
    bundle.write_manifest(version, manifest)
    return version


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The module's file, from the command."""
    folder = tmp_path_factory.mktemp("generated")
    version_dir(folder / "repo")
    with pytest.raises(SystemExit) as exit_:
        main(["client", "generate", str(folder / "repo/digits-int8"), "-o", str(folder / "digits_client.py")])
    assert not exit_.value.code
    return folder / "digits_client.py"


def check(written: Path, tmp_path: Path, uses: list[str]) -> dict[str, str]:
    """What mypy --strict says of each use, in one run; "" where all is well."""
    for index, use in enumerate(uses):
        (tmp_path / f"use{index}.py").write_text(USES.format(use=use))
    (tmp_path / "digits_client.py").write_text(written.read_text())
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--config-file=", "."]
    env = {"PATH": "", "MYPYPATH": str(root / "src"), "MYPY_CACHE_DIR": str(tmp_path / ".cache")}
    done = subprocess.run(
        [*command, "--explicit-package-bases", "--ignore-missing-imports"],
        cwd=tmp_path, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = dict.fromkeys(uses, "")
    for line in (done.stdout + done.stderr).splitlines():
        for index, use in enumerate(uses):
            if line.startswith(f"use{index}.py"):
                said[use] += line
        assert not line.startswith("digits_client.py"), line
    return said


def test_a_type_checker_finds_wrong_names_and_dtypes(written: Path, tmp_path: Path) -> None:
    """Inputs, outputs, methods, dtypes; what is right passes under --strict."""
    said = check(
        written,
        tmp_path,
        [
            "model.predict(images=images, text=text).scores.sum()",
            "model.top_5(class_=np.zeros(1, np.int64)).dense_out_0",
            "model.predict(image=images, text=text)",
            "model.predict(images=images)",
            "model.predict(images=whole, text=text)",
            "model.predict(images=images, text=text).score",
            "model.top_6(images)",
        ],
    )
    right, wrong = list(said.values())[:2], list(said.values())[2:]
    assert right == ["", ""], right
    kinds = ("call-arg", "call-arg", "arg-type", "attr-defined", "attr-defined")
    assert [kind in text for kind, text in zip(kinds, wrong, strict=True)] == [True] * 5, said


def load(written: Path) -> Any:
    spec = importlib.util.spec_from_file_location("digits_client", written)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["digits_client"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_it_asks_as_it_says_and_the_golden_fake_answers(written: Path) -> None:
    """By the signature's own names; golden rows in any order, others refused."""
    module = load(written)
    model = FakeModel.from_golden(written.parent / "repo/digits-int8", version=3)
    images, text = np.float32([[3, 4], [1, 2]]), np.array([b"b", b"a"], object)
    with FakeServer({"digits-int8": model}) as server:
        with module.DigitsInt8(server.address, timeout=20) as client:
            answer = client.predict(images=images, text=text)
            assert answer.scores.tolist() == np.float32([[0.8, 0.2], [0.1, 0.9]]).tolist()
            assert answer.model_spec.version == 3
            with pytest.raises(Exception, match="row 1 is none of the golden samples"):
                client.predict(images=images, text=text[[0, 0]])
            with pytest.raises(InvalidInput, match="'images' expects float32"):
                client.predict(images=images.astype(np.float64), text=text)
        with Client(server.address) as shared:
            assert module.DigitsInt8(shared).predict(images=images[:1], text=text[:1]).scores.shape == (1, 2)
        call = server.calls[-1]
        assert (call.method, call.model, call.signature_name) == ("Predict", "digits-int8", "serving_default")


def test_a_running_server_is_a_source_too(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same text, save its first line; to stdout without -o."""
    with (
        FakeServer({"digits-int8": FakeModel(signatures=SIGNATURES)}) as server,
        pytest.raises(SystemExit) as exit_,
    ):
        main(["client", "generate", f"{server.address}/digits-int8"])
    assert not exit_.value.code
    printed = capsys.readouterr().out.splitlines()
    own = written.read_text().splitlines()
    assert sorted(printed[1:]) == sorted(own[1:])


def test_what_cannot_be_made_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No such model, no manifest, no signatures, no place to write."""
    version = version_dir(tmp_path)
    for args, says in (
        ([str(tmp_path / "none")], "no such folder"),
        ([str(version), "-o", str(tmp_path / "no/x.py")], "to write the client"),
    ):
        with pytest.raises(SystemExit) as exit_:
            main(["client", "generate", *args])
        assert exit_.value.code == 1
        assert says in capsys.readouterr().err
    with pytest.raises(InvalidInput, match="'m' has none"):
        generate("m", {}, source="x")


@pytest.mark.parametrize("name", ["digits", "3d", "a-b.c_d", "--", "ü"])
def test_every_name_is_an_identifier(name: str) -> None:
    """Of models, signatures, inputs and outputs, however odd; two that come out alike are told apart."""
    odd = Signature(
        tuple(TensorSpec(each, "float32", ()) for each in ("a-b", "a_b", "def", "self", "1", "", "timeout")),
        tuple(TensorSpec(each, "string", None) for each in ("model_spec", "of", "x y")),
    )
    text = generate(name, {name: odd, "serving_default": odd}, source='a "b" \\ c')
    compile(text, "generated", "exec")
