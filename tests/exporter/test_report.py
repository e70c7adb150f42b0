"""The page of an export: what it says, and that nothing in a stranger's model can make it say anything else."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import outcomes  # tests/exporter/modules
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keraship import bundle
from keraship.exporter import snippets
from keraship.exporter.markup import el, text
from keraship.exporter.outcome import read_outcome
from keraship.exporter.report import page, write_report
from keraship.signature import Signature, TensorSpec

ALL = ("example", "bare", "empty", "hostile", "large")


def parsed(outcome):
    """The page as a tree; HTML that is XML too can be parsed strictly."""
    head, _, rest = page(outcome).partition("\n")
    assert head == "<!DOCTYPE html>"
    return read(rest)


def read(xml):
    """The tree of our own page."""
    return ElementTree.fromstring(xml)  # noqa: S314  # nobody else wrote it


def said(tree):
    """All text of a tree, with single spaces."""
    return " ".join(" ".join(tree.itertext()).split())


@pytest.mark.parametrize("name", ALL)
def test_pages_are_whole_and_stand_alone(name):
    """Well-formed, with unique ids, links that lead somewhere, and nothing that is loaded or run."""
    tree = parsed(getattr(outcomes, name)())
    kinds = {element.tag for element in tree.iter()}
    assert not kinds & {"script", "iframe", "img", "object", "embed", "form", "base"}
    ids = [element.get("id") for element in tree.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    links = [element.get("href") for element in tree.iter() if element.get("href")]
    assert {link.removeprefix("#") for link in links if link != "data:,"} == set(ids)
    attributes = {key for element in tree.iter() for key in element.attrib}
    assert not any(key.startswith("on") for key in attributes)
    assert not re.search(r"https?:|url\(|@import", ElementTree.tostring(tree.find("head"), "unicode"))


@pytest.mark.parametrize("name", ALL)
def test_pictures_say_what_they_are(name):
    """To those who cannot see them: each svg has a role, a label and a title."""
    for svg in parsed(getattr(outcomes, name)()).iter("svg"):
        assert svg.get("role") == "img"
        assert svg.get("aria-label") == svg.find("title").text != ""


@pytest.mark.parametrize("name", ALL)
def test_coordinates_are_numbers(name):
    """Infinite errors, empty graphs and single points are drawn, or left out; never as NaN."""
    numeric = ("x", "y", "cx", "cy", "width", "height", "d", "viewBox", "style", "transform")
    for element in parsed(getattr(outcomes, name)()).iter():
        for key in numeric:
            assert not re.search(r"nan|inf", element.get(key, "").replace("initial", ""))


def test_the_page_says_all_that_is_known():
    """Names, verdicts with reasons, figures, layers, classes, signatures, files, tools."""
    outcome = outcomes.example()
    words = said(parsed(outcome))
    for row in outcome.rows:
        assert row.model_name in words
        assert row.verdict in words
        assert row.reason in words
        if row.artifact:
            assert f"{row.artifact.load_seconds:.2f} s" in words
            for path, entry in row.artifact.files.items():
                assert (f"{row.model_name}: {path}" in words) == (row.verdict != "REFUSED")
                assert entry.sha256 in words or row.verdict == "REFUSED"
    for expected in (
        "0.964 [0.947, 0.976]",  # the model's accuracy
        "97.2 % of weights",
        "3 layers kept float",
        "kept float: it costs 0.9 points of accuracy",
        "Einsum",
        "RandomFlip 'flip' was live in training",
        "2 x AMD EPYC",
        "tensorflow 2.21.0",
        "[-1,28,28,1]",
        "keraship serve",
        "curl -d",
        "up to 1 percentage points",
        outcome.source.sha256,
    ):
        assert expected in words
    assert words.count("BEST") == 1


def test_pictures_are_of_the_data():
    """A bar for each size and latency, a histogram for each artifact, curves of every class, both graphs."""
    tree = parsed(outcomes.example())
    section = {element.get("id"): element for element in tree.iter("section")}
    assert len(list(section["tradeoff"].iter("li"))) == 6 * 3
    assert len(list(section["tradeoff"].iter("circle"))) == 6 + 1
    histograms = list(section["errors"].iter("svg"))
    assert len(histograms) == 6
    columns = [rect for rect in histograms[2].iter("rect") if float(rect.get("height")) > 0]
    filled = [count for count in outcomes.example().rows[2].errors[0].counts if count]
    assert len(columns) == len(filled) + bool(outcomes.example().rows[2].errors[0].equal)
    assert len(list(section["curves"].iter("svg"))) == 9
    graphs = list(section["graph"].iter("svg"))
    assert len(graphs) == 7
    assert len(list(graphs[0].iter("g"))) == len(outcomes.example().graph.blocks)
    layers = [said(item) for item in section["layers"].find("div").iter("li")]
    errors = [float(words.partition(" kept")[0].split()[-1]) for words in layers]
    assert errors == sorted(errors, reverse=True)
    assert len(layers) == 14


def test_many_layers_and_outputs_are_folded():
    """200 layers are bars, most of them folded away; of 480 histograms the worst are drawn, and that is said."""
    tree = parsed(outcomes.large())
    section = {element.get("id"): element for element in tree.iter("section")}
    first = section["layers"].find("div")
    assert len(list(first.find("ul"))) == 20
    assert len(list(first.find("details").iter("li"))) == 180
    assert len(list(section["errors"].iter("svg"))) == 24
    assert "Not drawn: 456 more outputs" in said(section["errors"])


def test_the_same_outcome_gives_the_same_page():
    """In another process too."""
    program = (
        "import outcomes, sys; from keraship.exporter.report import page; sys.stdout.write(page(outcomes.example()))"
    )
    folder = str(next(path for path in sys.path if path.endswith("tests/exporter/modules")))
    done = subprocess.run([sys.executable, "-c", program], env={"PYTHONPATH": folder}, capture_output=True, text=True)
    assert done.stdout == page(outcomes.example())


def test_no_runtime_is_needed():
    """The page, and what reads it again, are made without TensorFlow, ONNX or a plotting library."""
    program = (
        "from keraship.exporter.report import page; page(outcomes.large());"
        "print(*{name.partition('.')[0] for name in sys.modules}"
        " & {'tensorflow', 'keras', 'onnx', 'onnxruntime', 'matplotlib', 'sklearn'})"
    )
    assert apart(program).strip() == ""


def apart(program):
    """What a program prints in a process of its own, hashes in another order."""
    folder = str(Path(outcomes.__file__).parent)
    command = [sys.executable, "-c", f"import outcomes, sys; {program}"]
    done = subprocess.run(command, env={"PYTHONPATH": folder, "PYTHONHASHSEED": "7"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_version_holds_the_page_and_what_it_was_made_of(tmp_path):
    """keraship/report.html and report.json, the second read back as it was."""
    write_report(tmp_path, outcomes.hostile_but_storable())
    assert (tmp_path / bundle.REPORT).read_text() == page(outcomes.hostile_but_storable())
    assert read_outcome(tmp_path) == outcomes.hostile_but_storable()


@given(st.text(), st.text())
def test_whatever_is_not_markup_is_text(name, value):
    """Any characters, in text and in attributes, come out as well-formed XML that says them."""
    element = read(el("p", value, el("b", name), title=name))
    assert [child.tag for child in element.iter()] == ["p", "b"]
    printable = "".join(c for c in value if c.isprintable() and c not in "\u061c")
    assert set(printable) - set(said(element)) - set(" \xa0") <= {c for c in printable if text(c) == "\ufffd"}


def test_text_cannot_turn_its_neighbours():
    """Characters that reverse the text around them, or cannot be seen, are shown as such."""
    assert text("a\u202egnp.exe\x00\ud800") == "a\ufffdgnp.exe\ufffd\ufffd"


SIGNATURES = (
    Signature((TensorSpec("x", "float32", (None, 4)),), ()),
    Signature((TensorSpec("words", "string", (None, None)), TensorSpec("n", "int64", ())), ()),
    Signature(
        (TensorSpec('it\'s "x"; $(rm)\n`id`', "float32", (None, 8, 8, 3)), TensorSpec("on", "bool", (None,))), ()
    ),
    Signature((TensorSpec("any", "bfloat16", None),), ()),
    Signature((), ()),
)


@pytest.mark.parametrize("signature", SIGNATURES, ids=range(len(SIGNATURES)))
def test_snippets_are_programs(signature, tmp_path):
    """The shell hands curl one body of JSON and one address; Python compiles; whatever the names are."""
    body, url = asked(snippets.curl("it's", signature, "predict"), tmp_path)
    assert body.pop("signature_name") == "predict"
    assert list(body["inputs"]) == [spec.name for spec in signature.inputs]
    assert url == "http://localhost:8501/v1/models/it's:predict"
    compile(snippets.python("it's", signature, "predict"), "snippet", "exec")


def asked(command, folder):
    """The body and the address that a command hands to curl."""
    fake = folder / "curl"
    body = 'if [ "$2" = "@-" ]; then cat > body; else printf %s "$2" > body; fi'
    fake.write_text(f'#!/bin/sh\n{body}\nprintf %s "$3" > url\n')
    fake.chmod(0o755)
    subprocess.run(["bash", "-c", command], cwd=folder, env={"PATH": f"{folder}:/usr/bin:/bin"}, check=True)
    return json.loads((folder / "body").read_text()), (folder / "url").read_text()


FEATURES = Signature((TensorSpec("x", "float32", (None, 3)), TensorSpec("word", "string", (None,))), ())
EXAMPLES = (TensorSpec("examples", "string", (None,)),)


@pytest.mark.parametrize("method", ["classify", "regress"])
def test_snippets_for_examples(method, tmp_path):
    """A signature of tf.Examples is asked by its own method, with the model's inputs as features."""
    signature = Signature(EXAMPLES, (), f"tensorflow/serving/{method}")
    body, url = asked(snippets.curl("m", signature, method, features=FEATURES), tmp_path)
    assert body == {"signature_name": method, "examples": [{"x": [0.0] * 3, "word": ["text"]}]}
    assert url.endswith(f"/m:{method}")
    assert f"client.{method}([" in snippets.python("m", signature, method, features=FEATURES)


def test_snippets_for_images(tmp_path):
    """Encoded images go as base64 of a file."""
    (tmp_path / "photo.jpg").write_bytes(b"JPEG")
    signature = Signature((TensorSpec("image_bytes", "string", (None,)), TensorSpec("on", "bool", (None,))), ())
    body, _ = asked(snippets.curl("m", signature, "predict_images"), tmp_path)
    assert body["inputs"] == {"image_bytes": [{"b64": "SlBFRw=="}], "on": [False]}
    assert 'open("photo.jpg", "rb").read()' in snippets.python("m", signature, "predict_images")


def test_an_artifact_that_was_refused_offers_no_requests():
    """Where nothing was published, there is nothing to ask."""
    assert "Ask it" not in said(parsed(outcomes.bare()))
    refused = replace(outcomes.example(), rows=outcomes.example().rows[3:4])
    assert "curl" not in said(parsed(refused))
