"""`make demo`: what a newcomer sees, and what it leaves behind."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from keraship import bundle


def test_the_demo_prints_the_artifacts_with_their_proof(demo: Any) -> None:
    """Size, load time, parity and accuracy of the SavedModel and the ONNX file."""
    output = demo.done.stdout
    for artifact in ("saved_model", "onnx"):
        assert re.search(rf"{artifact}.*(OK|BEST)", output), output
    for column in ("size", "load", "parity", "accuracy"):
        assert re.search(column, output, re.IGNORECASE), output


def test_the_demo_predicts_ten_digits_mostly_right(demo: Any) -> None:
    """Printed beside the true ones; at least nine of ten are right."""
    rows = re.findall(r"test\[\d+\]\s*\S\s*(\d)\s*\S\s*([\d.]+)\s*\S\s*(\d)", demo.done.stdout)
    assert len(rows) == 10, demo.done.stdout
    assert [true for _, _, true in rows] == list("0123456789")
    assert sum(predicted == true for predicted, _, true in rows) >= 9


def test_the_demo_leaves_no_process(demo: Any) -> None:
    """Every process of its session is gone when it ends."""
    alive = [stat for stat in map(_stat, Path("/proc").glob("[0-9]*")) if stat and stat[1] == demo.session]
    assert alive == []


def test_the_trained_model_is_good(demo: Any) -> None:
    """At least .97 of held-out digits are right, for the model and for each artifact of it."""
    manifest = bundle.read_manifest(bundle.latest(demo.repository / "digits"))
    assert manifest.source.quality
    for quality in (manifest.source.quality, *(artifact.quality for artifact in manifest.artifacts)):
        assert quality
        assert quality.samples >= 300
        assert quality.value >= 0.97


def _stat(process: Path) -> tuple[str, int] | None:
    """The name and the session of a process; None where it has just ended."""
    try:
        stat = (process / "stat").read_text()
    except OSError:
        return None
    name, _, rest = stat.partition("(")[2].rpartition(")")
    return (os.fspath(process) + name, int(rest.split()[3]))
