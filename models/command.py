"""`keraship train`: its options, its lines while it trains, and what it says at the end."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from keraship.cli import print_json
from keraship.errors import TrainingError
from keraship.models.config import (
    LOSSES,
    OPTIMIZERS,
    OPTIONS,
    PIPELINES,
    PRECISIONS,
    STRATEGIES,
    Option,
    TrainConfig,
)
from keraship.models.config_file import make_config, parse_value, read_options
from keraship.models.curves import RATE
from keraship.models.data import BUNDLED, ON_BAD
from keraship.models.export_process import ExportFailed, export_command
from keraship.models.networks import NETWORKS
from keraship.models.run import Epoch, Run
from keraship.models.schedules import SCHEDULES
from keraship.models.train import TrainResult
from keraship.models.train import train as run_training


class _Table(click.ParamType):  # type: ignore[type-arg]  # generic in click's later stubs only
    """NAME=VALUE, several with commas between them or given one by one; VALUE as in TOML or text; NAME alone: true."""

    name = "name=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        table = {}
        for part in re.split(r",(?![^\[]*\])", value):
            name, equals, text = part.strip().partition("=")
            if not name or (equals and not text):
                self.fail(f"expected NAME=VALUE; got {part!r}", param, ctx)
            table[name] = parse_value(text) if equals else True
        return table


class _Size(click.ParamType):  # type: ignore[type-arg]  # generic in click's later stubs only
    """HEIGHTxWIDTH, or one number for both."""

    name = "heightxwidth"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        found = re.fullmatch(r"(\d+)(?:x(\d+))?", value)
        if not found:
            self.fail(f"expected HEIGHTxWIDTH in pixels, such as 96x128; got {value!r}", param, ctx)
        return int(found[1]), int(found[2] or found[1])


_TYPES: dict[str, Any] = {
    "image_size": _Size(),
    "on_bad": click.Choice(ON_BAD),
    "optimizer": click.Choice(OPTIMIZERS),
    "schedule": click.Choice(list(SCHEDULES)),
    "loss": click.Choice(LOSSES),
    "mixed_precision": click.Choice(PRECISIONS),
    "pipeline": click.Choice(PIPELINES),
    "distribute": click.Choice(STRATEGIES),
    "learning_rate": float,
    "momentum": float,
    "unfreeze_rate": float,
    **dict.fromkeys(
        ("epochs", "batch_size", "early_stopping", "gradient_accumulation", "head_epochs", "unfreeze_layers"), int
    ),
    **dict.fromkeys(("workers", "devices", "seed"), int),
}
"""What flags take that is neither text, nor a table, nor a switch."""

_SHORT = {
    "network_options": "network-option",
    "schedule_options": "schedule-option",
    "export_name": "name",
    "hard_mining_options": "hard-mining-option",
}
"""Flags that have other names than their fields."""


def _flag(option: Option) -> Any:
    """The flag of one field of TrainConfig; a flag that is not given is None, and leaves the file's value."""
    name = _SHORT.get(option.name, option.name.replace("_", "-"))
    about = option.about[0].upper() + option.about[1:] + "."
    if option.is_table:
        return click.option(f"--{name}", option.name, type=_Table(), multiple=True, help=about)
    if option.default not in (None, False):
        about += f"  [default: {str(option.default).lower() if option.is_switch else option.default}]"
    if option.is_switch:
        names = f"--{name}" if option.name == "overwrite" else f"--{name}/--no-{name}"
        return click.option(names, option.name, is_flag=True, default=None, help=about)
    return click.option(f"--{name}", option.name, type=_TYPES.get(option.name, str), help=about)


def _flags(command: Any) -> Any:
    for option in reversed(OPTIONS.values()):
        command = _flag(option)(command)
    return command


