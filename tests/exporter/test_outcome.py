"""What reports are made of: errors, curves and graphs in short, without TensorFlow."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from outcomes import example  # tests/exporter/modules
from sklearn.metrics import average_precision_score, precision_recall_curve

from keraship.errors import BundleError
from keraship.exporter.curves import ALL, precision_recall
from keraship.exporter.distribution import distribution
from keraship.exporter.graph_summary import INPUT, MAX_BLOCKS, OUTPUT, summarize_graph_def, summarize_onnx
from keraship.exporter.outcome import OUTCOME, read_outcome, write_outcome


@given(arrays.arrays(np.float64, 20), arrays.arrays(np.float64, 20))
def test_every_error_is_in_one_bin(expected, got):
    """Whatever the numbers: infinities, NaN, errors at a bin's edge."""
    found = distribution("y", expected, got)
    assert found.total == 20
    assert len(found.edges) == (len(found.counts) + 1 if found.counts else 0)
    assert list(found.edges) == sorted(found.edges)
    if found.counts:
        assert found.counts[0] > 0
        assert found.counts[-1] > 0


def test_errors_are_where_they_belong():
    """A bin holds its left edge; equal elements and those that are no numbers are apart."""
    got = np.array([0.0, 1e-6, 2e-6, 5e-6, 1e-4, np.nan, np.inf])
    found = distribution("y", np.array([0, 0, 0, 0, 0, np.nan, 1.0]), got)
    assert found.counts == (2, 1, 0, 0, 1)
    np.testing.assert_allclose(found.edges, 10.0 ** np.arange(-6, -3.4, 0.5))
    assert (found.equal, found.not_finite) == (2, 1)


def test_texts_differ_by_one():
    """There is no other distance between them."""
    found = distribution("y", np.array([b"a", b"b"], object), np.array([b"a", b"c"], object))
    assert (found.equal, sum(found.counts), found.edges[0]) == (1, 1, 1.0)


