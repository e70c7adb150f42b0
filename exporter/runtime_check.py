"""A program that runs one artifact in one runtime, where neither Keras nor the model's own code can be imported.

    python -m keraship.exporter.runtime_check saved_model keras,my_layers

It imports the runtime and prints `ready`. For each Request on a line of its standard input it writes its Findings to
the file that the request names, and prints `done`.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from keraship import bundle
from keraship.exporter import findings, golden, quality
from keraship.exporter.findings import DONE, READY, Comparison, Findings, Request
from keraship.exporter.names import SIGNATURES
from keraship.intervals import Z_95
from keraship.quiet import import_tensorflow
from keraship.signature import DEFAULT_SIGNATURE, Signature, TensorSpec

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]

_TIMED_LEAST = 3
_TIMED_CALLS = 30
_TIMED_SECONDS = 0.5


class Runner(Protocol):
    """A loaded artifact: its signatures by name, and how to ask it."""

    signatures: dict[str, Signature]

    def run(self, inputs: Arrays, signature_name: str = DEFAULT_SIGNATURE) -> Arrays: ...


def main(arguments: list[str]) -> None:
    """Check artifacts of one format, as the module describes, until standard input ends."""
    format_, blocked = arguments[0], [name for name in arguments[1].split(",") if name]
    block(blocked)
    load = RUNTIMES[format_]()
    say(READY)
    for line in sys.stdin:
        request = findings.decode_request(line)
        found = check(request, load)
        loaded = [name for name in blocked if sys.modules.get(name) is not None]
        if loaded:
            raise SystemExit(f"{', '.join(loaded)} was loaded, and an artifact must not need it")
        Path(request.answer).write_text(findings.encode(found))
        say(DONE)


def say(word: str) -> None:
    """A line for the parent, which waits for it."""
    print(word, flush=True)  # noqa: T201


def block(modules: list[str]) -> None:
    """Make the import of these modules fail."""
    for name in modules:
        sys.modules[name] = None  # type: ignore[assignment]  # what the import system takes for "can't be had"


def check(request: Request, load: Callable[[Path], Runner]) -> Findings:
    """Load the artifact and measure all that a Findings holds."""
    load_seconds, runner = loaded(load, Path(request.version))
    wanted = dict.fromkeys(SIGNATURES, request.signature) | request.others
    faults = list(_signature_faults(wanted, runner.signatures, needed=request.others))
    if faults:
        return Findings(load_seconds, tuple(faults), (), 0.0, None)
    cases = {int(count): bundle.read_golden(Path(folder)) for count, folder in request.cases.items()}
    inputs, _ = cases[int(request.whole)]
    comparisons = [
        comparison
        for rows, (asked, expected) in cases.items()
        for comparison in compare(expected, runner.run(asked), rows)
    ]
    comparisons += [item for name in request.others for item in _compare_other(runner, Path(request.version), name)]
    answers = runner.run(inputs)
    repeated = compare(answers, runner.run(inputs), len(answers))
    if request.data and request.answers:
        inputs_asked, _ = bundle.read_golden(Path(request.data))
        given = golden.in_parts(runner.run, inputs_asked) if request.batchable else runner.run(inputs_asked)
        bundle.write_golden(Path(request.answers), {}, given, compress=False)
    whole = int(request.whole)
    timed = {size: golden.cycled(inputs, size) for size in request.timed} if request.batchable else {whole: inputs}
    return Findings(
        load_seconds,
        tuple(faults),
        tuple(comparisons),
        repeat_error=max(comparison.max_rel for comparison in repeated),
        row_error=_row_error(runner, inputs, answers) if request.batchable else None,
        latency_ms={str(size): latency(runner, batch) for size, batch in timed.items()},
        latency_ratio=_ratios(runner, load(Path(request.baseline)), timed) if request.baseline else {},
    )


def loaded(load: Callable[[Path], Runner], version: Path) -> tuple[float, Runner]:
    """The artifact in a version's folder, and the seconds that it took to load."""
    start = time.perf_counter()
    runner = load(version)
    return time.perf_counter() - start, runner


def compare(expected: Arrays, got: Arrays, rows: int) -> list[Comparison]:
    """How far each output is from the expected one."""
    return [_compare(name, array, got.get(name), rows) for name, array in expected.items()]


def _compare_other(runner: Runner, version: Path, name: str) -> Iterator[Comparison]:
    """A signature with golden samples of its own; its outputs are reported as signature/output."""
    inputs, expected = bundle.read_golden(version, name)
    for item in compare(expected, runner.run(inputs, name), len(next(iter(inputs.values())))):
        yield replace(item, output=f"{name}/{item.output}")


