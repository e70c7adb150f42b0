"""`keraship report` and `keraship inspect` on versions made by hand, and the table that all commands print."""

import json
import os
import pty
import subprocess
import sys
from dataclasses import replace

import numpy as np
import outcomes  # tests/exporter/modules
import pytest
from click.testing import CliRunner
from rich.console import Console

from keraship import bundle
from keraship.bundle import Manifest
from keraship.errors import BundleError, ModelError
from keraship.exporter.inspect_command import inspect
from keraship.exporter.outcome import OUTCOME
from keraship.exporter.report import page, write_report
from keraship.exporter.report_command import report
from keraship.exporter.table import print_outcome


def publish(repository, name, outcome, *, with_report=True):
    """A version whose manifest holds the artifacts of one model of an outcome, and its report."""
    rows = [row for row in outcome.rows if row.model_name == name and row.verdict != "REFUSED"]
    with bundle.stage(repository, name) as staging:
        golden = bundle.write_golden(staging.folder, {"images": np.zeros((1, 2))}, {"scores": np.zeros((1, 2))})
        artifacts = tuple(row.artifact for row in rows)
        manifest = Manifest(outcome.source, outcome.signatures, artifacts, golden, outcome.tools, scheme=rows[0].scheme)
        bundle.write_manifest(staging.folder, manifest)
        if with_report:
            write_report(staging.folder, outcome)
    return staging.published


@pytest.fixture
def repository(tmp_path):
    """digits/1 and digits-int8/1 with their report, old/1 of a version of keraship that wrote none."""
    outcome = outcomes.example()
    folder = tmp_path / "repo"
    publish(folder, "digits", outcome)
    publish(folder, "digits-int8", outcome)
    old = replace(outcome, rows=tuple(replace(row, model_name="old") for row in outcome.rows[:1]))
    publish(folder, "old", old, with_report=False)
    return folder


def run(command, *arguments):
    """What a command prints; its errors are raised."""
    done = CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_version_is_shown_and_its_page_named(repository):
    """All artifacts of the export are in the table; the version is not changed."""
    before = bundle.file_entries(repository, "digits-int8")
    said = run(report, repository / "digits-int8")
    for expected in (
        "int8 saved_model",
        "BEST",
        "float onnx",
        "0.51\u00d7",
        "\u22120.17 [\u22120.48, +0.14]",
        "REFUSED int8 onnx: at 1",
    ):
        assert expected in said
    assert f"The page: {repository / 'digits-int8/1' / bundle.REPORT}" in said
    assert bundle.file_entries(repository, "digits-int8") == before


def test_the_page_is_written_or_printed(repository, tmp_path):
    """-o writes it, -o - prints it, both made of what the version holds."""
    expected = page(outcomes.example())
    assert run(report, repository / "digits", "-o", tmp_path / "page.html") == f"Wrote {tmp_path / 'page.html'}\n"
    assert (tmp_path / "page.html").read_text() == expected
    assert run(report, repository / "digits" / "1", "-o", "-") == expected


def test_a_version_without_a_report_is_told_by_its_manifest(repository):
    """Fewer pictures, the same figures."""
    said = run(report, repository / "old")
    assert "4.52 MB" in said
    assert "-o FILE" in said
    assert "0.964" in run(report, repository / "old", "-o", "-")


def test_a_repository_is_an_index(repository, tmp_path):
    """Every model's artifacts side by side, with links that lead to the versions' pages from where the index stands."""
    (tmp_path / "pages").mkdir()
    target = tmp_path / "pages" / "index.html"
    run(report, repository, "-o", target)
    html = target.read_text()
    assert 'href="../repo/digits-int8/1/keraship/report.html"' in html
    assert (target.parent / "../repo/digits-int8/1/keraship/report.html").is_file()
    assert html.count("<tr>") == 1 + 4
    assert "old" in html
    assert "href=" not in run(report, repository, "-o", "-").partition("</style>")[2]
    assert run(report, repository).count("saved_model") == 3


def test_json(repository):
    """What the page is made of, for programs."""
    told = json.loads(run(report, repository / "digits", "--json"))
    assert [row["verdict"] for row in told["rows"]].count("REFUSED") == 2
    assert [model["name"] for model in json.loads(run(report, repository, "--json"))] == [
        "digits",
        "digits-int8",
        "old",
    ]


