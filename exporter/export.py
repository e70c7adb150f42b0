"""The export of a Keras model, read top-down: STEPS is the pipeline, each step a function below it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from keraship import bundle
from keraship.bundle import Manifest
from keraship.errors import ExportError
from keraship.exporter import conditioning, fidelity, gate, golden, quality, told
from keraship.exporter.distribution import distribution
from keraship.exporter.fidelity import Reference
from keraship.exporter.formats import CALIBRATED, DEFAULT_FORMATS, FORMATS, Material, model_name
from keraship.exporter.graph_summary import summarize_graph_def
from keraship.exporter.job import Job, Progress, checked, chosen, schemes
from keraship.exporter.outcome import Outcome, RefusedError
from keraship.exporter.random_layers import random_layers
from keraship.exporter.report import write_report
from keraship.exporter.run import Key, Run
from keraship.exporter.verify import (
    TIMED,
    Cases,
    Checks,
    Questions,
    asking,
    judge,
    raise_faults,
    unreported,
)
from keraship.exporter.wanted import want
from keraship.exporter.written_graph import written_graph
from keraship.extras import require
from keraship.quiet import import_keras
from keraship.samples import Samples, read_samples


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
        run = Run(job, folders, checks)
        for step in STEPS:
            step(run)
    return _exported(run)


def _load(run: Run) -> None:
    run.job.report("load")
    import_keras()
    from keraship.exporter import load

    run.model = load.load(run.job.model, imports=run.job.imports, trust=run.job.trust)


def _trace(run: Run) -> None:
    from keraship.exporter import load

    run.job.report("trace")
    job = run.job
    run.traced = load.trace_any(run.model, signature=job.signature, inputs=job.inputs, outputs=job.outputs)
    if job.wanted.names:
        from keraship.exporter import signatures

        run.additions = signatures.additions(run.traced.signature, job.wanted)


def _sample(run: Run) -> None:
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


def _freeze(run: Run) -> None:
    from keraship.exporter import freeze

    run.job.report("freeze")
    run.frozen = replace(freeze.freeze(run.traced), additions=run.additions)
    if run.frozen.variables and run.keys != [("", "saved_model")]:
        raise ExportError(
            f"the weights of {run.job.name} are too large for one file of {freeze.LIMIT / 1e9:.2f} GB, and only a "
            "float SavedModel can keep them beside it: export it with --formats saved_model, and without --quantize"
        )
    run.graph = summarize_graph_def(run.frozen.graph)


def _fold(run: Run) -> None:
    from keraship.exporter import fold

    run.job.report("fold")
    run.frozen = fold.fold(run.frozen)


def _write(run: Run) -> None:
    """Every artifact into its folder; quantization happens here, for each format has its own."""
    run.material = Material(run.frozen, run.job.name, run.samples[0], _calibration(run), run.job.report)
    for scheme in run.job.schemes:
        bundle.write_golden(run.stagings[scheme].folder, *run.samples)
        for name, samples in run.others.items():
            bundle.write_golden(run.stagings[scheme].folder, *samples, signature_name=name)
    for key in run.keys:
        with run.refusing(key):
            _make(run, key)


def _make(run: Run, key: Key, keep_float: Sequence[str] = ()) -> None:
    scheme, format_ = key
    folder = run.stagings[scheme].folder
    run.job.report(" ".join(filter(None, ("write", format_, scheme))))
    run.coverage[key] = FORMATS[format_].write(run.material, scheme, folder, keep_float)
    run.graphs[key] = written_graph(folder, format_)


def _verify(run: Run) -> None:
    """Ask every artifact in a fresh process; the float ones must answer as the Keras model."""
    with _questions(run) as questions:
        for key in run.made:
            with run.refusing(key):
                _ask(run, key, questions)
    _allow_for_rounding(run)
    raise_faults(
        {format_: judge(run.found[key], run.tolerance) for key in run.made for format_ in [key[1]] if not key[0]}
    )


def _allow_for_rounding(run: Run) -> None:
    if run.traced.moved is not None:
        found = [run.found[key] for key in run.made if not key[0]]
        run.allowed = conditioning.tolerance(run.tolerance, found, run.samples, run.traced.moved)


def _ask(run: Run, key: Key, questions: Questions) -> None:
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


def _questions(run: Run) -> contextlib.AbstractContextManager[Questions]:
    others = run.additions.public if run.additions else {}
    return asking(run.traced.signature, _cases(run), run.data.inputs, others=others)


def _gate(run: Run) -> None:
    """Refuse what lost too much or is slow; without keep_passing one refusal ends the export."""
    for key in run.made:
        if key[0]:
            _judge(run, key)
    if run.refused and not run.job.keep_passing:
        raise RefusedError(
            "nothing is published, for "
            + "; ".join(f"{scheme} {format_} is refused: {why}" for (scheme, format_), why in run.refused.items())
            + "; leave it out of --quantize, or publish the others with --keep-passing",
            told.outcome(run, told.artifacts(run), told.origin(run)),
        )


def _judge(run: Run, key: Key) -> None:
    limits = gate.Limits(run.job.max_drop, gate.MAX_ERRORS[key[0]])
    reasons = gate.judge(run.found[key], run.fidelity.get(key), limits)
    if reasons:
        run.refused[key] = "; ".join(reasons)


_FLOAT_SHARES = (0.1, 0.25, 0.5)  # of the layers; those whose quantization moves the outputs most


def _tune(run: Run) -> None:
    """Where int8 was refused, try it with more and more layers in float; of all that passes, keep the fastest."""
    if not run.job.tune:
        return
    with _questions(run) as questions:
        for key in [key for key in run.refused if key[0] in CALIBRATED and run.coverage.get(key)]:
            for share in _FLOAT_SHARES:
                if key in run.refused:
                    _try_again(run, key, share, questions)
    _keep_fastest(run)


def _try_again(run: Run, key: Key, share: float, questions: Questions) -> None:
    coverage = run.coverage[key]
    errors = coverage.layer_errors if coverage else ()
    worst = [each.layer for each in errors[: math.ceil(share * len(errors))]]
    del run.refused[key]
    with run.refusing(key):
        _make(run, key, worst)
        _ask(run, key, questions)
        _judge(run, key)


def _publish(run: Run) -> None:
    """Write the manifests; the folders get their names when the last step is done."""
    from keraship.exporter import source

    run.job.report("publish")
    artifacts, origin = told.artifacts(run), told.origin(run)
    for scheme, format_ in run.refused:
        _remove(run.stagings[scheme].folder, FORMATS[format_].files)
    for scheme, staging in run.stagings.items():
        keys = [key for key in run.made if key[0] == scheme]
        staging.dropped = not keys
        run.manifests[scheme] = Manifest(
            source=origin,
            signatures=told.signatures(run),
            artifacts=tuple(artifacts[key] for key in keys),
            golden=bundle.file_entry(staging.folder / bundle.GOLDEN),
            tools=source.tools(),
            scheme=scheme,
            more_golden={name: bundle.file_entry(staging.folder / bundle.golden_path(name)) for name in run.others},
        )
        bundle.write_manifest(staging.folder, run.manifests[scheme])
    run.outcome = told.outcome(run, artifacts, origin)
    for staging in run.stagings.values():
        write_report(staging.folder, run.outcome)


STEPS: tuple[Callable[[Run], None], ...] = (
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


def _exported(run: Run) -> Exported:
    """What was published."""
    published = {scheme: staging.published for scheme, staging in run.stagings.items()}
    done = {
        scheme: Exported(folder, run.manifests[scheme], run.outcome)
        for scheme, folder in published.items()
        if folder is not None
    }
    base = done.pop("")
    return replace(base, variants=done)


def _own_modules(model: Any) -> list[str]:
    """The modules of the model's own classes, which artifacts must not need."""
    classes = {type(item) for item in (model, *getattr(model, "layers", ()))}
    modules = {class_.__module__ for class_ in classes}
    return sorted(module for module in modules if module != "__main__" and module.partition(".")[0] != "keras")


