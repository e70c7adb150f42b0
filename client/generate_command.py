"""`keraship client generate`: a typed client for one model, from its manifest or from a running server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from keraship import bundle
from keraship.client.address import parse_addresses
from keraship.client.client import Client
from keraship.client.generate import generate
from keraship.errors import DataError
from keraship.signature import Signature


@click.group()
def client() -> None:
    """Write a typed client for a model.

    \b
    Example:
      keraship client generate repo/digits -o digits_client.py
    """


@client.command("generate")
@click.argument("source", metavar="REPO/NAME")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Where to; stdout without it.")
@click.option("--name", metavar="MODEL", help="What the server calls the model, where it is not the folder's name.")
def generate_(source: str, output: Path | None, name: str | None) -> None:
    """Write a Python module with a method for each signature of a model, typed as the signature is.

    REPO/NAME is an exported model's folder (its latest version counts) or one version of it; or HOST:PORT/MODEL on a
    running server. A wrong name or dtype is then found by a type checker, before anything runs.

    \b
    Example:
      keraship client generate repo/digits -o digits_client.py
      keraship client generate localhost:8500/digits -o digits_client.py
    """
    model, signatures = _signatures(source)
    text = generate(name or model, signatures, source=source)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"expected to write the client to {output}: {error.strerror or error}") from error


def _signatures(source: str) -> tuple[str, Mapping[str, Signature]]:
    """The model's name and its signatures, from a folder or from a server."""
    path = Path(source)
    address, _, model = source.rpartition("/")
    if not path.exists() and ":" in address and model:
        try:
            parse_addresses(address)
        except ValueError as error:
            raise click.UsageError(str(error)) from error
        with Client(address, model) as asked:
            return model, asked.metadata().signatures
    version = bundle.resolve(path)
    return version.resolve().parent.name, bundle.read_manifest(version).signatures