@pytest.mark.parametrize("path", ["missing", "repo/digits/2", "empty"])
def test_where_nothing_is(repository, tmp_path, path):
    """One sentence."""
    (repository.parent / "empty").mkdir()
    with pytest.raises(BundleError, match="expected"):
        run(report, tmp_path / path)


def test_a_broken_report_and_a_page_that_cannot_be_written(repository, tmp_path):
    """Are said, by their paths."""
    with pytest.raises(BundleError, match=r"cannot write the page to .*nowhere"):
        run(report, repository / "digits", "-o", tmp_path / "nowhere" / "page.html")
    (repository / "digits" / "1" / OUTCOME).write_text("{}")
    with pytest.raises(BundleError, match=r"expected a report .*report\.json"):
        run(report, repository / "digits")


def test_inspect_shows_what_is_quantized(repository):
    """Scheme, coverage, drop, ratio, and the layers kept in floating point with the reason."""
    said = run(inspect, repository / "digits-int8")
    for expected in (
        "quantized as int8",
        "97.2 % of the weights",
        "12 of 14 Conv2D",
        "0.51\u00d7",
        "\u22120.17",
        "block_0_conv_1",
    ):
        assert expected in said
    assert "it costs 0.9 points" in said


def test_inspect_reads_other_peoples_onnx(tmp_path):
    """Names, dtypes, shapes, opset and ops, those of a branch too; without onnx."""
    from onnx import TensorProto, helper, save

    body = helper.make_graph([helper.make_node("Relu", ["h"], ["b"])], "body", [], [])
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])
    w = helper.make_tensor_value_info("w", TensorProto.FLOAT, [2, 3])
    c = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    y = helper.make_tensor_value_info("y", TensorProto.BFLOAT16, None)
    graph = helper.make_graph(
        nodes, "g", [x, w, c], [y], [helper.make_tensor("w", TensorProto.FLOAT, [2, 3], [1.0] * 6)]
    )
    opset = helper.make_opsetid("", 17)
    save(helper.make_model(graph, opset_imports=[opset], producer_name="somebody"), tmp_path / "m.onnx")
    said = run(inspect, tmp_path / "m.onnx")
    assert "ONNX of somebody" in said
    assert "opset ai.onnx 17" in said
    assert "(x: float32 [-1,2], c: bool []) -> (y: bfloat16 <unknown rank>)" in said
    told = json.loads(run(inspect, tmp_path / "m.onnx", "--json"))
    assert told["ops"] == {"Relu": 2, "If": 1, "MatMul": 1}


@pytest.mark.parametrize("content", [b"", b"\xff" * 40, b"\x3a\x02\x0a\x7f", b"no model"])
def test_inspect_of_what_is_no_model(tmp_path, content):
    """Cut files and other kinds are refused in a sentence, whether ONNX or SavedModel."""
    (tmp_path / "m.onnx").write_bytes(content)
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / bundle.SAVED_MODEL).write_bytes(content)
    for path in ("m.onnx", "saved"):
        with pytest.raises(ModelError, match="expected a whole model"):
            run(inspect, tmp_path / path)


@pytest.mark.parametrize("width", [80, 120, 200])
@pytest.mark.parametrize("name", ["example", "bare", "empty", "hostile"])
def test_the_table_fits_the_terminal(capsys, width, name):
    """Every verdict stands in it whole, and no line of the table is longer than the terminal is wide."""
    outcome = getattr(outcomes, name)()
    print_outcome(outcome, Console(width=width, highlight=False, file=sys.stdout))
    table = capsys.readouterr().out
    assert table.count("REFUSED") == 2 * sum(row.verdict == "REFUSED" for row in outcome.rows)
    assert "\x00" not in table
    assert "\x1b" not in table


def test_stages_are_live_on_a_terminal():
    """On a terminal each stage stands with its time once it is done; elsewhere nothing is written."""
    program = (
        "from keraship.exporter.progress import live\nwith live() as report:\n report('load [x]'); report('write onnx')"
    )
    parent, child = pty.openpty()
    subprocess.run([sys.executable, "-c", program], stderr=child, check=True, env={**os.environ, "TERM": "xterm"})
    os.close(child)
    seen = b""
    try:
        while part := os.read(parent, 4096):
            seen += part
    except OSError:  # Linux' way to say that nobody writes any more
        pass
    os.close(parent)
    assert "load [x]" in seen.decode()
    assert "\u2713" in seen.decode()
    assert "write onnx" in seen.decode()
    quiet = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert quiet.stderr == quiet.stdout == b""
