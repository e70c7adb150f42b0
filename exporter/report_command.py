"""The command `keraship report`: what was measured of a version, or of a repository, as a page and as a table."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from keraship import bundle, cli
from keraship.bundle import Manifest
from keraship.errors import BundleError
from keraship.exporter.outcome import Outcome, from_manifest, read_outcome
from keraship.exporter.report import page
from keraship.exporter.report_index import index_page
from keraship.exporter.table import print_outcome


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the page to this file; - prints it.")
@click.option("--open", "open_", is_flag=True, help="Show the page in the browser.")
@click.option("--json", "as_json", is_flag=True, help="Print what the page is made of as JSON.")
def report(path: Path, output: Path | None, open_: bool, as_json: bool) -> None:
    """Show how an export went: every artifact with its verdict, errors, quality, size and speed.

    PATH is a version's folder, a model's folder (its latest version), or a repository: the latest versions of all its
    models, side by side. Every version has its page in keraship/report.html; nothing of the version is changed.

    \b
    Example:
      keraship report repo/digits
      keraship report repo/digits --open
      keraship report repo -o models.html
    """
    if _is_repository(path):
        _report_repository(path, output, open_=open_, as_json=as_json)
    else:
        _report_version(bundle.resolve(path), output, open_=open_, as_json=as_json)


def _is_repository(path: Path) -> bool:
    """Whether it holds models, and is none."""
    return path.is_dir() and not bundle.versions(path) and bool(bundle.model_names(path))


def _report_version(folder: Path, output: Path | None, *, open_: bool, as_json: bool) -> None:
    outcome = _outcome(folder)
    if as_json:
        cli.print_json(msgspec.to_builtins(outcome))
        return
    if output is not None or (open_ and not (folder / bundle.REPORT).is_file()):
        output = output or Path(f"{folder.resolve().parent.name}-report.html")
        _deliver(page(outcome), output, open_=open_)
        return
    print_outcome(outcome)
    if (folder / bundle.REPORT).is_file():
        click.echo(f"The page: {folder / bundle.REPORT}")
        if open_:
            _show(folder / bundle.REPORT)
    else:
        click.echo("This version has no page of its own; write one with -o FILE")


def _report_repository(path: Path, output: Path | None, *, open_: bool, as_json: bool) -> None:
    folders = [bundle.latest(path / name) for name in bundle.model_names(path)]
    found = [(folder, bundle.read_manifest(folder)) for folder in folders]
    if as_json:
        cli.print_json([_summary(folder, manifest) for folder, manifest in found])
    elif output is not None or open_:
        output = output or Path("models.html")
        _deliver(index_page(path, found, None if str(output) == "-" else output), output, open_=open_)
    else:
        for folder, manifest in found:
            click.echo(f"{folder}:")
            print_outcome(from_manifest(folder.parent.name, manifest))


def _outcome(folder: Path) -> Outcome:
    """What was stored with the version; of versions without, what the manifest tells."""
    stored = read_outcome(folder)
    return stored if stored is not None else from_manifest(folder.resolve().parent.name, bundle.read_manifest(folder))


def _summary(folder: Path, manifest: Manifest) -> dict[str, object]:
    return {"name": folder.parent.name, "version": folder.name, "manifest": msgspec.to_builtins(manifest)}


def _deliver(html: str, output: Path, *, open_: bool) -> None:
    if str(output) == "-":
        click.echo(html, nl=False)
        return
    try:
        output.write_text(html, encoding="utf-8")
    except OSError as error:
        raise BundleError(f"cannot write the page to {output}: {error.strerror or error}") from error
    click.echo(f"Wrote {output}")
    if open_:
        _show(output)


def _show(page_: Path) -> None:
    click.launch(page_.resolve().as_uri())
