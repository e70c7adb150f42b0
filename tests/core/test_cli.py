"""The `keraship` command before any component is loaded: help, usage, errors, exit statuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from keraship import cli

HEAVY = ("tensorflow", "keras", "onnx", "onnxruntime", "flask", "sklearn", "tf2onnx")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "keraship", *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def test_help_lists_every_command_and_loads_none() -> None:
    """A newcomer sees what there is, at once."""
    done = run("--help")
    assert done.returncode == 0
    for name, entry in cli.COMMANDS.items():
        assert name in done.stdout
        assert entry.summary in done.stdout


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_the_help_of_a_command_shows_an_example_and_imports_nothing_heavy(command: str) -> None:
    """--help of each answers without TensorFlow, ONNX Runtime or Flask."""
    code = (
        "import sys; from keraship.cli import main\n"
        "try: main([sys.argv[1], '--help'])\n"
        f"finally: print('LOADED', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "LOADED []" in done.stdout
    assert f"keraship {command}" in done.stdout.partition("Example")[2]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["exprot"], "expected one of the commands train, export"),
        (["--wrong"], "No such option"),
        (["export"], "Missing argument"),
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str], says: str) -> None:
    """With one clear sentence on stderr and nothing on stdout."""
    done = run(*arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stdout == ""


def test_an_expected_failure_is_one_sentence_and_exit_1() -> None:
    """The traceback comes with --debug only."""
    done = run("inspect", "/nowhere")
    assert done.returncode == 1
    assert done.stderr.startswith("keraship: ")
    assert done.stderr.count("\n") == 1
    assert "Traceback" in run("inspect", "/nowhere", "--debug").stderr


def test_a_missing_extra_is_answered_with_its_install_command(tmp_path: Path) -> None:
    """Whatever package it is that the command imports and does not find."""
    code = "import sys; sys.modules['{0}'] = None\nfrom keraship.cli import main\nmain({1!r})"
    repository = tmp_path / "repo"
    (repository / "digits/1").mkdir(parents=True)
    (repository / "digits/1/model.onnx").touch()
    for module, arguments, extra in (
        ("tensorflow", ["train", "cnn", "--out", str(tmp_path / "run")], "train"),
        ("onnxruntime", ["serve", str(repository), "--port=1", "--rest_api_port=0"], "serve"),
        ("flask", ["serve", str(repository), "--port=1", "--rest_api_port=2"], "serve"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code.format(module, arguments)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 1, done
        assert "Traceback" not in done.stderr
        assert f"pip install 'keraship[{extra}]'" in done.stderr
