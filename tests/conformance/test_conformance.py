"""Every case on every backend that can have it; one server a backend, and the scenarios beside each other."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.__main__ import run_case
from tests.conformance.ask import Server
from tests.conformance.case import Case, Scenario, read_cases, read_rules, read_scenarios
from tests.conformance.document import PAGE, make_page
from tests.conformance.models import FLAGS, make_config, make_models
from tests.conformance.process import KERASHIP, ServerProcess
from tests.conformance.scenario import run_scenario

ROOT = Path(__file__).parents[2]
BACKENDS = ("onnx", "tensorflow")
CASES, SCENARIOS = read_cases(), read_scenarios()

# What happens to servers is asked of ONNX, which starts in a tenth of the time; of TensorFlow what only it can have.
SCENARIOS_OF = {
    "onnx": [each for each in SCENARIOS if each.runs_on("onnx")],
    "tensorflow": [each for each in SCENARIOS if each.backend == "tensorflow"],
}


@pytest.fixture(scope="session")
def models_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    @cache
    def make(backend: str) -> Path:
        folder = tmp_path_factory.mktemp(backend) / "models"
        make_models(folder, backend)
        return folder

    return make


@pytest.fixture(scope="session")
def server_of(models_of: Callable[[str], Path]) -> Iterator[Callable[[str], Server]]:
    """A server of a backend, started when it is first asked for."""
    processes: list[ServerProcess] = []

    @cache
    def start(backend: str) -> Server:
        models = models_of(backend)
        config = models.with_suffix(".config")
        config.write_text(make_config(models))
        process = ServerProcess(KERASHIP, [f"--model_config_file={config}", *FLAGS])
        processes.append(process)
        process.wait_until_ready()
        return process.server

    yield start
    for process in processes:
        process.end()


@pytest.fixture(scope="session")
def outcome_of(
    models_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str, Scenario], list[str]]]:
    """What went wrong in a scenario; the first question starts all of its backend."""
    with ThreadPoolExecutor(4) as pool:

        @cache
        def start(backend: str) -> dict[str, Future[list[str]]]:
            models = models_of(backend)
            return {
                each.id: pool.submit(run_scenario, each, models, tmp_path_factory.mktemp("scenario"), KERASHIP)
                for each in SCENARIOS_OF[backend]
            }

        yield lambda backend, scenario: start(backend)[scenario.id].result()


@pytest.mark.parametrize(
    ("backend", "case"),
    [pytest.param(backend, case, id=f"{backend}-{case.id}") for backend in BACKENDS for case in CASES
     if case.runs_on(backend)],
)  # fmt: skip
def test_case(server_of: Callable[[str], Server], backend: str, case: Case) -> None:
    found = run_case(case, server_of(backend))
    assert not found, "\n".join(found)


def _with_marks(backend: str, scenario: Scenario) -> Any:
    """One that awaits something may fail until it is there; whoever brings it takes the key away."""
    marks = [pytest.mark.xfail(reason=f"awaits {scenario.awaits}", strict=False)] if scenario.awaits else []
    return pytest.param(backend, scenario, id=f"{backend}-{scenario.id}", marks=marks)


@pytest.mark.parametrize(
    ("backend", "scenario"), [_with_marks(backend, each) for backend in BACKENDS for each in SCENARIOS_OF[backend]]
)
def test_scenario(outcome_of: Callable[[str, Scenario], list[str]], backend: str, scenario: Scenario) -> None:
    found = outcome_of(backend, scenario)
    assert not found, "\n".join(found)


def _run_suite(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.conformance", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip


def test_any_address_can_be_asked(server_of: Callable[[str], Server]) -> None:
    """As a stranger would; what fails is named, and the exit status says so."""
    server = server_of("onnx")
    address = ("--rest", str(server.rest), "--grpc", str(server.grpc), "--only", "lookup", "--json")
    done = _run_suite("--backend", "onnx", *address)
    assert done.returncode == 0, done.stderr
    asked = [each for each in CASES if "lookup" in each.rule or "lookup" in each.id]
    assert json.loads(done.stdout) == {"run": len(asked), "failed": []}
    nobody = _run_suite("--backend", "onnx", "--rest", "http://127.0.0.1:1", "--only", "rest_lookup")
    assert nobody.returncode == 1
    assert "FAILED rest_lookup.unknown-model-1 (lookup.unknown)\nno answer: " in nobody.stdout
    assert "0 of " in nobody.stdout


def test_the_models_can_be_had(tmp_path: Path) -> None:
    """With the configuration that serves them, and the command."""
    models, config = tmp_path / "models", tmp_path / "config"
    done = _run_suite("--models", str(models), "--config", str(config), "--backend", "onnx")
    assert done.stdout == (
        f"tensorflow_model_server --model_config_file={config} --allow_version_labels_for_unavailable_models=true\n"
    )
    assert config.read_text() == make_config(models)
    assert (models / "versions" / "2" / "model.onnx").is_file()


def test_every_rule_has_a_case() -> None:
    """And every case a rule that is known, and an id of its own."""
    everything = [*CASES, *SCENARIOS]
    rules = {each.rule for each in everything}
    assert rules == set(read_rules())
    assert [name for name, count in Counter(each.id for each in everything).items() if count > 1] == []


def test_the_page_is_what_the_cases_are() -> None:
    """python -m tests.conformance.document writes it anew."""
    assert PAGE.read_text() == make_page()
