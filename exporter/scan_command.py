"""The command `keraship scan`: words and a table around the function of that name."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from keraship import cli
from keraship.danger import DANGER
from keraship.exporter.scan import Scanned
from keraship.exporter.scan import scan as scan_path


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def scan(path: Path, as_json: bool) -> int:
    """Say what is dangerous in a model that somebody sent. Nothing of it is run; TensorFlow is not needed.

    PATH is a .keras, .h5, .pb, .onnx, .tflite or .npz file, or a folder such as a SavedModel. Exit status 1 where
    something would run code, reach beyond the file or exhaust the machine, or where the file is broken.

    \b
    Example:
      keraship scan downloaded.keras
      keraship scan saved_model/ --json
    """
    scanned = scan_path(path)
    if as_json:
        findings = msgspec.to_builtins(scanned.findings)
        cli.print_json(
            {"path": str(path), "format": scanned.format, "dangerous": scanned.dangerous, "findings": findings}
        )
    else:
        _show(scanned)
    return 1 if scanned.dangerous else 0


def _show(scanned: Scanned) -> None:
    for found in scanned.findings:
        click.echo(f"{found.severity}: {found}")
    dangers = sum(found.severity == DANGER for found in scanned.findings)
    said = f"{dangers} danger{'s' if dangers != 1 else ''}" if dangers else "nothing dangerous found"
    click.echo(f"{scanned.path} ({scanned.format}): {said}")
