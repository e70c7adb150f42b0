"""The page for people in a real browser, on a model of scikit-learn's digits; and the description of the API."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsers import needs_browser  # tests/tools
from onnx import TensorProto, helper
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
HOSTILE = "<script>alert(1)<"  # a folder may be called so


def save_digits(folder: Path) -> None:
    """Softmax regression on images in [0, 1], trained."""
    digits = load_digits()
    model = LogisticRegression(max_iter=300).fit(digits.data / 16, digits.target)
    weights = [
        helper.make_tensor("w", TensorProto.FLOAT, (64, 10), model.coef_.T.astype(np.float32).ravel()),
        helper.make_tensor("b", TensorProto.FLOAT, (10,), model.intercept_.astype(np.float32)),
    ]
    nodes = [
        helper.make_node("Flatten", ["images"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["scores"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ("N", 8, 8, 1))],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ("N", 10))],
        weights,
    )
    saved = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / "assets").mkdir(parents=True)
    (folder / "assets" / "labels.txt").write_text("\n".join(NAMES))
    (folder / "model.onnx").write_bytes(saved.SerializeToString())


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, start_server: Callable[..., Any], save_linear: Callable[..., Path]
) -> Iterator[Any]:
    """digits with names of its classes, linear, and a model whose name is HTML."""
    repository = tmp_path_factory.mktemp("repository")
    save_digits(repository / "digits" / "1")
    save_linear(repository / "linear", 3)
    save_linear(repository / HOSTILE, 1)
    running = start_server([str(repository), "--ui"])
    yield running
    running.end()


def test_without_the_flag_there_is_no_page(linear_server: Any) -> None:
    assert [linear_server.ask("GET", path).status for path in ("/", "/ui/", "/openapi.json")] == [404] * 3


def test_every_file_has_a_type_and_a_policy(server: Any) -> None:
    answer = server.ask("GET", "/ui/")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert server.ask("GET", "/").headers["location"] == "ui/"
    assert server.ask("POST", "/ui/").status == 405


@needs_browser
@pytest.mark.parametrize("width", [400, 1400])
def test_json_is_answered_with_bars(browser: Any, server: Any, width: int) -> None:
    """The example is sent, the names of the classes stand at bars, nothing was asked of anybody else."""
    address = f"http://127.0.0.1:{server.rest_port}"
    browser.show(f"{address}/ui/#digits/1", width)
    browser.wait("return document.querySelector('textarea')")
    assert "AVAILABLE" in browser.run("return document.querySelector('#models').innerText")
    browser.run("document.querySelector('form').requestSubmit()")
    browser.wait("return document.querySelectorAll('.bars li').length === 10")
    names = browser.run("return [...document.querySelectorAll('.bars .name')].map(each => each.textContent)")
    assert sorted(names) == sorted(NAMES)
    assert browser.run("return document.documentElement.scrollWidth") <= width
    assert browser.errors() == []
    assert [url for url in browser.requests() if not url.startswith((address, "data:"))] == []


@needs_browser
def test_a_picture_is_recognised(browser: Any, server: Any, tmp_path: Path) -> None:
    """A digit as a PNG file of another size is what it shows."""
    digits = load_digits()
    picture = Image.fromarray((digits.images[0] * 255 / 16).astype(np.uint8)).resize((64, 64), Image.Resampling.NEAREST)
    picture.save(tmp_path / "zero.png")
    browser.show(f"http://127.0.0.1:{server.rest_port}/ui/?picture#digits/1", 1400)
    browser.wait("return document.querySelector('input[value=picture]')")
    browser.click("input[value=picture]")
    browser.type("input[type=file]", str(tmp_path / "zero.png"))
    browser.wait("return !document.querySelector('canvas').hidden")
    browser.click("button.main")
    found = browser.wait("return document.querySelector('.answer')?.textContent")
    assert found.startswith("zero: ")
    assert browser.errors() == []


@needs_browser
def test_the_traffic_is_shown(browser: Any, server: Any) -> None:
    """Requests, failed ones among them, by model and in all; rates come with the second look."""
    browser.show(f"http://127.0.0.1:{server.rest_port}/ui/", 1400)
    browser.wait("return document.querySelectorAll('#rates .card').length === 3")
    for _ in range(30):
        assert server.post("/v1/models/linear:predict", {"instances": [[1, 2]]}).status == 200
    assert server.post("/v1/models/linear:predict", {"instances": [[1]]}).status == 400
    cells = "[...document.querySelectorAll('#models tbody tr')].find(row => row.innerText.startsWith('linear'))"
    total = f"parseInt({cells}.querySelectorAll('td.num')[4]?.textContent.replace(',', ''))"
    browser.wait(f"return {total} >= 31")
    browser.wait(f"return parseFloat({cells}.querySelectorAll('td.num')[0].textContent) > 0")
    assert browser.run(f"return {cells}.querySelectorAll('td.num')[2].textContent").startswith("< ")
    assert "requests since the start" in browser.run("return document.querySelector('#rates').innerText")
    assert browser.run("return document.querySelector('#rates polyline').getAttribute('points')")
    assert browser.errors() == []


@needs_browser
def test_a_name_that_is_html_is_text(browser: Any, server: Any) -> None:
    browser.show(f"http://127.0.0.1:{server.rest_port}/ui/?name", 1400)
    browser.wait("return document.querySelector('#models table')")
    assert HOSTILE in browser.run("return document.querySelector('#models').innerText")
    assert browser.run("return document.querySelectorAll('script').length") == 1
    assert browser.errors() == []


def test_the_examples_of_the_description_are_answered(server: Any) -> None:
    """Each body that /openapi.json shows is taken by the path that it stands at."""
    paths = server.ask("GET", "/openapi.json").json["paths"]
    bodies = [
        (path, operation["post"]["requestBody"]["content"]["application/json"]["example"])
        for path, operation in paths.items()
        if "post" in operation and "{" not in path
    ]
    assert len(bodies) == 6
    assert [server.post(path, body).status for path, body in bodies] == [200] * 6


def test_schemathesis_accepts_the_description(server: Any, tmp_path: Path) -> None:
    """Status codes, types, schemas, and what is taken and refused are as /openapi.json says.

    Methods that it does not name are left out: TensorFlow Serving answers those in ways of its own. So are tf.Examples,
    whose lists may not mix 1 and 1.0, which JSON Schema cannot tell apart.
    """
    (tmp_path / "schemathesis.toml").write_text("[phases.coverage]\nunexpected-methods = []\n")
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")), "run", "--seed=1", "--max-examples=8", "--no-color",
            "--include-path-regex=/v1/models/(digits|linear|[{])", "--exclude-checks=unsupported_method",
            "--exclude-path-regex=:(classify|regress)$",
            "--phases=examples,coverage,fuzzing", "--generation-database=none",
            f"http://127.0.0.1:{server.rest_port}/openapi.json",
        ],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]
    assert json.loads(server.ask("GET", "/openapi.json").body)["openapi"] == "3.1.0"
