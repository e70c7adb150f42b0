"""Runs the suite: against addresses, or against servers that it starts itself.

python -m tests.conformance --models DIR --config FILE     writes what the server under test must serve, and ends
python -m tests.conformance --rest URL --grpc ADDRESS      asks that server
python -m tests.conformance [--backend onnx|tensorflow]    starts `keraship serve`; its scenarios run too
python -m tests.conformance --server tensorflow_model_server   starts that instead, scenarios and all
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .ask import Server
from .case import Case, Scenario, read_cases, read_scenarios
from .compare import differences
from .models import FLAGS, make_config, make_models
from .process import KERASHIP, ServerProcess
from .scenario import run_scenario

_AT_ONCE = 4


@dataclass(frozen=True)
class Result:
    """One case or scenario, run. differences: empty where it passed."""

    id: str
    rule: str
    differences: list[str]


def main() -> None:
    arguments = _arguments()
    if arguments.models:
        _write_models(arguments)
        return
    results = list(_asked(arguments) if arguments.rest or arguments.grpc else _started(arguments))
    failed = [each for each in results if each.differences]
    if arguments.json:
        print(json.dumps({"run": len(results), "failed": [asdict(each) for each in failed]}, indent=2))
    else:
        for each in failed:
            print(f"FAILED {each.id} ({each.rule})", *each.differences, "", sep="\n")
        print(f"{len(results) - len(failed)} of {len(results)} passed")
    sys.exit(1 if failed or not results else 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m tests.conformance", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rest", metavar="URL", help="http://host:8501, of a server that runs")
    parser.add_argument("--grpc", metavar="ADDRESS", help="host:8500, of a server that runs")
    parser.add_argument("--models", type=Path, metavar="DIR", help="write the models there, and end")
    parser.add_argument("--config", type=Path, metavar="FILE", help="with --models: write the model_config_file there")
    parser.add_argument("--backend", choices=("tensorflow", "onnx"), help="what runs the models (onnx)")
    parser.add_argument("--server", metavar="COMMAND", help="start this, with tensorflow_model_server's flags")
    parser.add_argument("--only", default="", metavar="TEXT", help="those whose id or rule has this in it")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    arguments = parser.parse_args()
    if arguments.config and not arguments.models:
        parser.error("--config needs --models, the folder that it is about")
    return arguments


def _write_models(arguments: argparse.Namespace) -> None:
    make_models(arguments.models, arguments.backend or "tensorflow")
    config = arguments.config or arguments.models.with_suffix(".config")
    config.write_text(make_config(arguments.models))
    print(f"tensorflow_model_server --model_config_file={config} {' '.join(FLAGS)}")


def _asked(arguments: argparse.Namespace) -> Iterator[Result]:
    server = Server(arguments.rest, arguments.grpc)
    yield from _run_cases(server, arguments.backend, arguments.only)
    server.close()


def _started(arguments: argparse.Namespace) -> Iterator[Result]:
    backend = arguments.backend or ("tensorflow" if arguments.server else "onnx")
    command = shlex.split(arguments.server) if arguments.server else KERASHIP
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_models(folder / "models", backend)
        (folder / "models.config").write_text(make_config(folder / "models"))
        process = ServerProcess(command, [f"--model_config_file={folder / 'models.config'}", *FLAGS])
        try:
            process.wait_until_ready()
            yield from _run_cases(process.server, backend, arguments.only)
        finally:
            process.end()
        yield from _run_scenarios(folder, backend, command, arguments.only)


def _run_cases(server: Server, backend: str | None, only: str) -> Iterator[Result]:
    for case in read_cases():
        if case.runs_on(backend) and server.answers(case) and _meant(case, only):
            yield Result(case.id, case.rule, run_case(case, server))


def run_case(case: Case, server: Server) -> list[str]:
    """What is wrong with the answer."""
    try:
        return differences(case, server.ask(case))
    except OSError as error:
        return [f"no answer: {error}"]


def _run_scenarios(folder: Path, backend: str, command: Sequence[str], only: str) -> Iterator[Result]:
    def run(scenario: Scenario) -> Result:
        own = folder / scenario.id
        own.mkdir()
        return Result(scenario.id, scenario.rule, run_scenario(scenario, folder / "models", own, command))

    chosen = [each for each in read_scenarios() if each.runs_on(backend) and _meant(each, only)]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield from pool.map(run, chosen)


def _meant(each: Any, only: str) -> bool:
    return only in each.id or only in each.rule


if __name__ == "__main__":
    main()
