"""The commands `keraship export` and `keraship verify`: words and a table around the functions of these names."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import msgspec

from keraship import bundle, cli
from keraship.bundle import Manifest
from keraship.exporter import gate
from keraship.exporter.export import Exported
from keraship.exporter.export import export as export_model
from keraship.exporter.formats import DEFAULT_FORMATS, FORMATS, SCHEMES
from keraship.exporter.outcome import RefusedError, from_manifest
from keraship.exporter.progress import live
from keraship.exporter.table import print_outcome
from keraship.exporter.verify import TIMED
from keraship.exporter.verify import verify as verify_version
from keraship.exporter.wanted import SCALES


class _Names(click.ParamType):  # type: ignore[type-arg]  # generic in click's later stubs only
    """Names with commas between them: `a,b`."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        names = value if isinstance(value, tuple) else tuple(part.strip() for part in value.split(","))
        if not all(names):
            self.fail(f"expected names with commas between them, such as a,b; got {value!r}", param, ctx)
        return names


class _Known(_Names):
    """Names out of a table."""

    def __init__(self, what: str, known: Collection[str]) -> None:
        self.name = what
        self._known = known

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        names = super().convert(value, param, ctx)
        unknown = [name for name in names if name not in self._known]
        if unknown:
            self.fail(f"expected {self.name} out of {', '.join(self._known)}; got {unknown[0]!r}", param, ctx)
        return names