def _compare(name: str, expected: Array, got: Array | None, rows: int) -> Comparison:
    if got is None or expected.shape != got.shape or expected.dtype != got.dtype:
        return Comparison(rows, name, () if got is None else got.shape, float("inf"), 1.0)
    if expected.dtype.kind in "OSUb":
        return Comparison(rows, name, got.shape, 0.0 if np.array_equal(expected, got) else float("inf"), 1.0)
    wide = complex if expected.dtype.kind == "c" else float
    left, right = expected.astype(wide), got.astype(wide)
    finite = np.isfinite(left)
    if not np.array_equal(np.where(finite, 0, left), np.where(finite, 0, right), equal_nan=True):
        return Comparison(rows, name, got.shape, float("inf"), 1.0)
    difference = np.abs(np.where(finite, left, 0) - np.where(finite, right, 0))
    agreement = float(np.mean(left.argmax(1) == right.argmax(1))) if quality.has_classes(expected) else None
    magnitude = float(np.max(np.abs(np.where(finite, left, 0)), initial=0.0))
    max_abs = float(np.max(difference, initial=0.0))
    return Comparison(rows, name, got.shape, float("inf") if np.isnan(max_abs) else max_abs, magnitude, agreement)


def _row_error(runner: Runner, inputs: Arrays, answers: Arrays) -> float:
    """How far the answers are from those to the rows one by one; infinite where an output has not a row for each."""
    count = len(next(iter(inputs.values())))
    if any(array.ndim == 0 or len(array) != count for array in answers.values()):
        return float("inf")
    single = [runner.run(golden.rows(inputs, row, row + 1)) for row in range(count)]
    joined = {name: np.concatenate([answer[name] for answer in single]) for name in answers}
    return max(comparison.max_rel for comparison in compare(answers, joined, count))


def latency(runner: Runner, batch: Arrays) -> float:
    """The median of some calls, in milliseconds."""
    return statistics.median(_times([runner], batch)[0]) * 1e3


def _ratios(runner: Runner, baseline: Runner, timed: dict[int, Arrays]) -> dict[str, findings.Ratio]:
    ratios = {}
    for size, batch in timed.items():
        own, others = _times([runner, baseline], batch)
        ratios[str(size)] = _ratio(sorted(mine / other for mine, other in zip(own, others, strict=True)))
    return ratios


def _ratio(ratios: list[float]) -> findings.Ratio:
    """The median of sorted values, with the order statistics that hold it in 95 of 100 cases."""
    count = len(ratios)
    half = Z_95 * math.sqrt(count) / 2
    low, high = max(0, math.floor(count / 2 - half)), min(count - 1, math.ceil(count / 2 + half))
    return findings.Ratio(statistics.median(ratios), ratios[low], ratios[high])


def _times(runners: list[Runner], batch: Arrays) -> list[list[float]]:
    """Seconds of calls, of each runner in turn, so that what else the machine does meets them alike."""
    times: list[list[float]] = [[] for _ in runners]
    for runner in runners:  # what is only done at the first call
        runner.run(batch)
    while len(times[0]) < _TIMED_LEAST or (len(times[0]) < _TIMED_CALLS and sum(times[0]) < _TIMED_SECONDS):
        for runner, own in zip(runners, times, strict=True):
            start = time.perf_counter()
            runner.run(batch)
            own.append(time.perf_counter() - start)
    return times


def _signature_faults(
    wanted: dict[str, Signature], found: dict[str, Signature], *, needed: Iterable[str]
) -> Iterator[str]:
    yield from (f"expected the signature {name}; there is none" for name in needed if name not in found)
    for name, signature in found.items():
        if name not in wanted:
            yield f"expected no signature {name}; got {signature}"
            continue
        if signature.method_name != wanted[name].method_name:
            yield f"{name}: expected the method {wanted[name].method_name}; got {signature.method_name}"
        for side in ("inputs", "outputs"):
            have = {spec.name: spec for spec in getattr(signature, side)}
            want = {spec.name: spec for spec in getattr(wanted[name], side)}
            if have.keys() != want.keys():
                yield f"{name}: expected the {side} {', '.join(sorted(want))}; got {', '.join(sorted(have))}"
                continue
            yield from (
                f"{name}: expected {spec.name} to be {spec}; got {have[spec.name]}"
                for spec in want.values()
                if not _same(side, spec, have[spec.name])
            )


def _same(side: str, want: TensorSpec, have: TensorSpec) -> bool:
    """Of an output a runtime may know more sizes than the signature (onnxruntime infers them) or fewer (TFLite)."""
    if want.dtype != have.dtype:
        return False
    if side == "outputs" and want.shape and have.shape and len(want.shape) == len(have.shape):
        return all(None in (size, known) or size == known for size, known in zip(want.shape, have.shape, strict=True))
    return want.shape in (None, have.shape)


def _saved_model() -> Callable[[Path], Runner]:
    import_tensorflow()
    return _SavedModel


