from __future__ import annotations

import functools
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from keraship.bundle import FileEntry
from keraship.errors import DataError
from keraship.models.classification_scores import classification_scores
from keraship.models.evaluate import Evaluation, Result, agreement
from keraship.models.evaluation_report import METRICS, check_folder, write_report
from keraship.models.predictions import Predictions
from keraship.models.segmentation_scores import segmentation_scores

NASTY = ("$x$", "_hidden", "<script>alert(1)</script>", 'quote"&amp;', "猫")


@functools.cache
def evaluation(*sources: str, segmentation: bool = False, classes: tuple[str, ...] = NASTY) -> Evaluation:
    """A real evaluation of random answers."""
    random = np.random.default_rng(0)
    shape = (20, 6, 6) if segmentation else (60,)
    truth = random.integers(0, len(classes) - 1, shape)  # nothing is of the last class
    judge: Any = segmentation_scores if segmentation else classification_scores
    asked = [Predictions(truth, random.dirichlet(np.ones(len(classes)), shape), classes, source) for source in sources]
    return Evaluation(
        data=Path("test.npz"),
        data_file=FileEntry(1, "ab"),
        rows=len(truth),
        task="segmentation" if segmentation else "classification",
        classes=classes,
        results=tuple(Result(each.source, "Keras model", each, judge(each)) for each in asked),
        agreements=tuple(agreement(asked[0], other) for other in asked[1:]),
    )


class _References(HTMLParser):
    """Every attribute that could make a browser fetch something, and every script."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.found += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]


def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    """Pictures are inside, nothing is fetched, and names of classes and files are text, never markup."""
    page = write_report(evaluation("a.keras", "<b>b</b>"), tmp_path).read_text(encoding="utf-8")
    references = _References()
    references.feed(page)
    assert len(references.found) == 8
    assert all(value.startswith("data:image/png;base64,") for value in references.found)
    assert references.scripts == 0
    assert not re.search(r"url\(|@import|https?:", page)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "&lt;b&gt;b&lt;/b&gt;" in page
    assert "Left out, for the data has nothing of them: 猫" in page


def test_the_numbers_on_disk(tmp_path: Path) -> None:
    """evaluation.json holds what was measured, as plain JSON without NaN, and names pictures that are there."""
    made = evaluation("a.keras", "b.keras")
    write_report(made, tmp_path)
    found = json.loads((tmp_path / "evaluation.json").read_text(), parse_constant=lambda _: pytest.fail("no JSON"))
    assert (found["task"], found["data"]["rows"], found["classes"]) == ("classification", 60, list(NASTY))
    for source, result in zip(found["sources"], made.results, strict=True):
        assert source["metrics"]["accuracy"]["value"] == result.scores.metrics["accuracy"].value
        assert source["confusion"] == result.scores.confusion.tolist()
        assert source["left_out"] == ["猫"]
        assert set(source["curves"]) == set(NASTY[:-1])
        assert source["curves"]["$x$"]["precision_recall"]["recall"][-1] == 0
        for name in source["plots"].values():
            with Image.open(tmp_path / name) as picture:
                assert picture.format == "PNG"
    assert set(found["metrics"]) == set(made.results[0].scores.metrics) <= set(METRICS)
    assert found["agreements"][0]["max_score_difference"] > 0


def test_segmentation(tmp_path: Path) -> None:
    """Masks have a page, an overlap and a confusion picture."""
    page = write_report(evaluation("a.keras", segmentation=True), tmp_path)
    assert "mean IoU" in page.read_text()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"evaluation.json", "report.html", "overlap.png", "confusion.png"}


def test_many_classes(tmp_path: Path) -> None:
    """Thirty classes can be drawn: the worst curves, and a confusion without numbers."""
    page = write_report(evaluation("a.keras", classes=tuple(f"class {n}" for n in range(30))), tmp_path)
    assert page.stat().st_size > 10_000


def test_a_folder_with_something_in_it(tmp_path: Path) -> None:
    """It is refused and left as it is; with overwrite, the earlier evaluation goes and other files stay."""
    write_report(evaluation("a.keras", "b.keras", segmentation=True), tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "my-roc.png").write_text("mine")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(DataError, match=r"expected an empty folder.*--overwrite"):
        write_report(evaluation("c.keras", segmentation=True), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    (tmp_path / ".writing-abc").mkdir()  # left behind by a killed process
    write_report(evaluation("c.keras", segmentation=True), tmp_path, overwrite=True)
    written = {"overlap.png", "confusion.png", "evaluation.json", "report.html"}
    assert {path.name for path in tmp_path.iterdir()} == written | {"notes.txt", "my-roc.png"}
    assert json.loads((tmp_path / "evaluation.json").read_text())["sources"][0]["source"] == "c.keras"


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    """A file in its place is one sentence, before anything is asked."""
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DataError, match=r"expected a folder that can be written to; .*take another --out"):
            check_folder(folder, overwrite=False)


def test_a_report_that_fails_leaves_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is one sentence; the earlier evaluation stays whole."""
    write_report(evaluation("a.keras", segmentation=True), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DataError, match="No space left on device"):
        write_report(evaluation("b.keras", segmentation=True), tmp_path, overwrite=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
