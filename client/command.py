"""`keraship predict`: rows of a data file to a running server, its answers to the terminal or a file."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np

from keraship.cli import print_json
from keraship.client.address import parse_address
from keraship.client.answers import WRITERS, Answer, document, show
from keraship.client.client import Client
from keraship.client.results import Prediction
from keraship.errors import DataError, InvalidInput, Unimplemented
from keraship.samples import Samples, named, read_samples
from keraship.signature import DEFAULT_SIGNATURE

Array = np.ndarray[Any, Any]

_Inputs = dict[str, tuple[Path, str]]  # input name -> the file and the array in it


def _read_rows(_ctx: click.Context, _param: click.Parameter, value: str) -> slice:
    """`10` is the first ten, `5:8` the rows 5, 6 and 7, `5:` all from row 5 on."""
    match = re.fullmatch(r"(?:(\d*):)?(\d*)", value, re.ASCII)
    start, stop = (int(part) if part else None for part in match.groups()) if match else (None, None)
    if stop is not None and stop <= (start or 0):
        match = None
    if not match:
        raise click.BadParameter(f"expected a number of rows, or START:STOP with STOP above START; got {value!r}")
    return slice(start or 0, stop)


def _read_inputs(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> _Inputs:
    """`images=test.npz:pictures`: an input, its file, and the array in that file (the input's name without it)."""
    matches = [re.fullmatch(r"([^=]+)=(.+?\.np[yz])(?::(.+))?", value) for value in values]
    if None in matches:
        raise click.BadParameter(f"expected NAME=FILE.npz:ARRAY or NAME=FILE.npy; got {values[matches.index(None)]!r}")
    return {match[1]: (Path(match[2]), match[3] or "") for match in matches if match}


def _read_output(_ctx: click.Context, _param: click.Parameter, value: Path | None) -> Path | None:
    if value is not None and value.suffix not in WRITERS:
        raise click.BadParameter(f"expected a file that ends in {' or '.join(WRITERS)}; got {str(value)!r}")
    return value


@click.command()
@click.argument("target", metavar="[HOST:PORT/]MODEL")
@click.argument("data", type=click.Path(path_type=Path), required=False)
@click.option("--server", metavar="ADDRESS", help="HOST:PORT or unix:/path; localhost:8500 without it.")
@click.option("--data", "data_option", type=click.Path(path_type=Path), metavar="DATA", help="The same as DATA.")
@click.option("--input", "inputs", multiple=True, callback=_read_inputs, metavar="NAME=FILE[:ARRAY]",
              help="An input and its array, instead of DATA.")  # fmt: skip
@click.option("--rows", default=":", callback=_read_rows, metavar="ROWS", help="10, 5:8 or 5: (all without it).")
@click.option("--signature", default=DEFAULT_SIGNATURE, show_default=True, help="The signature to call.")
@click.option("--version", type=click.IntRange(min=0), help="The model's version (the latest without it).")
@click.option("--label", "version_label", metavar="LABEL", help="The label of a version, instead of --version.")
@click.option("--batch-size", type=click.IntRange(min=1), default=256, show_default=True, help="Rows in one request.")
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), default=60.0, show_default=True,
              help="Seconds that one request may take.")  # fmt: skip
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    callback=_read_output,
    metavar="FILE",
    help="Write the answers to FILE.npz or FILE.json.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the answers as JSON.")
def predict(
    target: str,
    data: Path | None,
    server: str | None,
    data_option: Path | None,
    inputs: _Inputs,
    rows: slice,
    signature: str,
    version: int | None,
    version_label: str | None,
    batch_size: int,
    timeout: float,
    output: Path | None,
    as_json: bool,
) -> None:
    """Ask a running server for the predictions on a data file.

    DATA is an .npz file with an array for each input of the model, or an .npy file for a model of one input. Labels in
    it (an array called labels) are shown beside the predictions.

    \b
    Example:
      keraship predict digits run/test.npz --rows 10
      keraship predict localhost:8500/digits run/test.npz --output answers.npz
      keraship predict ranker --input query=q.npz:tokens --input page=p.npy --json
    """
    if version is not None and version_label is not None:
        raise click.UsageError("expected --version or --label; got both")
    address, model = _target(target, server)
    samples, start = _cut(_samples(data, data_option, inputs), rows)
    with Client(address, model, timeout=timeout) as client:
        samples = _named(client, samples, signature, version, version_label)

        def send(batch: Samples) -> Prediction:
            return client.predict(batch.inputs, signature_name=signature, version=version, version_label=version_label)

        answer = _ask(send, samples, start=start, batch_size=batch_size)
    if output is not None:
        WRITERS[output.suffix](output, answer)
    if as_json:
        print_json(document(answer))
    else:
        show(answer)


