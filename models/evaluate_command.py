"""`keraship evaluate`: its options, its progress, and the table at the end."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keraship.cli import print_json, print_table

if TYPE_CHECKING:
    from keraship.models.evaluate import Evaluation, Progress

_FORMATS = ("onnx", "saved_model")


@click.command()
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    help="An .npz or .csv file with labels, or a folder of images or texts.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The folder for the report.")
@click.option(
    "--import", "imports", multiple=True, metavar="MODULE", help="A module that registers a .keras file's classes."
)
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(_FORMATS),
    help="What to run of an exported version; may be given twice.  [default: as keraship serve]",
)
@click.option("--label-column", help="Of a table; by default the one called label, else the last.")
@click.option("--batch-size", type=click.IntRange(min=1), default=256, show_default=True, help="Rows asked at once.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Decides the intervals' resamples."
)
@click.option("--overwrite", is_flag=True, help="Replace the evaluation that the folder holds.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON.")
def evaluate(
    sources: tuple[str, ...],
    data: Path,
    out: Path,
    imports: tuple[str, ...],
    formats: tuple[str, ...],
    label_column: str | None,
    batch_size: int,
    seed: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Judge models on held-out data, and lay them side by side.

    SOURCE is a .keras file, the folder of an exported version (or of a model: its latest), or HOST:PORT/MODEL on a
    running server. Classes are judged by precision-recall, ROC, confusion and calibration, masks by IoU and Dice.

    \b
    Writes into the folder:
      report.html       all of it for people, in one file
      evaluation.json   all of it for programs
      *.png             the curves

    \b
    Example:
      keraship evaluate run/best.keras --data run/test.npz --out evaluation
      keraship evaluate run/best.keras repo/digits localhost:8500/digits --data run/test.npz --out evaluation
      keraship evaluate run/best.keras --data photos/test --out evaluation
    """
    from keraship.models.evaluate import compare
    from keraship.models.evaluation_report import as_json as document
    from keraship.models.evaluation_report import check_folder, write_report
    from keraship.models.sources import parse_sources

    if imports:  # modules beside the user, as with `python -m`
        sys.path.insert(0, os.getcwd())  # noqa: PTH109  # sys.path holds strings
    check_folder(out, overwrite=overwrite)
    try:
        parsed = parse_sources(sources, imports=imports, formats=formats)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    with _exit_on_sigterm(), _progress() as progress:
        evaluation = compare(
            parsed, data, label_column=label_column, batch_size=batch_size, seed=seed, progress=progress
        )
    report = write_report(evaluation, out, overwrite=overwrite)
    if as_json:
        print_json({"report": str(report), **document(evaluation)})
    else:
        _print(evaluation, report)


@contextlib.contextmanager
def _exit_on_sigterm() -> Iterator[None]:
    """SIGTERM as an exit of Python's, so that a server which was started for this is ended too."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _progress() -> Iterator[Progress]:
    """The source that is asked, and how far it is, on stderr, where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _name, _done, _total: None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    # a copy of stderr: the real one is set aside while TensorFlow is imported
    with os.fdopen(os.dup(2), "w") as stderr, Bar(console=Console(file=stderr), transient=True) as bar:
        tasks: dict[str, Any] = {}

        def progress(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=total)
            bar.update(tasks[name], completed=done)

        yield progress


def _print(evaluation: Evaluation, report: Path) -> None:
    from rich.markup import escape

    from keraship.models.evaluation_page import estimate_text

    results = evaluation.results
    rows = [
        [name.replace("_", " "), *(escape(estimate_text(result.scores.metrics[name])) for result in results)]
        for name in results[0].scores.metrics
    ]
    against_first = [each for each in evaluation.agreements if each.first == results[0].source]
    if against_first:
        rows.append(["same best class as the first", "", *(escape(estimate_text(a.same_top1)) for a in against_first)])
        rows.append(["largest difference of a score", "", *(f"{a.max_score_difference:.2g}" for a in against_first)])
    print_table(["[95 % interval]".replace("[", r"\["), *(escape(result.source) for result in results)], rows)
    left_out = results[0].scores.left_out
    if left_out:
        click.echo(f"left out, for the data has nothing of them: {', '.join(left_out)}")
    click.echo(f"{evaluation.rows} rows of {evaluation.data}; the report: {report}")
