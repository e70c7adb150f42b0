from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from keraship.cli import keraship

ROOT = Path(__file__).parents[2]
ROWS = [line.split("|")[1:-1] for line in (ROOT / "docs/talk.md").read_text().splitlines() if line.startswith("| ")][1:]
COMMANDS = sorted({code for row in ROWS for code in re.findall(r"`(keraship \S+ [^`]+)`", row[1])})


def test_the_talk_s_tests_are_there() -> None:
    """Every row of the talk's table names tests that exist."""
    for _, today, tests in ROWS:
        file = ROOT
        names = re.findall(r"`([^`]+)`", tests)
        assert names, today
        for name in names:
            path, test = name.partition("::")[::2] if ".py" in name else ("", name)  # of the file before it
            if path:
                file = ROOT / path if "/" in path else ROOT / "tests/models" / path
            assert file.is_file(), name
            assert not test or f"def {test}(" in file.read_text(), name


@pytest.mark.parametrize("command", COMMANDS)
def test_the_talk_s_commands_are_there(command: str) -> None:
    """Every command of the talk's table is one that the command line takes, with all its options."""
    name, *arguments = shlex.split(command)[1:]
    context = click.Context(keraship)
    found = keraship.get_command(context, name)
    assert found is not None
    assert found.make_context(name, arguments, parent=context)
