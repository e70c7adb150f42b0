"""What a person sees of a real export: the table, the versions' pages, and what was refused."""

import json

import pytest
from click.testing import CliRunner

from keraship import bundle
from keraship.exporter import command, gate
from keraship.exporter.outcome import RefusedError, read_outcome

ARGUMENTS = ("--name", "cnn", "--formats", "saved_model", "--quantize", "float16,weight_only")


@pytest.fixture
def picky(monkeypatch):
    """A gate that refuses weight-only artifacts and no others, whatever this machine's speed is today."""

    def judge(_found, _fidelity, limits):
        return ["it is not liked"] if limits.max_error == gate.MAX_ERRORS["weight_only"] else []

    monkeypatch.setattr(gate, "judge", judge)
    monkeypatch.setitem(gate.MAX_ERRORS, "weight_only", 0.123)


def run(models, labelled, repository, *options):
    arguments = [models / "cnn.keras", "--to", repository, "--evaluate", labelled, *ARGUMENTS, *options]
    return CliRunner().invoke(command.export, [str(argument) for argument in arguments])


@pytest.mark.usefixtures("picky")
def test_a_refused_export_shows_what_was_measured(models, labelled, tmp_path):
    """The table stands above the error, with figures of what was refused; nothing is published."""
    done = run(models, labelled, tmp_path / "repo")
    assert isinstance(done.exception, RefusedError)
    assert "REFUSED weight-only saved_model: it is not liked" in done.output
    assert "float16 saved_model" in done.output
    refused = done.exception.outcome.rows[2]
    assert refused.artifact.bytes > 0
    assert not (tmp_path / "repo").exists()


@pytest.mark.usefixtures("picky")
def test_every_version_has_the_page_of_the_whole_export(models, labelled, tmp_path):
    """Errors, curves and graphs of each artifact, that of the refused one too; the same page with each version."""
    done = run(models, labelled, tmp_path, "--keep-passing", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert {each["scheme"]: each["verdict"] for each in told["verdicts"]}["weight_only"] == "REFUSED"
    assert list(told["variants"]) == ["float16"]
    first, second = tmp_path / "cnn" / "1", tmp_path / "cnn-float16" / "1"
    assert not (tmp_path / "cnn-weight_only").exists()
    assert (first / bundle.REPORT).read_bytes() == (second / bundle.REPORT).read_bytes()
    outcome = read_outcome(first)
    assert [row.verdict for row in outcome.rows].count("BEST") == 1
    for row in outcome.rows:
        assert row.artifact.latency_ms
        assert sum(each.total for each in row.errors) == 40 * 3
        assert row.curves
        assert row.graph.ops["Conv2D"] == 1
    names = {name for block in outcome.graph.blocks for name in block.name.split(", ")}
    assert {"images", "scores"} <= names
    assert any(name.startswith("conv2d") for name in names)