def _target(target: str, server: str | None) -> tuple[str, str]:
    address, slash, model = target.rpartition("/")
    if slash and server is not None:
        raise click.UsageError(f"expected the server once; got {address!r} before the model, and --server {server}")
    if not model:
        raise click.UsageError(f"expected a model, as in digits or localhost:8500/digits; got {target!r}")
    address = address or server or "localhost:8500"
    try:
        parse_address(address)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    return address, model


def _samples(data: Path | None, option: Path | None, inputs: _Inputs) -> Samples:
    given = [path for path in (data, option) if path is not None]
    if len(given) + bool(inputs) != 1:
        raise click.UsageError("expected data once: a file, or --input for each input of the model")
    if given:
        return read_samples(given[0])
    arrays = {name: _array(name, path, key) for name, (path, key) in inputs.items()}
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) != 1:
        raise DataError(f"expected inputs with the same number of rows; got {counts}")
    return Samples(arrays)


def _array(name: str, path: Path, key: str) -> Array:
    arrays = read_samples(path).inputs
    if not key and len(arrays) == 1:
        return next(iter(arrays.values()))
    wanted = key or name
    if wanted not in arrays:
        raise DataError(
            f"expected an array '{wanted}' in {path}; it has {', '.join(filter(None, arrays)) or 'no names'}"
        )
    return arrays[wanted]


def _cut(samples: Samples, rows: slice) -> tuple[Samples, int]:
    """The rows that are asked for, and the number of the first."""
    start = rows.start
    if start >= len(samples):
        raise DataError(f"expected --rows within the {len(samples)} rows of the data; got rows from {start} on")
    return _slice(samples, rows), start


def _slice(samples: Samples, rows: slice) -> Samples:
    labels = None if samples.labels is None else samples.labels[rows]
    return Samples({name: array[rows] for name, array in samples.inputs.items()}, labels)


def _named(client: Client, samples: Samples, signature: str, version: int | None, version_label: str | None) -> Samples:
    """The arrays under the model's names; as the file has them where the server does not tell the model's."""
    try:
        metadata = client.metadata(version=version, version_label=version_label)
    except Unimplemented:
        if "" in samples.inputs:
            raise InvalidInput(
                "expected --input NAME=FILE: this server does not tell the names of a model's inputs"
            ) from None
        return samples
    if signature not in metadata.signatures:
        return samples  # predict says what is wrong with it
    return named(samples, tuple(spec.name for spec in metadata.signatures[signature].inputs))


def _ask(send: Callable[[Samples], Prediction], samples: Samples, *, start: int, batch_size: int) -> Answer:
    batches = [slice(first, min(first + batch_size, len(samples))) for first in range(0, len(samples), batch_size)]
    with _progress(len(samples), many=len(batches) > 1) as advance:
        answers = []
        for batch in batches:
            answers.append(send(_slice(samples, batch)))
            advance(batch.stop - batch.start)
    return Answer(
        spec=answers[-1].model_spec,
        outputs={name: _joined(name, answers, batches) for name in answers[0]},
        start=start,
        rows=len(samples),
        labels=samples.labels,
    )


def _joined(name: str, answers: list[Prediction], batches: list[slice]) -> Array:
    if len(answers) == 1:
        return answers[0][name]
    for answer, batch in zip(answers, batches, strict=True):
        sent, shape = batch.stop - batch.start, list(answer[name].shape)
        if shape[:1] != [sent]:
            raise DataError(
                f"expected output '{name}' to have a row for each of {sent} rows of data; got shape {shape}: "
                f"send all rows at once with --batch-size {batches[-1].stop}"
            )
    return np.concatenate([answer[name] for answer in answers])


@contextmanager
def _progress(total: int, *, many: bool) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, disable=not (many and sys.stderr.isatty())) as progress:
        task = progress.add_task("rows", total=total)
        yield lambda count: progress.advance(task, count)