def _onnx() -> Callable[[Path], Runner]:
    import onnxruntime  # noqa: F401  # so that loading is measured without it

    block(["tensorflow"])
    return _Onnx


def _tflite() -> Callable[[Path], Runner]:
    import_tensorflow()
    return _TfLite


RUNTIMES = {"saved_model": _saved_model, "onnx": _onnx, "tflite": _tflite}


class _SavedModel:
    """A SavedModel in TensorFlow."""

    def __init__(self, version: Path) -> None:
        import tensorflow as tf

        self._constant = tf.constant
        self._model = tf.saved_model.load(str(version))
        self.signatures = saved_signatures(version)

    def run(self, inputs: Arrays, signature_name: str = DEFAULT_SIGNATURE) -> Arrays:
        function = self._model.signatures[signature_name]
        answers = function(**{name: self._constant(array) for name, array in inputs.items()})
        return {name: np.asarray(tensor) for name, tensor in answers.items()}


def saved_signatures(version: Path) -> dict[str, Signature]:
    """The signatures of a SavedModel, by name; those that loaders use for themselves left out."""
    from tensorflow.core.protobuf import saved_model_pb2

    from keraship.wire.signatures import to_signature

    message = saved_model_pb2.SavedModel.FromString((version / bundle.SAVED_MODEL).read_bytes())
    signatures = message.meta_graphs[0].signature_def
    return {name: to_signature(signatures[name]) for name in signatures if not name.startswith("__")}


class _Onnx:
    """An ONNX model in onnxruntime, on the CPU."""

    def __init__(self, version: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            str(version / bundle.ONNX), options, providers=["CPUExecutionProvider"]
        )
        sides = (self._session.get_inputs(), self._session.get_outputs())
        inputs, outputs = (tuple(map(_onnx_spec, side)) for side in sides)
        self.signatures = {DEFAULT_SIGNATURE: Signature(inputs, outputs)}

    def run(self, inputs: Arrays, signature_name: str = DEFAULT_SIGNATURE) -> Arrays:
        names = [spec.name for spec in self.signatures[signature_name].outputs]
        feeds = {name: _as_text(array) for name, array in inputs.items()}
        return {name: _as_bytes(array) for name, array in zip(names, self._session.run(names, feeds), strict=True)}


_ONNX_DTYPES = {"float": "float32", "double": "float64"}  # others are called as ours are


def _onnx_spec(value: Any) -> TensorSpec:
    dtype = value.type.removeprefix("tensor(").removesuffix(")")
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    return TensorSpec(value.name, _ONNX_DTYPES.get(dtype, dtype), shape)


class _TfLite:
    """A TFLite model in TensorFlow's interpreter; open sizes are set anew for each shape of inputs."""

    _KEPT = 8  # interpreters, each for inputs of one shape; the weights are in memory once, mapped from the file

    def __init__(self, version: Path) -> None:
        self._path = str(version / bundle.TFLITE)
        self._runners: OrderedDict[Any, Any] = OrderedDict()
        runner = self._new()
        sides = (runner.get_input_details(), runner.get_output_details())
        inputs, outputs = (tuple(_tflite_spec(name, detail) for name, detail in side.items()) for side in sides)
        self.signatures = {DEFAULT_SIGNATURE: Signature(inputs, outputs)}

    def run(self, inputs: Arrays, signature_name: str = DEFAULT_SIGNATURE) -> Arrays:
        if signature_name not in self.signatures:
            raise KeyError(signature_name)
        shapes = tuple((name, array.shape) for name, array in sorted(inputs.items()))
        if shapes not in self._runners:
            self._runners[shapes] = self._new()
        self._runners.move_to_end(shapes)
        if len(self._runners) > self._KEPT:
            self._runners.popitem(last=False)
        answers = self._runners[shapes](**inputs)
        return {name: np.array(array) for name, array in answers.items()}

    def _new(self) -> Any:
        import tensorflow as tf

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is moving to a package of its own
            return tf.lite.Interpreter(self._path, num_threads=1).get_signature_runner(DEFAULT_SIGNATURE)


def _tflite_spec(name: str, detail: dict[str, Any]) -> TensorSpec:
    shape = tuple(None if size < 0 else int(size) for size in detail["shape_signature"])
    return TensorSpec(name, np.dtype(detail["dtype"]).name, shape)


def _as_text(array: Array) -> Array:
    """Strings as onnxruntime takes them: text, where TensorFlow has bytes."""
    return np.vectorize(bytes.decode, otypes=[object])(array) if array.dtype.kind == "O" else array


def _as_bytes(array: Array) -> Array:
    return np.vectorize(str.encode, otypes=[object])(array) if array.dtype.kind == "O" else array


if __name__ == "__main__":
    main(sys.argv[1:])