class _Counts(click.ParamType):  # type: ignore[type-arg]  # generic in click's later stubs only
    """Whole numbers from 1 on, with commas between them."""

    name = "counts"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        parts = value.split(",")
        if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
            self.fail(
                f"expected whole numbers from 1 on with commas between them, such as 1,32; got {value!r}", param, ctx
            )
        return tuple(int(part) for part in parts)


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--to", "repository", required=True, type=click.Path(path_type=Path), help="The model repository.")
@click.option("--name", help="The model's name there.  [default: the file's]")
@click.option("--version", type=click.IntRange(min=0), help="The version's number.  [default: the next]")
@click.option(
    "--formats",
    type=_Known("formats", FORMATS),
    default=DEFAULT_FORMATS,
    help=f"Out of {','.join(FORMATS)}.  [default: {','.join(DEFAULT_FORMATS)}]",
)
@click.option("--quantize", type=_Known("schemes", SCHEMES), default=(), help=f"Out of {','.join(SCHEMES)}.")
@click.option("--calibrate", type=click.Path(path_type=Path), help="Data like that which the model will be asked.")
@click.option("--inputs", type=_Names(), help="Names for the inputs, in the model's order: a,b.")
@click.option("--outputs", type=_Names(), help="Names for the outputs, in the model's order.")
@click.option("--classify", is_flag=True, help="Add the signature classify: tf.Examples in, classes and scores out.")
@click.option("--regress", is_flag=True, help="Add the signature regress: tf.Examples in, a number for each out.")
@click.option("--labels", help="The classes' names for classify: a,b,c or a file with one a line.")
@click.option(
    "--image-input",
    is_flag=False,
    flag_value="",
    help="Add predict_images, which takes JPEG, PNG, GIF or BMP bytes for this input, or for the only one of images.",
)
@click.option(
    "--image-scale",
    type=click.Choice(tuple(SCALES)),
    default="none",
    show_default=True,
    help="What predict_images makes of pixels, for models that do not scale them.",
)
@click.option("--evaluate", type=click.Path(path_type=Path), help="An .npz file with inputs and labels to judge by.")
@click.option(
    "--max-drop",
    type=click.FloatRange(min=0),
    default=gate.MAX_DROP,
    show_default=True,
    help="Percentage points of accuracy that a quantized artifact may lose.",
)
@click.option("--tune", is_flag=True, help="Try every scheme; publish the float model and the fastest that passes.")
@click.option("--keep-passing", is_flag=True, help="Publish what passes where a quantized artifact is refused.")
@click.option(
    "--timed",
    type=_Counts(),
    default=TIMED,
    help=f"Rows at which nothing may get slower.  [default: {','.join(map(str, TIMED))}]",
)
@click.option(
    "--import", "imports", multiple=True, metavar="MODULE", help="A module that registers the model's classes."
)
@click.option("--trust", is_flag=True, help="Run the Python code of Lambda layers, a SavedModel's file operations.")
@click.option("--signature", help="Which of a SavedModel's.  [default: serving_default, else the first]")
@click.option("--json", "as_json", is_flag=True, help="Print the folder and the manifest as JSON.")
def export(
    model: Path,
    repository: Path,
    name: str | None,
    version: int | None,
    formats: tuple[str, ...],
    quantize: tuple[str, ...],
    calibrate: Path | None,
    max_drop: float,
    tune: bool,
    keep_passing: bool,
    timed: tuple[int, ...],
    inputs: tuple[str, ...] | None,
    outputs: tuple[str, ...] | None,
    classify: bool,
    regress: bool,
    labels: str | None,
    image_input: str | None,
    image_scale: str,
    evaluate: Path | None,
    imports: tuple[str, ...],
    trust: bool,
    signature: str | None,
    as_json: bool,
) -> None:
    """Export a model into a model repository, and prove every artifact equal to it.

    MODEL is a .keras or .h5 file, or a SavedModel's folder.

    Nothing is published unless every artifact answers as the Keras model does, in a fresh process without Keras.

    \b
    Example:
      keraship export run/best.keras --to repo --name digits --evaluate run/test.npz
      keraship export depth.keras --to repo --import keraship.models.layers --inputs images --outputs depth
    """
    if imports:  # modules beside the user, as with `python -m`
        sys.path.insert(0, os.getcwd())  # noqa: PTH109  # sys.path holds strings
    with _showing_refusals(as_json=as_json), live() as report:
        exported = export_model(
            model,
            repository,
            name=name,
            version=version,
            formats=formats,
            quantize=quantize,
            calibrate=calibrate,
            max_drop=max_drop,
            tune=tune,
            keep_passing=keep_passing,
            timed=timed,
            inputs=inputs,
            outputs=outputs,
            classify=classify,
            regress=regress,
            labels=labels,
            image_input=True if image_input == "" else image_input or False,
            image_scale=image_scale,
            evaluate=evaluate,
            imports=imports,
            trust=trust,
            signature=signature,
            progress=report,
        )
    if as_json:
        cli.print_json(_exported_json(exported))
        return
    print_outcome(exported.outcome)
    folders = [exported.folder, *(variant.folder for variant in exported.variants.values())]
    click.echo(f"Published {', '.join(map(str, folders))}")
    click.echo(f"The report: {exported.folder / bundle.REPORT}")


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print what was measured as JSON.")
def verify(path: Path, as_json: bool) -> None:
    """Prove a published version once more: its files are unchanged, and answer as the Keras model did.

    PATH is a version's folder, or a model's, which means its latest version.

    \b
    Example:
      keraship verify repo/digits
      keraship verify repo/digits/1 --json
    """
    with live() as report:
        verified = verify_version(path, progress=report)
    if as_json:
        artifacts = msgspec.to_builtins(verified.artifacts)
        cli.print_json({"folder": str(verified.folder), "verdict": "equal", "artifacts": artifacts})
        return
    manifest = replace(verified.manifest, artifacts=verified.artifacts)
    print_outcome(from_manifest(verified.folder.resolve().parent.name, manifest))
    click.echo(f"Verified {verified.folder}")


def _exported_json(exported: Exported) -> dict[str, Any]:
    """The float version, the quantized ones by scheme, and what became of every artifact."""
    names = ("model_name", "scheme", "format", "verdict", "reason")
    return _version_json(exported.folder, exported.manifest) | {
        "variants": {scheme: _version_json(it.folder, it.manifest) for scheme, it in exported.variants.items()},
        "verdicts": [{name: getattr(row, name) for name in names} for row in exported.outcome.rows],
    }


def _version_json(folder: Path, manifest: Manifest) -> dict[str, Any]:
    return {"folder": str(folder), "name": folder.parent.name, "version": folder.name} | {
        "manifest": msgspec.to_builtins(manifest)
    }


@contextlib.contextmanager
def _showing_refusals(*, as_json: bool) -> Iterator[None]:
    """Where an export is refused, the table with what was measured; then the error goes on."""
    try:
        yield
    except RefusedError as refused:
        if as_json:
            cli.print_json(msgspec.to_builtins(refused.outcome))
        else:
            print_outcome(refused.outcome)
        raise
