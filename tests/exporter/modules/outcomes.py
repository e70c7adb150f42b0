"""Outcomes made by hand, as exports make them: a usual one, and odd ones."""

from dataclasses import replace

import numpy as np

from keraship.bundle import Artifact, Coverage, Drop, FileEntry, KeptFloat, LayerError, Parity, Quality, Source
from keraship.exporter.curves import precision_recall
from keraship.exporter.distribution import distribution
from keraship.exporter.outcome import Block, Graph, Outcome, Row
from keraship.signature import Signature, TensorSpec

SIGNATURE = Signature(
    (TensorSpec("images", "float32", (None, 28, 28, 1)),), (TensorSpec("scores", "float32", (None, 10)),)
)
ROWS = 600
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&amp;\x00\u202e\ud800"
"""What a name in a stranger's model may be."""

_random = np.random.default_rng(0)
_LABELS = _random.integers(0, 10, ROWS)


def _softmax(logits):
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


_LOGITS = _random.normal(size=(ROWS, 10)) + 3.4 * np.eye(10)[_LABELS]
_SCORES = _softmax(_LOGITS)
_CURVES = precision_recall({"scores": _SCORES}, _LABELS)


def example():
    """Six artifacts of a classifier: two float ones, the best is int8, one is refused."""
    rows = (
        _row("", "saved_model", "OK", 1e-7, 0.42, 4_520_000, {"1": 0.61, "32": 9.8}),
        _row("", "onnx", "OK", 3e-7, 0.05, 4_510_000, {"1": 0.42, "32": 8.9}),
        _row("int8", "saved_model", "BEST", 0.03, 0.31, 1_190_000, {"1": 0.31, "32": 2.7}, "the fastest"),
        _row("int8", "onnx", "REFUSED", 0.2, 0.08, 1_170_000, {"1": 0.55, "32": 9.9},
             "at 1 row it takes 1.31 times as long as the float artifact [1.22, 1.38]"),
        _row("float16", "saved_model", "OK", 2e-4, 0.33, 2_270_000, {"1": 0.66, "32": 9.9}),
        _row("weight_only", "saved_model", "OK", 0.004, 0.36, 1_200_000, {"1": 0.64, "32": 9.7}),
        Row("digits-dynamic", "dynamic", "onnx", None, "REFUSED", "Einsum of attention_3 has no dynamic form"),
    )  # fmt: skip
    return Outcome(
        name="digits",
        source=Source("best.keras", "6c" * 32, "Functional", 4_480_000, Quality("accuracy", 0.964, 0.947, 0.976, ROWS)),
        signatures={"serving_default": SIGNATURE, "predict": SIGNATURE},
        rows=rows,
        tools={"keraship": "0.1.0", "tensorflow": "2.21.0", "keras": "3.14.0", "onnx": "1.20.0", "numpy": "2.4.0"},
        curves=_CURVES,
        graph=_graph(("Conv2D", "BiasAdd", "Mul", "AddV2", "Relu"), {"float32": 36_928}),
        max_drop=1.0,
        notes=("RandomFlip 'flip' was live in training; at inference it passes images on.",),
        machine="2 x AMD EPYC, Linux",
    )


