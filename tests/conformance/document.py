"""Writes docs/conformance.md out of the cases: python -m tests.conformance.document"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from .case import Scenario, read_cases, read_rules, read_scenarios

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"

_HEAD = """# Conformance with tensorflow_model_server

Made by `python -m tests.conformance.document` from the cases in `tests/conformance`: TOML files of requests and their
answers (`cases/`), and of servers with things that happen to them (`scenarios/`). `case.py` and `scenario.py` say how
they are written, `rules.toml` what each rule is. The cases were derived from TensorFlow Serving's sources; no real
server has been put through them by us.

    python -m tests.conformance                        # keraship serve with ONNX, scenarios and all
    python -m tests.conformance --backend tensorflow

Against another server, for instance TensorFlow Serving itself:

    python -m tests.conformance --models /models --config /models.config
    tensorflow_model_server --port=8500 --rest_api_port=8501 --model_config_file=/models.config \\
        --allow_version_labels_for_unavailable_models=true
    python -m tests.conformance --rest http://localhost:8501 --grpc localhost:8500

or, where its binary is at hand, the scenarios too: `python -m tests.conformance --server tensorflow_model_server`. With
`--json` the result is JSON; the exit status is 1 where a case failed. A double that is sent with 17 digits is read to
the nearest number; TensorFlow Serving may be off in the last bit, and no case asks for that bit.

"""


def make_page() -> str:
    """The page."""
    cases, scenarios = read_cases(), read_scenarios()
    by_rule = defaultdict(list)
    for each in (*cases, *scenarios):
        by_rule[each.rule].append(each)
    only = sum(each.backend == "tensorflow" for each in (*cases, *scenarios))
    lines = [
        f"{len(cases)} cases and {len(scenarios)} scenarios, {only} of them for SavedModels alone. In brackets: how "
        "many of a kind there are.",
        "",
        *_open(scenarios),
        "| rule | | cases |",
        "|---|---|---|",
    ]
    lines += [
        f"| {rule} | {_in_a_cell(text)} | {_names(by_rule[rule])} |"
        for rule, text in read_rules().items()
        if by_rule[rule]
    ]
    return _HEAD + "\n".join(lines) + "\n"


def _open(scenarios: list[Scenario]) -> list[str]:
    waiting = [f"{each.id} ({each.awaits})" for each in scenarios if each.awaits]
    return [f"Not passed yet, for want of what stands in brackets: {', '.join(waiting)}.", ""] if waiting else []


def _in_a_cell(text: str) -> str:
    return text.replace("|", "\\|")


def _names(found: list) -> str:
    counts: dict[str, int] = defaultdict(int)
    for each in found:
        counts[_without_number(each.id)] += 1
    return ", ".join(f"{name} ({count})" if count > 1 else name for name, count in counts.items())


def _without_number(name: str) -> str:
    stem, _, number = name.rpartition("-")
    return stem if number.isdigit() and stem else name


if __name__ == "__main__":
    PAGE.write_text(make_page())
