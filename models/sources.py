"""Where scores come from: a .keras file, an exported version, or a running server; each is asked in the same way."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from keraship import bundle
from keraship.client import Client, InvalidInput, Unimplemented
from keraship.client.address import parse_address
from keraship.dtypes import by_name, has_fractions
from keraship.errors import BundleError, DataError, ModelError, ServerError
from keraship.extras import require
from keraship.keras_file import load
from keraship.models.predictions import Ask
from keraship.reasons import reason
from keraship.samples import Samples, named
from keraship.signature import DEFAULT_SIGNATURE, Signature, TensorSpec, check

Array = np.ndarray[Any, Any]

OUTPUT = "scores"
FORMATS = {"onnx": (bundle.ONNX, "onnx"), "saved_model": (bundle.SAVED_MODEL, "tensorflow")}
"""Formats of a version by name: its file there, and the backend of `keraship serve` that runs it."""

_STOP_SECONDS = 40  # ten more than a server takes at most to finish what is under way


class Source(Protocol):
    """Something that can be asked for scores. name: as its user wrote it; kind: what it is, for people."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> str: ...

    def opened(self) -> contextlib.AbstractContextManager[Asked]:
        """Ready to be asked until the block ends; raises a KerashipError."""
        ...


@dataclass(frozen=True)
class Asked:
    """What can be asked for scores. inputs: what it takes; none where it does not tell."""

    ask: Ask
    inputs: tuple[TensorSpec, ...] = ()

    def __call__(self, inputs: Any) -> Any:
        return self.ask(inputs)


def parse_sources(texts: Sequence[str], *, imports: Sequence[str] = (), formats: Sequence[str] = ()) -> list[Source]:
    """The sources that texts name: .keras files, versions' or models' folders, HOST:PORT/MODEL.

    imports: modules that register the classes of .keras files. formats: those to run of a folder, out of FORMATS, a
    source for each; none leaves the choice to the server.
    Raises ModelError where nothing is there, BundleError for a folder without a version or the format, ValueError for
    no source, one given twice, and an address that is none.
    """
    found = [source for text in texts for source in _parse(str(text), imports, formats)]
    twice = [name for name, count in Counter(source.name for source in found).items() if count > 1]
    if twice or not found:
        raise ValueError(f"expected every source once; got {f'{twice[0]} more than once' if twice else 'none'}")
    return found


def _parse(text: str, imports: Sequence[str], formats: Sequence[str]) -> list[Source]:
    path = Path(text)
    if path.is_dir():
        version = bundle.resolve(path)
        return [Exported(version, format_) for format_ in formats or ("",)]
    if path.suffix == ".keras":
        return [KerasFile(path, tuple(imports))]
    address, _, model = text.rpartition("/")
    if ":" in address and model:
        return [Served(parse_address(address).text, model)]
    raise ModelError(
        f"expected a .keras file, the folder of an exported version, or HOST:PORT/MODEL; got {text!r}, "
        f"which is {'another kind of file' if path.exists() else 'none of them, and not there'}"
    )


@dataclass(frozen=True)
class KerasFile:
    """A .keras file, loaded in Keras' safe mode."""

    path: Path
    imports: tuple[str, ...] = ()
    kind: str = field(default="Keras model", init=False)

    @property
    def name(self) -> str:
        return str(self.path)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Asked]:
        require("train", "tensorflow", "keras")
        model = load(self.path, imports=self.imports)
        model.jit_compile = False  # XLA would compile longer than one pass over the rows takes
        yield ask_keras(model, name=self.name)


@dataclass(frozen=True)
class Exported:
    """An exported version, run by a `keraship serve` of its own on a socket that nobody else can reach."""

    version: Path
    format: str = ""
    kind: str = field(default="exported version", init=False)

    def __post_init__(self) -> None:
        if self.format and not (self.version / FORMATS[self.format][0]).exists():
            raise BundleError(f"expected {FORMATS[self.format][0]} in {self.version}; export it with --formats")

    @property
    def name(self) -> str:
        return f"{self.version} ({self.format})" if self.format else str(self.version)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Asked]:
        with (
            tempfile.TemporaryDirectory(prefix="keraship-") as folder,
            _serving(self, Path(folder)) as address,
            Client(address, "model") as client,
        ):
            yield ask_server(client, name=self.name)


@dataclass(frozen=True)
class Served:
    """A model on a running server, which is asked over gRPC."""

    address: str
    model: str
    kind: str = field(default="served model", init=False)

    @property
    def name(self) -> str:
        return f"{self.address}/{self.model}"

    @contextlib.contextmanager
    def opened(self) -> Iterator[Asked]:
        with Client(self.address, self.model) as client:
            yield ask_server(client, name=self.name)