@click.command(epilog=f"Networks: {', '.join(NETWORKS)}. Every flag is an option of the TOML file, by its own name.")
@click.argument("network", required=False)
@click.option("--config", "file", type=click.Path(path_type=Path), help="A TOML file of options; flags win over it.")
@click.option("--out", type=click.Path(path_type=Path), help="The run's folder.")
@click.option("--data", help=f"A folder, .npz or .csv file; or {', '.join(BUNDLED)}, which come with scikit-learn.")
@_flags
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def train(as_json: bool, file: Path | None, **options: Any) -> None:
    """Train NETWORK on labelled data; keep its best epoch.

    A run that was interrupted or killed goes on where it was when the same command is given again.

    \b
    Writes into the run's folder:
      best.keras     the best epoch
      test.npz       the rows (and labels) held out for testing
      history.json   every epoch's values, and curves.png: the same as a picture
      config.toml    all options, for --config

    \b
    Example:
      keraship train cnn --out run
      keraship train --config run.toml --epochs 10 --seed 1 --overwrite --json
      keraship train cnn --out run --data photos --on-bad skip --augment flip,rotation=0.1
      keraship train resnet --out run --schedule cyclic --schedule-option mode=triangular2 --export repo
    """
    config = _config(file, {name: value for name, value in options.items() if value not in (None, ())})
    _name_twice(config.data)
    try:
        with _reporting(config.epochs, lines=not as_json) as on_epoch:
            result = run_training(config, on_epoch=on_epoch)
    except KeyboardInterrupt:
        click.echo(f"stopped; the same command goes on with the run in {config.out}", err=True)
        raise
    except ExportFailed as error:
        click.echo(f"keraship: {error}", err=True)
        sys.exit(error.status)
    if as_json:
        print_json(_as_json(result))
    else:
        _print_result(config, result)


def _config(file: Path | None, given: dict[str, Any]) -> TrainConfig:
    """The run's configuration; what is wrong with it is wrong usage."""
    try:
        options = read_options(file) if file else {}
        for name, value in given.items():
            is_table = name in OPTIONS and OPTIONS[name].is_table
            options[name] = _merged(options.get(name, {}), value) if is_table else value
        if "network" not in options:
            raise click.UsageError("Missing argument 'NETWORK', or `network` in the file that --config names.")
        if "out" not in options:
            raise click.UsageError("Missing option '--out', or `out` in the file that --config names.")
        return make_config(options)
    except TrainingError as error:
        raise click.UsageError(str(error)) from error


def _merged(table: Any, given: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    """The file's table with the flags' entries over it."""
    before = table if isinstance(table, dict) else dict.fromkeys(table, True)
    return {**before, **{name: value for each in given for name, value in each.items()}}


def _name_twice(data: str) -> None:
    """Say which of two is meant where a bundled set's name is a path too."""
    if data in BUNDLED and Path(data).exists():
        click.echo(f"--data {data} is scikit-learn's set; for the path of that name write ./{data}", err=True)


@contextlib.contextmanager
def _reporting(epochs: int, *, lines: bool) -> Iterator[Callable[[Epoch], None]]:
    """What to call after every epoch: it moves the bar on a terminal, and prints a line. All of it on stderr."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    with Progress(console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("training", total=epochs)

        def on_epoch(epoch: Epoch) -> None:
            progress.update(task, completed=epoch.number)
            if lines:
                console.print(_line(epoch, epochs), markup=False)

        yield on_epoch


def _line(epoch: Epoch, epochs: int) -> str:
    figures = "  ".join(f"{name} {value:.4f}" for name, value in epoch.values.items() if name != RATE)
    return f"epoch {epoch.number:>{len(str(epochs))}}/{epochs}  {figures}{'  best' if epoch.is_best else ''}"


def _as_json(result: TrainResult) -> dict[str, Any]:
    return {
        "model": str(result.model),
        "test": str(result.test),
        "history": str(result.history),
        "epochs": len(result.epochs),
        "best_epoch": result.best_epoch,
        "quality": dataclasses.asdict(result.quality),
        "exported": result.exported and str(result.exported),
        "skipped": [dataclasses.asdict(fault) for fault in result.skipped],
    }


def _print_result(config: TrainConfig, result: TrainResult) -> None:
    quality = result.quality
    for fault in result.skipped:
        click.echo(f"skipped {fault}", err=True)
    name = quality.metric.replace("_", " ")
    click.echo(
        f"test {name} {quality.value:.4f} (95 % interval {quality.low:.4f} to {quality.high:.4f}, "
        f"{quality.samples} rows), epoch {result.best_epoch} of {len(result.epochs)}: {result.model}"
    )
    if result.exported:
        click.echo(f"exported: {result.exported}")
        click.echo(f"next: {shlex.join(['keraship', 'serve', str(config.export)])}")
    else:
        click.echo(f"next: {shlex.join(['keraship', *export_command(config, Run(config.out), 'repo')])}")