def _row(scheme, format_, verdict, noise, load, size, latency, reason=""):
    random = np.random.default_rng(1)
    scores = _softmax(_LOGITS + random.normal(size=_LOGITS.shape) * noise)
    lost = float(np.mean(_SCORES.argmax(1) == _LABELS) - np.mean(scores.argmax(1) == _LABELS)) * 100
    error = float(np.abs(scores - _SCORES).max())
    agreement = float(np.mean(scores.argmax(1) == _SCORES.argmax(1)))
    artifact = Artifact(
        format=format_,
        files=_files(format_, size),
        load_seconds=load,
        parity=Parity(error, error, 1e-5 if not scheme else 0.1, agreement, (1, 2, 7, 8)),
        row_independent=True,
        latency_ms=latency,
        quality=Quality("accuracy", 0.964 - lost / 100, 0.946 - lost / 100, 0.975 - lost / 100, ROWS),
        opset=18 if format_ == "onnx" else None,
        latency_ratio={rows: ms / {"1": 0.61, "32": 9.8}[rows] for rows, ms in latency.items()} if scheme else {},
        coverage=_coverage() if scheme == "int8" else None,
        drop=Drop(lost, lost - 0.31, lost + 0.31) if scheme else None,
    )  # fmt: skip
    return Row(
        model_name="digits" + (f"-{scheme}" if scheme else ""),
        scheme=scheme,
        format=format_,
        artifact=artifact,
        verdict=verdict,
        reason=reason,
        errors=(distribution("scores", _SCORES.astype("f4"), scores.astype("f4")),),
        curves=precision_recall({"scores": scores}, _LABELS, like=_CURVES),
        graph=_graph(("QuantizedConv2D", "Requantize"), {"int8": 36_864, "float32": 64})
        if scheme == "int8"
        else _graph(("Conv2D", "BiasAdd", "Relu"), {"float16" if scheme == "float16" else "float32": 36_928}),
    )


def _files(format_, size):
    if format_ == "onnx":
        return {"model.onnx": FileEntry(size, "ab" * 32)}
    return {
        "saved_model.pb": FileEntry(size - 4096, "cd" * 32),
        "assets.extra/tf_serving_warmup_requests": FileEntry(4096, "ef" * 32),
    }


def _coverage(layers=14):
    random = np.random.default_rng(2)
    names = [f"block_{index // 2}_conv_{index % 2 + 1}" for index in range(layers)]
    errors = sorted((10 ** random.uniform(-3.2, -1.0) for _ in names), reverse=True)
    return Coverage(
        quantized={"Conv2D": layers - 2, "MatMul": 1},
        total={"Conv2D": layers, "MatMul": 1, "Einsum": 2},
        weights_share=0.972,
        kept_float=(
            KeptFloat(names[0], "Conv2D", "it costs 0.9 points of accuracy"),
            KeptFloat(names[1], "Conv2D", "the first convolution has 3 channels"),
            KeptFloat("attention_scores", "Einsum", "no int8 form"),
        ),
        layer_errors=tuple(LayerError(name, "Conv2D", error) for name, error in zip(names, errors, strict=True)),
    )


def _graph(ops, weights):
    def block(name, *inputs):
        return Block(name, ops * 2, weights, inputs)

    blocks = (
        Block("images", ("Input",), {}, ()),
        block("stem_conv", 0),
        block("block_0_conv_1, block_0_conv_2", 1),
        Block("block_0_add", ("AddV2", "Relu"), {}, (1, 2)),
        block("block_1_conv_1, block_1_conv_2", 3),
        block("block_1_shortcut", 3),
        Block("block_1_add", ("AddV2", "Relu"), {}, (4, 5)),
        Block("pool, head", ("Mean", "MatMul", "BiasAdd", "Softmax"), {"float32": 650}, (6,)),
        Block("scores", ("Output",), {}, (7,)),
    )
    counts = {}
    for each in blocks[1:-1]:
        for op in each.ops:
            counts[op] = counts.get(op, 0) + 1
    return Graph(dict(sorted(counts.items(), key=lambda item: -item[1])), blocks)


def bare():
    """One artifact of a model in memory; no labels, no pictures, no tools, a refused error without end."""
    parity = Parity(float("inf"), float("inf"), 1e-5, None, (1,))
    artifact = Artifact("onnx", {}, 0.0, parity, row_independent=False)
    row = Row("m", "", "onnx", artifact, "REFUSED", "it answers no numbers")
    return Outcome("m", Source("", "", "Sequential", 0), {"serving_default": Signature((), ())}, (row,))


