"""`keraship train`: its options, its lines while it trains, and what it says at the end."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from keraship.cli import print_json
from keraship.errors import TrainingError
from keraship.models.config import TrainConfig
from keraship.models.networks import NETWORKS
from keraship.models.run import Epoch
from keraship.models.train import TrainResult
from keraship.models.train import train as run_training

_DEFAULT = {field.name: field.default for field in dataclasses.fields(TrainConfig)}


@click.command(epilog=f"Networks: {', '.join(NETWORKS)}.")
@click.argument("network")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The run's folder.")
@click.option("--epochs", type=int, default=_DEFAULT["epochs"], show_default=True, help="Passes over the data.")
@click.option("--batch-size", type=int, default=_DEFAULT["batch_size"], show_default=True, help="Images a step.")
@click.option(
    "--learning-rate",
    type=float,
    default=_DEFAULT["learning_rate"],
    show_default=True,
    help="The first step's; it falls to 0.",
)
@click.option("--seed", type=int, default=_DEFAULT["seed"], show_default=True, help="Decides all that is random.")
@click.option("--overwrite", is_flag=True, help="Replace the run that the folder holds.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def train(as_json: bool, **options: Any) -> None:
    """Train NETWORK on handwritten digits; keep its best epoch.

    \b
    Writes into the run's folder:
      best.keras     the epoch with the best validation accuracy
      test.npz       the images (and labels) held out for testing
      history.json   every epoch's loss and accuracy

    \b
    Example:
      keraship train cnn --out run
      keraship train cnn --out run --epochs 10 --seed 1 --overwrite --json
    """
    config = _config(options)
    with _reporting(config.epochs, lines=not as_json) as on_epoch:
        result = run_training(config, on_epoch=on_epoch)
    if as_json:
        print_json(_as_json(result))
    else:
        _print_result(config, result)


def _config(options: dict[str, Any]) -> TrainConfig:
    """The run's configuration; what is wrong with it is wrong usage."""
    try:
        return TrainConfig(**options)
    except TrainingError as error:
        raise click.UsageError(str(error)) from error


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
    values = ("loss", "accuracy", "val_loss", "val_accuracy")
    figures = "  ".join(f"{name} {getattr(epoch, name):.4f}" for name in values)
    return f"epoch {epoch.number:>{len(str(epochs))}}/{epochs}  {figures}{'  best' if epoch.is_best else ''}"


def _as_json(result: TrainResult) -> dict[str, Any]:
    return {
        "model": str(result.model),
        "test": str(result.test),
        "history": str(result.history),
        "epochs": len(result.epochs),
        "best_epoch": result.best_epoch,
        "quality": dataclasses.asdict(result.quality),
    }


def _print_result(config: TrainConfig, result: TrainResult) -> None:
    quality = result.quality
    click.echo(
        f"test accuracy {quality.value:.4f} (95 % interval {quality.low:.4f} to {quality.high:.4f}, "
        f"{quality.samples} images), epoch {result.best_epoch} of {len(result.epochs)}: {result.model}"
    )
    next_command = ["keraship", "export", str(result.model), "--to", "repo", "--name", config.data]
    next_command += ["--import", "keraship.models.layers", "--evaluate", str(result.test)]
    click.echo(f"next: {shlex.join(next_command)}")
