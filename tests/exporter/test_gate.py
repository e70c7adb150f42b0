"""What a quantized artifact may lose: measured on the user's rows, judged against limits, said in words."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import d2_absolute_error_score

from keraship.bundle import Drop
from keraship.exporter import fidelity, gate
from keraship.exporter.fidelity import Fidelity, Reference
from keraship.exporter.findings import Comparison, Findings, Ratio
from keraship.exporter.runtime_check import _ratio
from keraship.exporter.scores import Scores, drop, score, summary

LIMITS = gate.Limits(max_drop=0.5, max_error=0.1)
GOOD = Comparison(8, "y", (8, 3), 0.01, 1.0)


def found(*comparisons, **values):
    return Findings(0.1, (), comparisons or (GOOD,), repeat_error=0.0, row_error=0.0, **values)


def outputs_of(rows=400, seed=0):
    return np.random.default_rng(seed).random((rows, 3)).astype(np.float32)


def test_the_same_answers_lose_nothing():
    """Agreement 1, error 0, a drop of 0 with an interval of 0."""
    outputs = {"y": outputs_of()}
    labels = np.random.default_rng(1).integers(0, 3, 400)
    measured = fidelity.measure(Reference(outputs, labels), outputs)
    assert (measured.agreement, measured.error, measured.rows) == (1, 0, 400)
    assert measured.drop is not None
    assert (measured.drop.points, measured.drop.low, measured.drop.high) == (0, 0, 0)
    assert measured.quality == Reference(outputs, labels).quality


def test_a_drop_is_that_of_the_same_rows():
    """4 of 400 rows get worse and 1 gets better: .75 points, with the interval of a mean of paired differences."""
    before = np.ones(400, bool)
    before[:100] = False
    after = before.copy()
    after[200:204] = False
    after[0] = True
    lost = drop(Scores("accuracy", before.astype(float)), Scores("accuracy", after.astype(float)))
    assert lost.points == pytest.approx(0.75)
    half = 1.96 * np.std((before.astype(int) - after.astype(int)) * 100) / 20
    assert (lost.low, lost.high) == pytest.approx((0.75 - half, 0.75 + half), abs=1e-3)


@given(arrays.arrays(np.float32, (5, 3), elements=st.floats(-100, 100, width=32)), st.floats(1e-3, 10))
def test_errors_are_relative(array, scale):
    """Outputs and errors that are larger alike give the same error; nothing is divided by zero."""
    moved = array + np.float32(1)
    error = fidelity.relative_error(array, moved)
    assert np.isfinite(error)
    if np.abs(array).max() > 1e-2:
        scaled = fidelity.relative_error(array.astype(float) * scale, moved.astype(float) * scale)
        assert scaled == pytest.approx(error, rel=1e-3)


def test_numbers_that_are_none_are_no_small_error():
    """NaN where the reference has a number is infinitely wrong; where both have it, it is right."""
    expected = np.array([1.0, np.nan])
    assert fidelity.relative_error(expected, expected) == 0
    assert fidelity.relative_error(expected, np.array([np.nan, np.nan])) == float("inf")
    assert fidelity.relative_error(np.array([b"a", b"b"], object), np.array([b"a", b"c"], object)) == 0.5


@pytest.mark.parametrize(
    ("measured", "refused"),
    [
        (Fidelity(400, 1.0, 0.01, None, Drop(0.1, -0.2, 0.4)), []),
        (Fidelity(400, 0.5, 0.9, None, Drop(0.1, -0.2, 0.4)), []),  # labels decide where there are some
        (Fidelity(400, 1.0, 0.01, None, Drop(0.4, 0.2, 0.6)), ["0.40 points", "[0.20, 0.60]", "--max-drop"]),
        (Fidelity(400, 1.0, 0.01, None, Drop(np.nan, np.nan, np.nan)), ["--max-drop"]),
        (Fidelity(400, None, 0.09), []),
        (Fidelity(400, None, 0.11), ["11.0% off"]),
        (Fidelity(400, None, float("inf")), ["off"]),
        (Fidelity(400, 0.96, 0.01), ["96.0% of 400 rows"]),
        (Fidelity(99, 0.5, 0.01), []),
    ],
)
def test_what_is_unfaithful_is_refused(measured, refused):
    """By the drop where there are labels, else by error, and by agreement on enough rows; with the figures."""
    reasons = gate.judge(found(), measured, LIMITS)
    assert len(reasons) == (1 if refused else 0)
    for part in refused:
        assert part in reasons[0]


@pytest.mark.parametrize(
    ("ratio", "slow"),
    [
        (Ratio(0.5, 0.4, 0.6), False),
        (Ratio(1.04, 1.02, 1.06), False),
        (Ratio(1.3, 0.9, 1.6), False),  # noise
        (Ratio(1.3, 1.2, 1.4), True),
    ],
)
def test_what_is_slower_beyond_noise_is_refused(ratio, slow):
    """At any number of rows; the message says at which, and by how much."""
    reasons = gate.judge(found(latency_ratio={"1": Ratio(0.9, 0.8, 1.0), "32": ratio}), None, LIMITS)
    assert [("at 32 rows it takes 1.30 times" in reason) for reason in reasons] == ([True] if slow else [])


def test_what_is_broken_is_refused():
    """Another shape, answers that do not repeat, faults of names: each in a clause of its own."""
    broken = Findings(0.1, ("odd names",), (Comparison(8, "y", (8, 3), float("inf"), 1.0),), 0.5, None)
    reasons = gate.judge(broken, None, LIMITS)
    assert [reason.split()[0] for reason in reasons] == ["odd", "output", "asked"]


@given(st.lists(st.floats(0.1, 10), min_size=3, max_size=60))
def test_a_ratio_lies_in_its_interval(ratios):
    """The interval is made of order statistics."""
    ratio = _ratio(sorted(ratios))
    assert min(ratios) <= ratio.low <= ratio.median <= ratio.high <= max(ratios)


def test_the_metric_follows_from_outputs_and_labels():
    """Classes, one-hot classes, probabilities, several labels a row, masks, numbers; scikit-learn agrees."""
    random = np.random.default_rng(2)
    classes, labels = random.random((50, 4)), random.integers(0, 4, 50)
    right = np.mean(classes.argmax(1) == labels)
    masks, pixels = random.integers(0, 3, (50, 5, 6)), random.random((50, 5, 6, 3))
    several, sides = random.integers(0, 2, (50, 3)), random.random((50, 3))
    truth, guess = random.normal(size=50), random.normal(size=(50, 1))
    for output, wanted, metric, value in [
        (classes, labels, "accuracy", right),
        (classes, np.eye(4)[labels], "accuracy", right),
        (classes[:, :1], several[:, 0], "accuracy", np.mean((classes[:, 0] > 0.5) == several[:, 0])),
        (sides, several, "binary_accuracy", np.mean((sides > 0.5) == several)),
        (pixels, masks, "pixel_accuracy", np.mean(pixels.argmax(-1) == masks)),
        (pixels, masks[..., None], "pixel_accuracy", np.mean(pixels.argmax(-1) == masks)),
        (guess, truth, "d2_absolute_error", d2_absolute_error_score(truth, guess[:, 0])),
    ]:
        found = score({"y": output.astype(np.float32)}, wanted)
        assert found is not None
        assert found.metric == metric
        told = summary(found)
        assert told.value == pytest.approx(value, abs=1e-6)
        assert told.low < told.value < told.high


@pytest.mark.parametrize(
    ("output", "labels"),
    [
        (np.zeros((4, 3), np.float32), np.array(["a", "b", "c", "d"])),
        (np.zeros((4, 3), np.float32), np.array([0, 1, 2, 3])),
        (np.zeros((4, 1), np.float32), np.full(4, 5)),
        (np.zeros((4, 3, 2), np.float32), np.full((4, 3), 2)),
        (np.array([[b"a"]] * 4, object), np.zeros(4)),
    ],
)
def test_labels_that_fit_no_metric_give_none(output, labels):
    """Texts, classes that the model has not, numbers that are all one."""
    assert score({"y": output}, labels) is None
