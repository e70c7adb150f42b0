"""`keraship predict`: rows of a data file to a running server, its answers to the terminal or a file."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from keraship.cli import print_json
from keraship.client.address import parse_addresses
from keraship.client.answers import WRITERS, Answer, document, show
from keraship.client.client import Client
from keraship.client.many import Predictions
from keraship.client.results import Prediction
from keraship.errors import DataError, InvalidInput, Unimplemented
from keraship.samples import Samples, check_readable, named, read_samples
from keraship.signature import DEFAULT_SIGNATURE, TensorSpec, check_array

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
@click.option("--server", metavar="ADDRESS",
              help="HOST:PORT, unix:/path, http://HOST:PORT; several with commas. [localhost:8500]")  # fmt: skip
@click.option("--data", "data_option", type=click.Path(path_type=Path), metavar="DATA", help="The same as DATA.")
@click.option("--input", "inputs", multiple=True, callback=_read_inputs, metavar="NAME=FILE[:ARRAY]",
              help="An input and its array, instead of DATA.")  # fmt: skip
@click.option("--rows", default=":", callback=_read_rows, metavar="ROWS", help="10, 5:8 or 5: (all without it).")
@click.option("--signature", default=DEFAULT_SIGNATURE, show_default=True, help="The signature to call.")
@click.option("--version", type=click.IntRange(min=0), help="The model's version (the latest without it).")
@click.option("--label", "version_label", metavar="LABEL", help="The label of a version, instead of --version.")
@click.option("--batch-size", type=click.IntRange(min=1), default=256, show_default=True, help="Rows in one request.")
@click.option("--in-flight", type=click.IntRange(min=1), default=4, show_default=True, help="Requests at a time.")
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), default=60.0, show_default=True,
              help="Seconds that one request may take.")  # fmt: skip
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    callback=_read_output,
    metavar="FILE",
    help=f"Write the answers to a file that ends in {', '.join(WRITERS)}.",
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
    in_flight: int,
    timeout: float,
    output: Path | None,
    as_json: bool,
) -> None:
    """Ask a running server for the predictions on a data file.

    DATA is an .npz file with an array for each input of the model, an .npy file for a model of one input, a .csv file
    with a column for each input (or for each feature of the only one), or a folder of images. Labels in it (an array or
    a column called labels, class folders) are shown beside the predictions. Ctrl-C keeps the answers that came.

    \b
    Example:
      keraship predict digits run/test.npz --rows 10
      keraship predict localhost:8500/digits run/test.npz --output answers.csv
      keraship predict http://localhost:8501/photos holiday/ --in-flight 8 --output answers.jsonl
      keraship predict ranker --input query=q.npz:tokens --input page=p.npy --json
    """
    if version is not None and version_label is not None:
        raise click.UsageError("expected --version or --label; got both")
    address, model = _target(target, server)
    read = _reader(data, data_option, inputs)
    with Client(address, model, timeout=timeout) as client:
        specs = _input_specs(client, signature, version, version_label)
        samples, start = _cut(read(specs or ()), rows)
        samples = _named(samples, specs)
        if (data or data_option or Path()).suffix == ".csv":
            samples = _as_literals(samples, specs or ())
        answers = client.predict_many(
            samples.inputs,
            batch_size=batch_size,
            in_flight=in_flight,
            signature_name=signature,
            version=version,
            version_label=version_label,
            progress=len(samples) > batch_size and sys.stderr.isatty(),
        )
        answer = _collect(answers, samples, start=start, batch_size=batch_size)
    if output is not None:
        WRITERS[output.suffix](output, answer)
    if answer.rows < len(samples):
        kept = f"those to the first {answer.rows} are in {output}" if output else "--output FILE keeps those that came"
        click.echo(f"keraship: interrupted before all {len(samples)} rows were answered; {kept}", err=True)
        raise KeyboardInterrupt
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
        parse_addresses(address)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    return address, model


def _reader(data: Path | None, option: Path | None, inputs: _Inputs) -> Callable[[Sequence[TensorSpec]], Samples]:
    """What reads the data, once the model's inputs are known; that there is any is checked at once."""
    given = [path for path in (data, option) if path is not None]
    if len(given) + bool(inputs) != 1:
        raise click.UsageError("expected data once: a file or folder, or --input for each input of the model")
    if given:
        check_readable(given[0])
        return lambda specs: read_samples(given[0], specs)
    samples = _from_arrays(inputs)
    return lambda _specs: samples


def _from_arrays(inputs: _Inputs) -> Samples:
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


def _input_specs(
    client: Client, signature: str, version: int | None, version_label: str | None
) -> tuple[TensorSpec, ...] | None:
    """The model's inputs; None where the server does not tell them, none for a signature that the model has not."""
    try:
        metadata = client.metadata(version=version, version_label=version_label)
    except Unimplemented:
        return None
    return metadata.signatures[signature].inputs if signature in metadata.signatures else ()


def _named(samples: Samples, specs: tuple[TensorSpec, ...] | None) -> Samples:
    """The arrays under the model's names; as the file has them where the server does not tell the model's."""
    if specs:
        return named(samples, tuple(spec.name for spec in specs))
    if specs is None and "" in samples.inputs:
        raise InvalidInput("expected --input NAME=FILE: this server does not tell the names of a model's inputs")
    return samples  # predict says what is wrong with the signature


def _as_literals(samples: Samples, specs: Sequence[TensorSpec]) -> Samples:
    """A text file's numbers have no dtype yet, and take the model's where it holds their values."""
    inputs = dict(samples.inputs)
    for spec in specs:
        if inputs[spec.name].dtype.kind in "biuf":
            inputs[spec.name] = check_array(spec, inputs[spec.name].tolist())
    return Samples(inputs, samples.labels)


def _collect(answers: Predictions, samples: Samples, *, start: int, batch_size: int) -> Answer:
    """The answers to all rows; to fewer where Ctrl-C came, if there are any."""
    received: list[Prediction] = []
    try:
        received.extend(answers)
    except KeyboardInterrupt:
        if not received:
            raise
    rows = min(len(received) * batch_size, len(samples))
    counts = [min(batch_size, rows - first) for first in range(0, rows, batch_size)]
    return Answer(
        spec=received[-1].model_spec,
        outputs={name: _joined(name, received, counts) for name in received[0]},
        start=start,
        rows=rows,
        labels=None if samples.labels is None else samples.labels[:rows],
    )


def _joined(name: str, answers: list[Prediction], counts: list[int]) -> Array:
    if len(answers) == 1:
        return answers[0][name]
    for answer, sent in zip(answers, counts, strict=True):
        shape = list(answer[name].shape)
        if shape[:1] != [sent]:
            raise DataError(
                f"expected output '{name}' to have a row for each of {sent} rows of data; got shape {shape}: "
                f"send all rows at once with --batch-size {sum(counts)}"
            )
    return np.concatenate([answer[name] for answer in answers])
