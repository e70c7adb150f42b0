"""The `keraship` command: finds a sub-command, loads the component that has it, turns errors into a sentence.

A sub-command is a click command in its component's `command.py`. That module is imported when the sub-command is used
and not before, and imports TensorFlow and its like only inside functions, so that `--help` answers at once.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import click

from keraship import __version__
from keraship.errors import KerashipError, MissingExtra
from keraship.extras import missing_extra


@dataclass(frozen=True)
class _Entry:
    """Where a sub-command is, the extra that it needs, and its line in `keraship --help`."""

    module: str
    attribute: str
    extra: str
    summary: str


COMMANDS = {
    "train": _Entry("keraship.models.command", "train", "train", "Train a model on real data."),
    "export": _Entry("keraship.exporter.command", "export", "export", "Export a model and prove it equal."),
    "verify": _Entry("keraship.exporter.command", "verify", "export", "Prove a published version once more."),
    "report": _Entry("keraship.exporter.report_command", "report", "export", "Show how an export went, as a page."),
    "inspect": _Entry("keraship.exporter.inspect_command", "inspect", "export", "Show what a model's file holds."),
    "scan": _Entry("keraship.exporter.scan_command", "scan", "export", "Say what is dangerous in a model file."),
    "evaluate": _Entry("keraship.models.evaluate_command", "evaluate", "train", "Judge models on held-out data."),
    "serve": _Entry("keraship.serving.command", "serve", "serve", "Serve models over gRPC and REST."),
    "predict": _Entry("keraship.client.command", "predict", "all", "Ask a running server."),
    "client": _Entry("keraship.client.generate_command", "client", "all", "Write a typed client for a model."),
    "data": _Entry("keraship.models.data_command", "data", "train", "Write real data to try things with."),
}

_DEBUG = "--debug"


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command: click.Command = getattr(importlib.import_module(entry.module), entry.attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS:
            raise click.UsageError(f"expected one of the commands {', '.join(COMMANDS)}; got {args[0]!r}", ctx)
        return super().resolve_command(ctx, args)


@click.group(
    cls=_Lazy,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=f"An expected failure is one sentence on stderr; {_DEBUG}, anywhere in the line, shows the traceback.",
)
@click.version_option(__version__, prog_name="keraship")
def keraship() -> None:
    """From a trained Keras model to a served prediction, with proof that it is still the same model.

    \b
    Example:
      keraship train cnn --out run
      keraship export run/best.keras --to repo --name digits --evaluate run/test.npz
      keraship serve repo
    """


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command and exit: 0 when all went well, 1 after an expected failure, 2 for wrong usage."""
    args = list(sys.argv[1:] if argv is None else argv)
    debug = _DEBUG in args
    sys.exit(_run([arg for arg in args if arg != _DEBUG], debug=debug))


def _run(args: list[str], *, debug: bool) -> int:
    try:
        return keraship.main(args, prog_name="keraship", standalone_mode=False) or 0
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return 130  # as a shell reports SIGINT
    except BrokenPipeError:  # `keraship inspect | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KerashipError as error:
        return _fail(error, debug=debug)
    except ModuleNotFoundError as error:
        return _fail(_as_missing_extra(error, args), debug=debug)


def _fail(error: BaseException, *, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    print(f"keraship: {error}", file=sys.stderr)
    return 1


def _as_missing_extra(error: ModuleNotFoundError, args: list[str]) -> MissingExtra:
    """The install command, for a package of an extra; a module of our own that is missing is a defect."""
    module = (error.name or "").partition(".")[0]
    if not module or module == "keraship" or not args or args[0] not in COMMANDS:
        raise error
    return missing_extra(COMMANDS[args[0]].extra, [module])


def print_json(value: Any) -> None:
    """What `--json` prints: one JSON document on stdout."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, title: str | None = None) -> None:
    """A table for people, on stdout."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*headers, title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    Console(soft_wrap=False).print(table)
