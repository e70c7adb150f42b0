"""The export of a Keras model, read top-down: STEPS is the pipeline, each step a function below it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keraship import bundle
from keraship.bundle import Artifact, Manifest
from keraship.errors import ExportError, KerashipError
from keraship.exporter import fidelity, gate, golden, quality
from keraship.exporter.distribution import distribution
from keraship.exporter.fidelity import Fidelity, Reference
from keraship.exporter.findings import Findings
from keraship.exporter.formats import CALIBRATED, DEFAULT_FORMATS, FORMATS, Material, model_name
from keraship.exporter.graph_summary import summarize_graph_def
from keraship.exporter.job import Job, Progress, checked, chosen, schemes
from keraship.exporter.machine import machine
from keraship.exporter.names import SIGNATURES, offered
from keraship.exporter.outcome import Curve, Distribution, Graph, Outcome, RefusedError, Row
from keraship.exporter.random_layers import random_layers
from keraship.exporter.report import write_report
from keraship.exporter.verify import (
    TIMED,
    TOLERANCES,
    Cases,
    Checks,
    Questions,
    asking,
    is_row_independent,
    judge,
    parity,
    raise_faults,
    unreported,
)
from keraship.exporter.wanted import want
from keraship.exporter.written_graph import written_graph
from keraship.extras import require
from keraship.quiet import import_keras
from keraship.samples import Samples, read_samples

if TYPE_CHECKING:
    from keraship.exporter.freeze import Frozen
    from keraship.exporter.signatures import Additions
    from keraship.exporter.trace import Traced
    from keraship.signature import Signature


@dataclass(frozen=True)
class Exported:
    """A version that was published: its folder, and what its manifest says.

    outcome: every artifact that was asked for, with its verdict, and what pictures of it need. variants: the quantized
    models published with it, by scheme.
    """

    folder: Path
    manifest: Manifest
    outcome: Outcome
    variants: dict[str, Exported] = field(default_factory=dict)


def export(
    model: Any,
    to: Path | str,
    *,
    name: str | None = None,
    version: int | None = None,
    formats: Sequence[str] = DEFAULT_FORMATS,
    quantize: Sequence[str] = (),
    calibrate: Path | str | Samples | None = None,
    evaluate: Path | str | Samples | None = None,
    max_drop: float = gate.MAX_DROP,
    tune: bool = False,
    keep_passing: bool = False,
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
    timed: Sequence[int] = TIMED,
    imports: Sequence[str] = (),
    trust: bool = False,
    signature: str | None = None,
    classify: bool = False,
    regress: bool = False,
    labels: Sequence[str] | Path | str | None = None,
    image_input: bool | str = False,
    image_scale: str = "none",
    progress: Progress | None = None,
) -> Exported:
    """Export a Keras model into the model repository `to`; published only once every artifact was proven.

    model: the path of a .keras or .h5 file or of a SavedModel's folder, or a keras.Model. name: the file's or the
    model's where left out. version: the next one where left out. formats: out of FORMATS. quantize: schemes out of
    SCHEMES; each becomes a model of its own, `name-scheme`, published together with `name`; int8 where only `calibrate`
    is given. calibrate: data like that which the model will be asked, at least 100 rows. evaluate: data whose first
    rows become the golden samples, and on whose labels accuracy is measured; the calibration data where left out.
    max_drop: the percentage points of accuracy that a quantized artifact may lose. tune: try every scheme, publish the
    float model and the fastest that passes. keep_passing: publish what passes where a quantized artifact is refused,
    instead of nothing. inputs, outputs: names in the model's order, in place of the layers'. timed: the numbers of rows
    at which no quantized artifact may be slower than the float one. imports: modules that register the model's own
    classes. progress: called with the name of each stage. trust: run the Python code of Lambda layers and a
    SavedModel's operations on files, which are refused otherwise. signature: which of a SavedModel's; serving_default,
    else the first, where left out. classify, regress: add signatures that take tf.Examples to the SavedModel; labels:
    the classes' names, or a file with one a line. image_input: add predict_images, which takes encoded images for the
    input of this name (True: for the only one that can be); image_scale: out of SCALES, for a model that does not scale
    pixels itself.
    Raises VersionExists and BundleError for the target, DataError for the data, ModelError for the file, ExportError
    for a model that cannot be exported, VerificationError for an artifact that does not answer as the model does, or
    is worse or slower than is allowed.

        export("run/best.keras", "repo", name="digits", evaluate="run/test.npz")   # repo/digits/1
        export("run/best.keras", "repo", calibrate="run/train.npz", evaluate="run/test.npz", quantize=["int8"])
    """
    path = Path(model) if isinstance(model, str | Path) else None
    job = Job(
        model=path or model,
        name=name or (path.stem if path else str(getattr(model, "name", "model"))),
        formats=chosen("formats", formats, FORMATS),
        schemes=schemes(formats, quantize, calibrated=calibrate is not None, tune=tune),
        inputs=inputs,
        outputs=outputs,
        calibrate=checked(calibrate),
        evaluate=checked(evaluate),
        max_drop=max_drop,
        tune=tune,
        keep_passing=keep_passing or tune,
        timed=tuple(timed),
        imports=tuple(imports),
        trust=trust,
        signature=signature,
        wanted=want(
            formats,
            classify=classify,
            regress=regress,
            labels=labels,
            image_input=image_input,
            image_scale=image_scale,
        ),
        report=progress or unreported,
    )
    require("export", *sorted({package for format_ in job.formats for package in FORMATS[format_].packages}))
    names = [model_name(job.name, scheme) for scheme in job.schemes]
    blocked = (*imports, *(() if path else _own_modules(model)))
    with bundle.stage_all(Path(to), names, version) as stagings, Checks(job.formats, blocked) as checks:
        folders = {scheme: stagings[model_name(job.name, scheme)] for scheme in job.schemes}
        run = _Run(job, folders, checks)
        for step in STEPS:
            step(run)
    return run.exported()


Key = tuple[str, str]
"""An artifact: its scheme and its format."""


@dataclass
class _Run:
    """An export under way: what the steps have come to, each field set by the step that is named behind it."""

    job: Job
    stagings: dict[str, bundle.Staging]
    checks: Checks
    model: Any = None  # load
    traced: Traced = None  # type: ignore[assignment]  # trace
    additions: Additions | None = None  # trace
    others: Mapping[str, tuple[golden.Arrays, golden.Arrays]] = field(default_factory=dict)  # sample
    samples: tuple[golden.Arrays, golden.Arrays] = ({}, {})  # sample
    data: Samples = None  # type: ignore[assignment]  # sample
    reference: Reference = None  # type: ignore[assignment]  # sample
    frozen: Frozen = None  # type: ignore[assignment]  # freeze, fold
    graph: Graph | None = None  # freeze
    material: Material = None  # type: ignore[assignment]  # write
    coverage: dict[Key, bundle.Coverage | None] = field(default_factory=dict)  # write
    found: dict[Key, Findings] = field(default_factory=dict)  # verify
    fidelity: dict[Key, Fidelity] = field(default_factory=dict)  # verify
    graphs: dict[Key, Graph | None] = field(default_factory=dict)  # write
    errors: dict[Key, tuple[Distribution, ...]] = field(default_factory=dict)  # verify
    curves: dict[Key, tuple[Curve, ...]] = field(default_factory=dict)  # verify
    refused: dict[Key, str] = field(default_factory=dict)  # write, verify, gate
    manifests: dict[str, Manifest] = field(default_factory=dict)  # publish
    outcome: Outcome = None  # type: ignore[assignment]  # publish

    @property
    def keys(self) -> list[Key]:
        """Every artifact that is asked for, the float ones first."""
        return [
            (scheme, format_)
            for scheme in self.job.schemes
            for format_ in self.job.formats
            if scheme in FORMATS[format_].schemes
        ]

    @property
    def made(self) -> list[Key]:
        """Those that were not refused so far."""
        return [key for key in self.keys if key not in self.refused]

    @property
    def tolerance(self) -> float:
        """The relative error that a float artifact may have."""
        return max((TOLERANCES[dtype] for dtype in self.frozen.float_dtypes), default=TOLERANCES["float32"])

    def exported(self) -> Exported:
        """What was published."""
        published = {scheme: staging.published for scheme, staging in self.stagings.items()}
        done = {
            scheme: Exported(folder, self.manifests[scheme], self.outcome)
            for scheme, folder in published.items()
            if folder is not None
        }
        base = done.pop("")
        return replace(base, variants=done)


def _load(run: _Run) -> None:
    run.job.report("load")
    import_keras()
    from keraship.exporter import load

    run.model = load.load(run.job.model, imports=run.job.imports, trust=run.job.trust)


def _trace(run: _Run) -> None:
    from keraship.exporter import load

    run.job.report("trace")
    job = run.job
    run.traced = load.trace_any(run.model, signature=job.signature, inputs=job.inputs, outputs=job.outputs)
    if job.wanted.names:
        from keraship.exporter import signatures

        run.additions = signatures.additions(run.traced.signature, job.wanted)


def _sample(run: _Run) -> None:
    """Golden inputs and the Keras model's answers; its answers to the user's data."""
    run.job.report("sample")
    signature, answer = run.traced.signature, run.traced.answer
    data = _evaluation_data(run)
    run.samples = golden.golden(signature, answer, data, blame=partial(random_layers, run.model))
    if run.additions is not None:
        from keraship.exporter import signatures

        run.others = signatures.sample(signature, run.job.wanted, answer, run.samples)
    if data is not None and data.labels is not None:
        quality.check_labels(run.samples[1], data.labels)
    if data is None or not golden.is_batchable(signature):
        run.data, run.reference = Samples(run.samples[0]), Reference(run.samples[1])
    else:
        run.data = data.head(_affordable(run.samples[1], len(data)))
        run.reference = Reference(golden.in_parts(answer, run.data.inputs), run.data.labels)


def _freeze(run: _Run) -> None:
    from keraship.exporter import freeze

    run.job.report("freeze")
    run.frozen = replace(freeze.freeze(run.traced), additions=run.additions)
    if run.frozen.variables and run.keys != [("", "saved_model")]:
        raise ExportError(
            f"the weights of {run.job.name} are too large for one file of {freeze.LIMIT / 1e9:.2f} GB, and only a "
            "float SavedModel can keep them beside it: export it with --formats saved_model, and without --quantize"
        )
    run.graph = summarize_graph_def(run.frozen.graph)


def _fold(run: _Run) -> None:
    from keraship.exporter import fold

    run.job.report("fold")
    run.frozen = fold.fold(run.frozen)


def _write(run: _Run) -> None:
    """Every artifact into its folder; quantization happens here, for each format has its own."""
    run.material = Material(run.frozen, run.job.name, run.samples[0], _calibration(run), run.job.report)
    for scheme in run.job.schemes:
        bundle.write_golden(run.stagings[scheme].folder, *run.samples)
        for name, samples in run.others.items():
            bundle.write_golden(run.stagings[scheme].folder, *samples, signature_name=name)
    for key in run.keys:
        with _refusing(run, key):
            _make(run, key)


def _make(run: _Run, key: Key, keep_float: Sequence[str] = ()) -> None:
    scheme, format_ = key
    folder = run.stagings[scheme].folder
    run.job.report(" ".join(filter(None, ("write", format_, scheme))))
    run.coverage[key] = FORMATS[format_].write(run.material, scheme, folder, keep_float)
    run.graphs[key] = written_graph(folder, format_)


def _verify(run: _Run) -> None:
    """Ask every artifact in a fresh process; the float ones must answer as the Keras model."""
    with _questions(run) as questions:
        for key in run.made:
            with _refusing(run, key):
                _ask(run, key, questions)
    raise_faults(
        {format_: judge(run.found[key], run.tolerance) for key in run.made for format_ in [key[1]] if not key[0]}
    )


def _ask(run: _Run, key: Key, questions: Questions) -> None:
    scheme, format_ = key
    run.job.report(" ".join(filter(None, ("verify", format_, scheme))))
    answers = questions.work / f"answers-{scheme}-{format_}"
    run.found[key] = found = run.checks.ask(
        format_,
        run.stagings[scheme].folder,
        questions,
        timed=run.job.timed,
        baseline=run.stagings[""].folder if scheme else None,
        answers=answers,
    )
    given = {} if found.faults else bundle.read_golden(answers)[1]
    expected = run.reference.outputs
    if all(name in given and given[name].shape == array.shape for name, array in expected.items()):
        run.fidelity[key] = fidelity.measure(run.reference, given)
        run.errors[key] = tuple(distribution(name, array, given[name]) for name, array in expected.items())
        run.curves[key] = run.reference.curves(given)


def _questions(run: _Run) -> contextlib.AbstractContextManager[Questions]:
    others = run.additions.public if run.additions else {}
    return asking(run.traced.signature, _cases(run), run.data.inputs, others=others)


def _gate(run: _Run) -> None:
    """Refuse what lost too much or is slow; without keep_passing one refusal ends the export."""
    for key in run.made:
        if key[0]:
            _judge(run, key)
    if run.refused and not run.job.keep_passing:
        raise RefusedError(
            "nothing is published, for "
            + "; ".join(f"{scheme} {format_} is refused: {why}" for (scheme, format_), why in run.refused.items())
            + "; leave it out of --quantize, or publish the others with --keep-passing",
            _outcome(run, _artifacts(run), _origin(run)),
        )


def _judge(run: _Run, key: Key) -> None:
    limits = gate.Limits(run.job.max_drop, gate.MAX_ERRORS[key[0]])
    reasons = gate.judge(run.found[key], run.fidelity.get(key), limits)
    if reasons:
        run.refused[key] = "; ".join(reasons)


_FLOAT_SHARES = (0.1, 0.25, 0.5)  # of the layers; those whose quantization moves the outputs most


def _tune(run: _Run) -> None:
    """Where int8 was refused, try it with more and more layers in float; of all that passes, keep the fastest."""
    if not run.job.tune:
        return
    with _questions(run) as questions:
        for key in [key for key in run.refused if key[0] in CALIBRATED and run.coverage.get(key)]:
            for share in _FLOAT_SHARES:
                if key in run.refused:
                    _try_again(run, key, share, questions)
    _keep_fastest(run)


def _try_again(run: _Run, key: Key, share: float, questions: Questions) -> None:
    coverage = run.coverage[key]
    errors = coverage.layer_errors if coverage else ()
    worst = [each.layer for each in errors[: math.ceil(share * len(errors))]]
    del run.refused[key]
    with _refusing(run, key):
        _make(run, key, worst)
        _ask(run, key, questions)
        _judge(run, key)


def _publish(run: _Run) -> None:
    """Write the manifests; the folders get their names when the last step is done."""
    from keraship.exporter import source

    run.job.report("publish")
    artifacts, origin = _artifacts(run), _origin(run)
    for scheme, format_ in run.refused:
        _remove(run.stagings[scheme].folder, FORMATS[format_].files)
    for scheme, staging in run.stagings.items():
        keys = [key for key in run.made if key[0] == scheme]
        staging.dropped = not keys
        run.manifests[scheme] = Manifest(
            source=origin,
            signatures=_signatures(run),
            artifacts=tuple(artifacts[key] for key in keys),
            golden=bundle.file_entry(staging.folder / bundle.GOLDEN),
            tools=source.tools(),
            scheme=scheme,
            more_golden={name: bundle.file_entry(staging.folder / bundle.golden_path(name)) for name in run.others},
        )
        bundle.write_manifest(staging.folder, run.manifests[scheme])
    run.outcome = _outcome(run, artifacts, origin)
    for staging in run.stagings.values():
        write_report(staging.folder, run.outcome)


STEPS: tuple[Callable[[_Run], None], ...] = (
    _load,  # a .keras or .h5 file, safely, a SavedModel, or a model in memory
    _trace,  # at inference, with the signature's names
    _sample,  # golden inputs, and the Keras model's answers to them and to the user's data
    _freeze,  # the weights become constants of one graph
    _fold,  # normalisation and bias go into the weights; before quantization, which would scale them apart
    _write,  # each format, as it is and quantized by each scheme
    _verify,  # each artifact in a fresh process that has neither Keras nor the model's code
    _gate,  # quantized artifacts against what they may lose
    _tune,  # where that is asked for: what else would pass, and what of it is the fastest
    _publish,  # all versions appear together, whole
)
"""The pipeline."""


def _own_modules(model: Any) -> list[str]:
    """The modules of the model's own classes, which artifacts must not need."""
    classes = {type(item) for item in (model, *getattr(model, "layers", ()))}
    modules = {class_.__module__ for class_ in classes}
    return sorted(module for module in modules if module != "__main__" and module.partition(".")[0] != "keras")


