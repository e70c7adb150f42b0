"""The tolerance follows from what rounding does to the model itself, and excuses nothing else."""

import numpy as np
import pytest

from keraship.exporter.conditioning import CEILING, tolerance
from keraship.exporter.findings import Comparison, Findings
from keraship.quiet import import_keras

keras = import_keras()


def found(error):
    return [Findings(0.1, (), (Comparison(8, "y", (8, 1), error, 1.0),), 0.0, None)]


@pytest.fixture(scope="module")
def traced():
    """By its name: a plain model, and one that takes the small difference of two large sums."""
    from keraship.exporter import trace

    def run(scale):
        x = keras.Input((64,), name="x")
        plus = keras.layers.Dense(1, kernel_initializer=keras.initializers.Constant(scale + 1), name="plus")
        minus = keras.layers.Dense(1, kernel_initializer=keras.initializers.Constant(scale), name="minus")
        return trace.trace(keras.Model(x, plus(x) - minus(x)), outputs=["y"])

    return {"plain": run(0.5), "cancelling": run(300.0)}


def allowed(traced, error):
    inputs = {"x": np.random.default_rng(0).random((8, 64), np.float32)}
    return tolerance(1e-5, found(error), (inputs, traced.answer(inputs)), traced.moved)


def test_a_model_that_multiplies_rounding_may_be_further_off(traced):
    """Two sums of 10,000 of which a hundredth stays: the last digit of a weight is seen."""
    assert 1e-5 < allowed(traced["cancelling"], 2e-5) <= CEILING


def test_others_may_not(traced):
    """Rounding moves a plain model by less than a tenth of what is allowed anyway."""
    assert allowed(traced["plain"], 2e-5) == 1e-5


def test_what_is_within_is_not_looked_into(traced):
    """The model is asked again only where an artifact is beyond."""
    assert allowed(traced["cancelling"], 1e-6) == 1e-5


def test_the_weights_are_as_before(traced):
    """They are moved for one call, and not in the model."""
    inputs = {"x": np.ones((8, 64), np.float32)}
    before = traced["cancelling"].answer(inputs)["y"]
    traced["cancelling"].moved(inputs, lambda weight: weight * 2)
    assert np.array_equal(traced["cancelling"].answer(inputs)["y"], before)
