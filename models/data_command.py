"""`keraship data`: real data to try things with, written as files."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from pathlib import Path

import click

from keraship.cli import print_json
from keraship.models.make_data import KINDS, Written, make_data


@click.command(epilog="\n\n".join(f"{name}: {kind.about}." for name, kind in KINDS.items()))
@click.argument("kind", type=click.Choice(list(KINDS)))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A new folder, or an empty one.")
@click.option("--count", type=int, default=None, help="How many rows; by default all there are, and 1000 scenes.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Decides what is drawn.")
@click.option("--overwrite", is_flag=True, help="Replace the folder, with all that is in it.")
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
def data(kind: str, out: Path, *, count: int | None, seed: int, overwrite: bool, as_json: bool) -> None:
    """Write real data to try things with: digits, scenes, text or tabular.

    \b
    Example:
      keraship data digits --out photos
      keraship train cnn --data photos --out run
    \b
      keraship data scenes --out scenes --count 2000 --seed 1
      keraship data text --out texts --json
    """
    from rich.console import Console

    with Console(stderr=True).status(f"writing {kind}") if sys.stderr.isatty() else contextlib.nullcontext():
        written = make_data(kind, out, count=count, seed=seed, overwrite=overwrite)
    if as_json:
        print_json({**dataclasses.asdict(written), "path": str(written.path)})
    else:
        _print(written)


def _print(written: Written) -> None:
    click.echo(f"{written.rows} {written.kind} in {written.path}, {len(written.classes)} classes: {written.about}")