def _evaluation_data(run: _Run) -> Samples | None:
    return _fitted(run, run.job.evaluate if run.job.evaluate is not None else run.job.calibrate)


def _fitted(run: _Run, data: Path | Samples | None) -> Samples | None:
    if data is None:
        return None
    signature = run.traced.signature
    return golden.fit(signature, read_samples(data, signature.inputs) if isinstance(data, Path) else data)


_ANSWERS = 256 << 20  # bytes; answers to the user's data are held in memory, for each artifact once


def _affordable(outputs: golden.Arrays, rows: int) -> int:
    """How many rows' answers can be held."""
    row = sum(array.nbytes // max(1, len(array)) for array in outputs.values() if array.ndim)
    return min(rows, max(1, _ANSWERS // max(1, row)))


_CALIBRATION = 1024  # rows; more change the ranges little, and cost time


def _calibration(run: _Run) -> golden.Arrays | None:
    data = _fitted(run, run.job.calibrate)
    return None if data is None else _spread(data, _CALIBRATION).inputs


def _spread(data: Samples, count: int) -> Samples:
    """Rows from all over the data, for files come sorted by class."""
    chosen = np.sort(np.random.default_rng(0).permutation(len(data))[:count])
    return Samples({name: array[chosen] for name, array in data.inputs.items()})


@contextlib.contextmanager
def _refusing(run: _Run, key: Key) -> Iterator[None]:
    """A quantized artifact that can't be made, or whose process dies, is refused; the float one ends the export."""
    try:
        yield
    except KerashipError as error:
        if not key[0]:
            raise
        run.refused[key] = str(error)


def _cases(run: _Run) -> Cases:
    """What artifacts are asked: the golden samples, and where their number is free, fewer of them."""
    inputs, outputs = run.samples
    whole = len(next(iter(inputs.values())))
    cases = {whole: (inputs, outputs)}
    if golden.is_batchable(run.traced.signature):
        for size in golden.BATCHES:
            few = golden.rows(inputs, 0, size)
            cases[size] = (few, run.traced.answer(few))
    return cases


def _keep_fastest(run: _Run) -> None:
    """Refuse every quantized artifact but the fastest, and that too where a float artifact is as fast."""
    quickest = min(run.made, key=partial(_latency, run), default=None)
    for key in run.made:
        if key[0] and key != quickest:
            run.refused[key] = "another artifact is faster"


def _latency(run: _Run, key: Key) -> float:
    """The time of the least batch that was timed, in milliseconds: what a caller waits for.

    Of a quantized artifact, the float one's times the ratio of the two, which were called in turns.
    """
    scheme, format_ = key
    size, time = next(iter(run.found["", format_].latency_ms.items()))
    return time * run.found[key].latency_ratio[size].median if scheme else time


def _remove(folder: Path, files: Sequence[str]) -> None:
    for file in files:
        (folder / file).unlink(missing_ok=True)


def _artifact(run: _Run, key: Key) -> Artifact:
    scheme, format_ = key
    folder = run.stagings[scheme].folder
    found, faithful = run.found[key], run.fidelity.get(key)
    tolerance = _recorded_tolerance(found) if scheme else run.tolerance
    return Artifact(
        format=format_,
        files=bundle.file_entries(folder, *(file for file in FORMATS[format_].files if (folder / file).exists())),
        load_seconds=found.load_seconds,
        parity=_parity(found, faithful, tolerance, quantized=bool(scheme)),
        row_independent=_are_rows_independent(run, key, tolerance),
        latency_ms=found.latency_ms,
        quality=faithful.quality if faithful else None,
        opset=FORMATS[format_].opset,
        latency_ratio={size: ratio.median for size, ratio in found.latency_ratio.items()},
        coverage=run.coverage.get(key),
        drop=faithful.drop if faithful and scheme else None,
        signatures=offered(format_, _signatures(run)),
    )


def _parity(found: Findings, faithful: Fidelity | None, tolerance: float, *, quantized: bool) -> bundle.Parity:
    """On the golden samples; the agreement of quantized artifacts on the user's data, which are more."""
    own = parity(found, tolerance)
    return replace(own, agreement=faithful.agreement) if quantized and faithful else own


def _signatures(run: _Run) -> dict[str, Signature]:
    """All of a version's, by name; not every format has all of them."""
    return dict.fromkeys(SIGNATURES, run.traced.signature) | (run.additions.public if run.additions else {})


def _recorded_tolerance(found: Findings) -> float:
    """What a quantized artifact must keep to when it is verified again: what it did, with room for another CPU."""
    return max(2 * max(item.max_rel for item in found.comparisons), TOLERANCES["float16"])


def _are_rows_independent(run: _Run, key: Key, tolerance: float) -> bool:
    """A quantized artifact's rows are as independent as the float one's, unless its ranges come from the batch."""
    scheme, format_ = key
    if not is_row_independent(run.found[key], tolerance):
        return False
    return not scheme or (scheme != "dynamic" and is_row_independent(run.found["", format_], run.tolerance))


def _artifacts(run: _Run) -> dict[Key, Artifact]:
    """What was measured, of those that were refused too; while their files are there."""
    return {key: _artifact(run, key) for key in run.keys if key in run.found and run.found[key].comparisons}


def _origin(run: _Run) -> bundle.Source:
    from keraship.exporter import source

    path = run.job.model if isinstance(run.job.model, Path) else None
    return source.source(run.model, path, run.reference.quality)


def _outcome(run: _Run, artifacts: Mapping[Key, Artifact], origin: bundle.Source) -> Outcome:
    from keraship.exporter import source

    best = min(run.made, key=partial(_latency, run))
    return Outcome(
        name=run.job.name,
        source=origin,
        signatures=_signatures(run),
        rows=tuple(_row(run, key, best, artifacts.get(key)) for key in run.keys),
        tools=source.tools(),
        max_drop=run.job.max_drop,
        notes=_notes(run),
        curves=run.reference.curves(),
        graph=run.graph,
        machine=machine(),
    )


def _notes(run: _Run) -> tuple[str, ...]:
    if run.data.labels is not None and run.reference.scores is None:
        return ("the labels fit none of the outputs, so quality was judged by agreement with the Keras model alone",)
    return ()


def _row(run: _Run, key: Key, best: Key, artifact: Artifact | None) -> Row:
    scheme, format_ = key
    return Row(
        model_name=model_name(run.job.name, scheme),
        scheme=scheme,
        format=format_,
        artifact=artifact,
        verdict="REFUSED" if key in run.refused else "BEST" if key == best else "OK",
        reason=run.refused.get(key, "the fastest" if key == best else ""),
        errors=run.errors.get(key, ()),
        curves=run.curves.get(key, ()),
        graph=run.graphs.get(key),
    )