def _evaluation_data(run: Run) -> Samples | None:
    return _fitted(run, run.job.evaluate if run.job.evaluate is not None else run.job.calibrate)


def _fitted(run: Run, data: Path | Samples | None) -> Samples | None:
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


def _calibration(run: Run) -> golden.Arrays | None:
    data = _fitted(run, run.job.calibrate)
    return None if data is None else _spread(data, _CALIBRATION).inputs


def _spread(data: Samples, count: int) -> Samples:
    """Rows from all over the data, for files come sorted by class."""
    chosen = np.sort(np.random.default_rng(0).permutation(len(data))[:count])
    return Samples({name: array[chosen] for name, array in data.inputs.items()})


def _cases(run: Run) -> Cases:
    """What artifacts are asked: the golden samples, and where their number is free, fewer of them."""
    inputs, outputs = run.samples
    whole = len(next(iter(inputs.values())))
    cases = {whole: (inputs, outputs)}
    if golden.is_batchable(run.traced.signature):
        for size in golden.BATCHES:
            few = golden.rows(inputs, 0, size)
            cases[size] = (few, run.traced.answer(few))
    return cases


def _keep_fastest(run: Run) -> None:
    """Refuse every quantized artifact but the fastest, and that too where a float artifact is as fast."""
    quickest = min(run.made, key=run.latency, default=None)
    for key in run.made:
        if key[0] and key != quickest:
            run.refused[key] = "another artifact is faster"


def _remove(folder: Path, files: Sequence[str]) -> None:
    for file in files:
        (folder / file).unlink(missing_ok=True)