def test_curves_are_scikit_learns():
    """Average precision and points, with ties among the scores; the least first."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 200)
    scores = np.round(random.random((200, 3)) + np.eye(3)[labels] * [0.8, 0.1, 0.4], 2)
    curves = precision_recall({"ids": labels, "scores": scores}, labels)
    assert [curve.name for curve in curves] == [ALL, "1", "2", "0"]
    for curve in curves[1:]:
        truth, own = labels == int(curve.name), scores[:, int(curve.name)]
        assert curve.average_precision == pytest.approx(average_precision_score(truth, own))
        precision, recall, _ = precision_recall_curve(truth, own)
        points = set(zip(np.round(recall, 4).tolist(), np.round(precision, 4).tolist(), strict=True))
        assert set(zip(curve.recall, curve.precision, strict=True)) <= points
    assert curves[0].average_precision == pytest.approx(
        average_precision_score(np.eye(3)[labels], scores, average="micro")
    )


def test_curves_of_the_same_classes():
    """An artifact's curves are those of the classes that the model's were drawn of."""
    random = np.random.default_rng(1)
    labels = random.integers(0, 20, 300)
    first = precision_recall({"y": random.random((300, 20))}, labels)
    second = precision_recall({"y": random.random((300, 20))}, labels, like=first)
    assert [curve.name for curve in second] == [curve.name for curve in first]
    assert len(first) == 9


def test_curves_of_one_probability_and_of_none():
    """A sigmoid has one curve; a regression has none."""
    labels = np.array([0, 1, 1, 0])
    (curve,) = precision_recall({"y": np.array([[0.1], [0.9], [0.4], [0.5]])}, labels)
    assert (curve.name, curve.positives) == ("1", 2)
    assert precision_recall({"y": np.array([[3.1], [0.9], [0.4], [0.5]])}, labels) == ()


def residual(blocks):
    """A GraphDef of residual blocks, as the exporter freezes it."""
    graph = Graph()
    x = graph.add("images", "Placeholder")
    for index in range(blocks):
        scope = f"model/block_{index}"
        weights = graph.add(f"{scope}/conv/kernel", "Const", dtype=1, shape=(3, 3, 4, 4))
        left = graph.add(f"{scope}/conv/Conv2D", "Conv2D", x, graph.add(f"{scope}/conv/read", "Identity", weights))
        left = graph.add(f"{scope}/relu/Relu", "Relu", left)
        x = graph.add(f"{scope}/add/AddV2", "AddV2", left, x)
    size = graph.add("model/flatten/Shape", "Shape", x)
    size = graph.add("model/flatten/Pack", "Pack", size)
    x = graph.add("model/flatten/Reshape", "Reshape", x, size)
    graph.add("scores", "Identity", f"{x}:0", f"^{x}")
    return graph


class Fields:
    """Named values, as a message has them."""

    def __init__(self, **fields):
        self.__dict__.update(fields)


class Graph:
    """What the summary reads of a GraphDef."""

    def __init__(self):
        self.node, self.library = [], Fields(function=[])

    def add(self, name, op, *inputs, dtype=0, shape=()):
        dims = Fields(dim=[Fields(size=size) for size in shape])
        value = Fields(tensor=Fields(dtype=dtype, tensor_shape=dims))
        self.node.append(Fields(name=name, op=op, input=list(inputs), attr={"value": value}))
        return name


def test_a_small_graph_is_drawn_as_it_is():
    """Branches are blocks; weights behind an Identity are found; what computes shapes is counted and not drawn."""
    found = summarize_graph_def(residual(2))
    assert found.ops == {"AddV2": 2, "Conv2D": 2, "Relu": 2, "Pack": 1, "Reshape": 1, "Shape": 1}
    assert [(block.name, block.ops, block.inputs) for block in found.blocks] == [
        ("images", (INPUT,), ()),
        ("block_0", ("Conv2D", "Relu"), (0,)),
        ("block_0", ("AddV2",), (0, 1)),
        ("block_1", ("Conv2D", "Relu"), (2,)),
        ("block_1, flatten", ("AddV2", "Reshape"), (2, 3)),
        ("scores", (OUTPUT,), (4,)),
    ]
    assert found.blocks[1].weights == {"float32": 144}


@pytest.mark.parametrize("blocks", [24, 30, 47, 200, 3000])
def test_a_large_graph_is_few_blocks(blocks):
    """None of its ops and weights are lost, and every block reads those above it."""
    found = summarize_graph_def(residual(blocks))
    assert len(found.blocks) <= MAX_BLOCKS
    drawn = [op for block in found.blocks for op in block.ops]
    assert drawn.count("Conv2D") == found.ops["Conv2D"] == blocks
    assert sum(block.weights.get("float32", 0) for block in found.blocks) == 144 * blocks
    for index, block in enumerate(found.blocks):
        assert all(before < index for before in block.inputs)
        assert block.inputs or index == 0


@given(st.lists(st.lists(st.integers(0, 30), max_size=3), max_size=120))
def test_any_graph_can_be_summarized(edges):
    """Whatever its shape, cycles and dangling references included."""
    graph = Graph()
    graph.add("0", "Placeholder")
    for index, inputs in enumerate(edges, 1):
        graph.add(str(index), "Op", *(str(ref) for ref in inputs))
    found = summarize_graph_def(graph)
    assert all(before < index for index, block in enumerate(found.blocks) for before in block.inputs)


def test_onnx():
    """Initializers, empty names, a loop's body, and an output that is an input."""
    from onnx import TensorProto, helper

    body = helper.make_graph([helper.make_node("Relu", ["h"], ["b"])], "body", [], [])
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body),
        helper.make_node("Add", ["h", "y"], ["z"]),
    ]
    x, z = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 2]) for name in ("x", "z"))
    weights = helper.make_tensor("w", TensorProto.INT8, [2, 3], [1] * 6)
    found = summarize_onnx(helper.make_model(helper.make_graph(nodes, "g", [x], [z, x], [weights])))
    assert found.ops == {"Relu": 2, "Add": 1, "If": 1, "MatMul": 1}
    assert [(block.name, block.ops) for block in found.blocks] == [
        ("x", (INPUT,)),
        ("", ("MatMul", "Add")),
        ("z", (OUTPUT,)),
        ("x", (OUTPUT,)),
    ]
    assert found.blocks[1].weights == {"int8": 6}


def test_an_outcome_is_read_as_it_was_written(tmp_path):
    """Infinite errors too; the same outcome gives the same bytes."""
    write_outcome(tmp_path, example())
    written = (tmp_path / OUTCOME).read_bytes()
    assert read_outcome(tmp_path) == example()
    write_outcome(tmp_path, dataclasses.replace(example()))
    assert (tmp_path / OUTCOME).read_bytes() == written


@pytest.mark.parametrize("content", ["", "{", "[]", '{"name": 1}', "[" * 100_000])
def test_broken_reports_are_refused(tmp_path, content):
    """In one sentence that names the file."""
    path = tmp_path / OUTCOME
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(BundleError, match=r"expected a report .*report\.json"):
        read_outcome(tmp_path)


def test_a_version_without_a_report(tmp_path):
    """Is no error."""
    assert read_outcome(tmp_path) is None
