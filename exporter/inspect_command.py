"""The command `keraship inspect`: what a version or a model file holds, in words and tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from keraship import cli
from keraship.bundle import Artifact
from keraship.exporter import inspection, words
from keraship.exporter.graph_file import GraphFile
from keraship.exporter.outcome import from_manifest
from keraship.exporter.table import print_outcome


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def inspect(path: Path, as_json: bool) -> None:
    """Show what a version or a model file holds. Nothing in it is run, and TensorFlow is not needed.

    PATH is a version's folder, a model's folder (its latest version), a .keras, .h5 or .onnx file, or a SavedModel's
    folder, whoever made it.

    \b
    Example:
      keraship inspect repo/digits
      keraship inspect run/best.keras --json
      keraship inspect downloaded.onnx
    """
    found = inspection.look(path)
    if as_json:
        cli.print_json(_json(found))
    elif isinstance(found, inspection.Version):
        _show_version(found)
    elif isinstance(found, inspection.ModelFile):
        _show_model_file(found)
    else:
        _show_graph_file(found)


def _json(found: inspection.Version | inspection.ModelFile | GraphFile) -> Any:
    if isinstance(found, inspection.Version):
        folder = found.folder
        head = {"folder": str(folder), "name": folder.parent.name, "version": folder.name}
        return head | {"manifest": msgspec.to_builtins(found.manifest)}
    return msgspec.to_builtins(found, enc_hook=str)


def _show_version(found: inspection.Version) -> None:
    manifest = found.manifest
    source, tools = manifest.source, manifest.tools
    weights = words.size(source.weights_bytes)
    click.echo(f"{found.folder}: {source.model} from {source.file or 'memory'}, weights {weights}")
    click.echo(f"source sha256 {source.sha256}")
    if manifest.scheme:
        click.echo(f"quantized as {manifest.scheme}")
    for name, signature in manifest.signatures.items():
        click.echo(f"{name}{signature}")
    print_outcome(from_manifest(found.folder.resolve().parent.name, manifest))
    for artifact in manifest.artifacts:
        _show_coverage(artifact)
    click.echo("made with " + ", ".join(f"{package} {version}" for package, version in tools.items()))


def _show_coverage(artifact: Artifact) -> None:
    coverage = artifact.coverage
    if coverage is None:
        return
    ops = ", ".join(f"{coverage.quantized.get(op, 0)} of {total} {op}" for op, total in sorted(coverage.total.items()))
    click.echo(f"{artifact.format}: {words.percent(coverage.weights_share)} of the weights are quantized; {ops}")
    if coverage.kept_float:
        rows = [(kept.layer, kept.op, kept.reason) for kept in coverage.kept_float]
        cli.print_table(("kept float", "op", "why"), rows)


def _show_model_file(found: inspection.ModelFile) -> None:
    click.echo(f"{found.path}: {found.class_name} {found.name!r}, Keras {found.keras_version or 'of unknown version'}")
    click.echo(f"weights {words.size(found.weights_bytes)}")
    if found.needs:
        click.echo("needs " + " ".join(f"--import {module}" for module in found.needs))
    for given in found.inputs:
        click.echo(f"input {given.name}: {given.dtype} {[-1 if size is None else size for size in given.shape]}")
    cli.print_table(("layer", "class", "module"), [(item.name, item.class_name, item.module) for item in found.layers])


def _show_graph_file(found: GraphFile) -> None:
    producer = f" of {found.producer}" if found.producer else ""
    click.echo(f"{found.path}: {found.format}{producer}, {words.size(found.bytes)}")
    for domain, version in found.opsets.items():
        click.echo(f"opset {domain or 'ai.onnx'} {version}")
    for name, signature in found.signatures.items():
        click.echo(f"{name}{signature}")
    cli.print_table(("op", "count"), [(op, str(count)) for op, count in found.ops.items()])