def empty():
    """Nothing at all was made."""
    return replace(bare(), rows=())


def hostile():
    """Names, reasons, layers, classes and files that try to be something else."""
    usual = example()
    spec = TensorSpec(HOSTILE, "string", None)
    rows = tuple(
        replace(
            row,
            model_name=HOSTILE,
            format=HOSTILE if row.scheme == "float16" else row.format,
            scheme=HOSTILE if row.scheme == "weight_only" else row.scheme,
            reason=HOSTILE,
            errors=tuple(replace(each, output=HOSTILE) for each in row.errors),
            curves=tuple(replace(each, name=HOSTILE) for each in row.curves),
            graph=_hostile_graph(row.graph),
            artifact=_hostile_artifact(row.artifact),
        )
        for row in usual.rows
    )
    return replace(
        usual,
        name=HOSTILE,
        source=replace(usual.source, file=HOSTILE, sha256=HOSTILE, model=HOSTILE),
        signatures={
            HOSTILE: Signature((spec,), (spec,)),
            "serving_default": Signature((spec, replace(spec, name="b")), ()),
        },
        rows=rows,
        tools={HOSTILE: HOSTILE},
        curves=tuple(replace(each, name=HOSTILE) for each in usual.curves),
        graph=_hostile_graph(usual.graph),
        notes=(HOSTILE,),
        machine=HOSTILE,
    )


def hostile_but_storable():
    """The same with names that JSON can hold and NaN, which is never equal to itself, left out."""
    return replace(example(), name=HOSTILE[:-1], notes=(HOSTILE[:-1],))


def _hostile_graph(graph):
    if graph is None:
        return None
    blocks = tuple(
        replace(block, name=HOSTILE, ops=(HOSTILE, *block.ops), weights={HOSTILE: 1}) for block in graph.blocks
    )
    return Graph({HOSTILE: 1, **graph.ops}, blocks)


def _hostile_artifact(artifact):
    if artifact is None:
        return None
    coverage = artifact.coverage and replace(
        artifact.coverage,
        kept_float=(KeptFloat(HOSTILE, HOSTILE, HOSTILE),),
        layer_errors=(LayerError(HOSTILE, HOSTILE, 0.1), LayerError("", "", float("nan"))),
    )
    files = {HOSTILE: FileEntry(1, HOSTILE)}
    quality = Quality(HOSTILE, 0.5, 0.4, 0.6, 3)
    return replace(artifact, files=files, coverage=coverage, quality=quality, latency_ms={HOSTILE: 1.0})


def large():
    """200 layers, 12 artifacts, 40 outputs, long names."""
    usual = example()
    long = "a_very_long_name_of_a_layer_without_any_place_to_break_" * 3
    rows = []
    for index, row in enumerate((*usual.rows, *usual.rows)):
        artifact = row.artifact
        if artifact is not None:
            coverage = replace(_coverage(200), kept_float=(*_coverage(200).kept_float, KeptFloat(long, "Conv2D", long)))
            artifact = replace(artifact, coverage=coverage if row.scheme else None)
        errors = tuple(replace(each, output=f"output_{number}") for each in row.errors for number in range(40))
        rows.append(replace(row, model_name=f"{row.model_name}-{index}", artifact=artifact, errors=errors))
    specs = tuple(TensorSpec(f"output_{number}", "float32", (None, 10)) for number in range(40))
    signature = Signature((TensorSpec(long, "float32", (None, None)), TensorSpec("mask", "bool", (None,))), specs)
    wide = Graph(
        usual.graph.ops,
        (
            Block(long, ("Input",), {}, ()),
            *(Block(f"branch_{index}", ("Conv2D",), {"float32": 100}, (0,)) for index in range(12)),
            Block("join", ("ConcatV2",), {}, tuple(range(1, 13))),
        ),
    )
    return replace(usual, rows=tuple(rows), signatures={"serving_default": signature}, graph=wide)
