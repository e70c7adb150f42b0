from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from keraship.errors import DataError, TrainingError
from keraship.models.data import fetch_all, load
from keraship.models.make_data import KINDS, make_data


def keraship(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "keraship", "data", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=100)


def test_digits(tmp_path: Path) -> None:
    """Every digit is a PNG in its class's folder, its 0 to 16 spread over 0 to 255."""
    written = make_data("digits", tmp_path / "photos")
    source = load_digits()
    assert written.rows == len(list((tmp_path / "photos").glob("*/*.png"))) == 1797
    for path in (tmp_path / "photos").glob("*/*.png"):
        number = int(path.stem.removeprefix("digit-"))
        assert int(path.parent.name) == source.target[number]
        if number % 50 == 0:
            np.testing.assert_array_equal(np.asarray(Image.open(path)), np.round(source.images[number] * 255 / 16))
    task = load(tmp_path / "photos", seed=0).task
    assert (task.image_shape, task.classes) == ((8, 8, 1), tuple("0123456789"))


def test_scenes(tmp_path: Path) -> None:
    """Scenes load as three parts; a mask's class is where there is ink, and both classes and parts are as promised."""
    make_data("scenes", tmp_path / "scenes", count=100, seed=3)
    data = load(tmp_path / "scenes", seed=0)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [60, 20, 20]
    assert data.task.classes[:2] == ("background", "digit 0")
    assert (data.task.kind, data.task.image_shape, len(data.task.classes)) == ("segmentation", (32, 32, 1), 11)
    inputs, masks = fetch_all(data.train)
    np.testing.assert_array_equal(masks > 0, inputs["images"][..., 0] >= 96)
    assert {len(set(np.unique(mask)) - {0}) for mask in masks} >= {1, 2, 3}
    assert set(np.unique(masks)) == set(range(11))


def test_text(tmp_path: Path) -> None:
    """A thousand sentences and more, each under one class, none twice."""
    written = make_data("text", tmp_path / "texts")
    assert written.rows >= 1000
    data = load(tmp_path / "texts", seed=0)
    texts = [text for part in (data.train, data.validation, data.test) for text in fetch_all(part)[0]["text"]]
    assert data.task.has_text
    assert data.task.classes == ("asyncio", "email", "http", "logging", "xml")
    assert len(texts) == len(set(texts)) == written.rows


def test_text_can_be_learned(tmp_path: Path) -> None:
    """A plain count of words tells the classes apart far better than chance."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    make_data("text", tmp_path / "texts", count=1000)
    data = load(tmp_path / "texts", seed=0)
    (train, labels), (test, expected) = fetch_all(data.train), fetch_all(data.test)
    model = make_pipeline(TfidfVectorizer(), LogisticRegression(C=10)).fit(train["text"], labels)
    assert model.score(test["text"], expected) > 0.6


def test_tabular(tmp_path: Path) -> None:
    """Scikit-learn's tumours, digit for digit, and a column of words that is derived from one of them."""
    from sklearn.datasets import load_breast_cancer

    make_data("tabular", tmp_path / "table")
    data = load(tmp_path / "table", seed=0)
    kinds = [spec.dtype for spec in data.task.inputs]
    assert (kinds.count("float32"), kinds.count("string"), data.task.classes) == (30, 1, ("benign", "malignant"))
    parts = [fetch_all(part)[0] for part in (data.train, data.validation, data.test)]
    area = np.concatenate([part["mean_area"] for part in parts])
    np.testing.assert_array_equal(np.sort(area), np.sort(load_breast_cancer().data[:, 3].astype(np.float32)))
    band = np.concatenate([part["mean_area_band"] for part in parts])
    tops = [area[band == name].max() for name in ("small", "medium", "large")]
    assert tops == sorted(tops)
    assert np.unique(band, return_counts=True)[1].tolist() == pytest.approx([190, 190, 190], abs=1)


@pytest.mark.parametrize("kind", KINDS)
def test_seed_and_count(kind: str, tmp_path: Path) -> None:
    """One seed gives one set of files, as many rows as asked; another seed another."""

    def files(name: str, seed: int) -> dict[str, bytes]:
        written = make_data(kind, tmp_path / name, count=60, seed=seed)
        assert written.rows == 60
        return {
            str(p.relative_to(tmp_path / name)): p.read_bytes() for p in (tmp_path / name).rglob("*") if p.is_file()
        }

    first = files("a", 1)
    assert first == files("b", 1)
    assert first != files("c", 2)
    data = load(tmp_path / "a", seed=0)
    assert len(data.train) + len(data.validation) + len(data.test) == 60


@pytest.mark.parametrize(("kind", "count"), [("digits", 1798), ("digits", 10), ("text", 10**6), ("tabular", 0)])
def test_counts_that_cannot_be(kind: str, count: int, tmp_path: Path) -> None:
    """Fewer than can be split, and more than there are, are refused with the range; nothing is written."""
    with pytest.raises(DataError, match=rf"a count from \d+ to \d+ of {kind}; got {count}"):
        make_data(kind, tmp_path / "out", count=count)
    assert not list(tmp_path.iterdir())


def test_an_unknown_kind(tmp_path: Path) -> None:
    """It is answered with those that there are."""
    with pytest.raises(TrainingError, match="digits, scenes, text, tabular; got 'digts', did you mean 'digits'"):
        make_data("digts", tmp_path / "out")


def test_a_folder_that_holds_something(tmp_path: Path) -> None:
    """It is refused and left alone; with overwrite it is replaced as a whole; an empty one is taken."""
    out = tmp_path / "out"
    out.mkdir()
    make_data("tabular", out)
    (out / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="holds 2 entries: take another --out, or --overwrite"):
        make_data("tabular", out)
    assert (out / "mine.txt").exists()
    make_data("tabular", out, overwrite=True)
    assert [path.name for path in out.iterdir()] == ["tabular.csv"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_folders_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in the way, a folder that nobody can write to, and the one that one is in."""
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    for out, says in {
        "file": "file is a file",
        "file/below": "expected a folder that can be written to",
        "/proc/self/out": "expected a folder that can be written to",
        ".": "is the one you are in, or above it",
        "..": "is the one you are in, or above it",
    }.items():
        with pytest.raises(DataError, match=says):
            make_data("tabular", Path(out), overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_killed(tmp_path: Path) -> None:
    """A process that is killed leaves no folder in its place, and the next one clears what it was writing."""
    process = subprocess.Popen(
        [sys.executable, "-m", "keraship", "data", "scenes", "--out", "out", "--count", "90000"], cwd=tmp_path
    )
    try:
        while not list(tmp_path.glob(".writing-*/train/masks/*.png")):
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (tmp_path / "out").exists()
    make_data("tabular", tmp_path / "out")
    assert os.listdir(tmp_path) == ["out"]


def test_command(tmp_path: Path) -> None:
    """What was written is said in a line, or as JSON; wrong usage is exit status 2, a full folder 1."""
    done = keraship("digits", "--out", "photos", "--count", "50", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("50 digits in photos, 10 classes: handwritten digits")
    again = keraship("digits", "--out", "photos", cwd=tmp_path)
    assert (again.returncode, again.stdout, again.stderr.count("\n")) == (1, "", 1)
    assert again.stderr.startswith("keraship: expected an empty folder")
    shown = json.loads(keraship("tabular", "--out", "t", "--json", cwd=tmp_path).stdout)
    assert (shown["kind"], shown["path"], shown["rows"], shown["classes"]) == (
        "tabular",
        "t",
        569,
        ["malignant", "benign"],
    )
    assert keraship("images", "--out", "i", cwd=tmp_path).returncode == 2