def ask_keras(model: Any, *, name: str = "the model") -> Asked:
    """A Keras model as something to ask for scores: with an array, or arrays by name.

    Raises DataError for arrays that do not fit the model's inputs, ModelError where it fails on them.
    """
    import keras

    specs = _input_specs(model)

    def ask(inputs: Any) -> Array:
        arrays = _fitted(inputs, specs, name)
        given = [_as_tensor(arrays[spec.name]) for spec in specs] if specs else inputs
        try:
            answer = model.predict_on_batch(keras.tree.pack_sequence_as(model.input, given) if specs else given)
        except Exception as error:  # a model may fail in as many ways as it has layers
            raise ModelError(f"{name} fails on the data: {reason(error)}") from error
        return _scores(answer, model, name)

    return Asked(ask, specs)


def ask_server(client: Client, *, name: str) -> Asked:
    """A served model as something to ask; one version throughout, even where the server gets a new one meanwhile."""
    try:
        metadata = client.metadata()
    except Unimplemented:
        return Asked(lambda inputs: _only_scores(client.predict(inputs), name))
    signature = metadata.signatures.get(DEFAULT_SIGNATURE)
    specs = signature.inputs if signature else ()

    def ask(inputs: Any) -> Array:
        try:
            return _only_scores(client.predict(_fitted(inputs, specs, name), version=metadata.version), name)
        except InvalidInput as error:
            raise DataError(f"the data does not fit {name}: {error}") from error

    return Asked(ask, tuple(specs))


def _input_specs(model: Any) -> tuple[TensorSpec, ...]:
    """The model's inputs; none for a model that has not declared them, which takes what it is given."""
    import keras

    if not getattr(model, "inputs", None):
        return ()
    keys = {id(tensor): key for key, tensor in model.input.items()} if isinstance(model.input, dict) else {}
    return tuple(
        TensorSpec(
            keys.get(id(tensor), tensor.name), keras.backend.standardize_dtype(tensor.dtype), tuple(tensor.shape)
        )
        for tensor in keras.tree.flatten(model.input)
    )


def _fitted(inputs: Any, specs: Sequence[TensorSpec], source: str) -> dict[str, Array]:
    """Arrays under the inputs' names and of their types; numbers become floats as Keras itself makes them so."""
    arrays = inputs if isinstance(inputs, Mapping) else {"": inputs}
    if not specs:
        return dict(arrays)
    try:
        given = named(Samples({key: np.asarray(array) for key, array in arrays.items()}), tuple(s.name for s in specs))
        return check(
            Signature(tuple(specs), ()), {spec.name: _as_float(spec, given.inputs[spec.name]) for spec in specs}
        )
    except (InvalidInput, DataError) as error:
        raise DataError(f"the data does not fit {source}: {error}") from error


def _as_float(spec: TensorSpec, array: Array) -> Array:
    dtype = by_name(spec.dtype)
    is_number = array.dtype.kind in "iuf"
    return array.astype(dtype.numpy) if is_number and spec.dtype != "string" and has_fractions(dtype) else array


def _as_tensor(array: Array) -> Any:
    """Keras takes text in tensors only."""
    if array.dtype.kind != "O":
        return array
    import tensorflow as tf

    return tf.constant(array)


def _scores(answer: Any, model: Any, source: str) -> Array:
    """A list of outputs gets the names that the model has for them."""
    if isinstance(answer, list | tuple):
        answer = dict(zip(getattr(model, "output_names", range(len(answer))), answer, strict=True))
    return _only_scores(answer if isinstance(answer, Mapping) else {OUTPUT: answer}, source)


def _only_scores(outputs: Mapping[Any, Any], source: str) -> Array:
    if len(outputs) == 1:
        return np.asarray(next(iter(outputs.values())))
    if OUTPUT in outputs:
        return np.asarray(outputs[OUTPUT])
    raise ModelError(f"expected one output, or one called {OUTPUT}; {source} gives {', '.join(map(str, outputs))}")


@contextlib.contextmanager
def _serving(exported: Exported, folder: Path) -> Iterator[str]:
    """The address of a server of this version alone, which ends with the block."""
    model = folder / "repository" / "model"
    model.mkdir(parents=True)
    (model / "1").symlink_to(exported.version.resolve())
    command = [sys.executable, "-m", "keraship", "serve", str(model.parent), "--port=0", "--rest_api_port=0", "--json"]
    command += [f"--grpc_socket_path={folder / 'socket'}"]
    command += [f"--backend={FORMATS[exported.format][1]}"] if exported.format else []
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said)
        try:
            _wait_until_served(process, said, exported.name)
            yield f"unix:{folder / 'socket'}"
        finally:
            _stop(process)


def _wait_until_served(process: subprocess.Popen[bytes], said: IO[bytes], name: str) -> None:
    """The first line of its report comes once all is served; the end of its output, where it failed."""
    assert process.stdout is not None  # noqa: S101  # it was started with a pipe
    if process.stdout.readline():
        return
    process.wait()
    said.seek(0)
    lines = said.read().decode(errors="replace").strip().splitlines() or ["it said nothing"]
    raise ServerError(f"keraship serve cannot serve {name}: {lines[-1].removeprefix('keraship: ')}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
