from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from keraship.errors import TrainingError
from keraship.models.cyclic import CyclicRate
from keraship.models.schedules import MODES, SCHEDULES, Cosine, Cyclic, Piecewise, Plan, read_schedule

RATE = st.floats(1e-6, 10)
SHARE = st.floats(0, 0.99)
FACTOR = st.floats(0.01, 1)
LENGTH = st.integers(1, 8)
PER_EPOCH = st.integers(1, 12)
# Every example is traced anew; shrinking one would take minutes.
EXAMPLES = settings(max_examples=15, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])


def seen(schedule: Any, steps: int) -> Any:
    """The rate of each step, traced, of int64, as an optimizer counts."""

    @tf.function(autograph=False)
    def run() -> Any:
        return tf.map_fn(schedule, tf.range(steps, dtype=tf.int64), fn_output_signature=tf.float32)

    return run().numpy()


def check(schedule: Any, formula: Any, steps: int) -> None:
    expected = [formula(step) for step in range(steps)]
    near = {"rtol": 2e-5, "atol": 1e-6 * max(expected)}
    np.testing.assert_allclose(seen(schedule, steps), expected, **near)
    np.testing.assert_allclose([schedule(0), schedule(steps - 1)], [expected[0], expected[-1]], **near)


def plan(rate: float, per_epoch: int, epochs: int = 10) -> Plan:
    return Plan(rate, epochs=epochs, steps_per_epoch=per_epoch)


@EXAMPLES
@given(rate=RATE, factor=FACTOR, every=LENGTH, per_epoch=PER_EPOCH)
def test_step(rate: float, factor: float, every: int, per_epoch: int) -> None:
    """The rate is multiplied at the first step of every n-th epoch, and at no other."""
    schedule = read_schedule("step", {"factor": factor, "every": every}).rate(plan(rate, per_epoch))
    period = every * per_epoch
    check(schedule, lambda step: rate * factor ** (step // period), 2 * period + 2)


@EXAMPLES
@given(rate=RATE, factor=FACTOR, every=LENGTH, per_epoch=PER_EPOCH)
def test_exponential(rate: float, factor: float, every: int, per_epoch: int) -> None:
    """The rate falls by its factor in n epochs, evenly."""
    schedule = read_schedule("exponential", {"factor": factor, "every": every}).rate(plan(rate, per_epoch))
    period = every * per_epoch
    check(schedule, lambda step: rate * factor ** (step / period), 2 * period + 2)


@EXAMPLES
@given(rate=RATE, warmup=st.integers(0, 9), floor=SHARE, per_epoch=PER_EPOCH)
def test_cosine(rate: float, warmup: int, floor: float, per_epoch: int) -> None:
    """The rate rises along a line to its full height, falls along a half cosine to its floor, and stays there."""
    schedule = Cosine(warmup=warmup, floor=floor).rate(plan(rate, per_epoch))
    rising, total = warmup * per_epoch, 10 * per_epoch

    def formula(step: int) -> float:
        if step < rising:
            return rate * (step + 1) / (rising + 1)
        over = min(1, (step - rising) / (total - rising))
        return rate * (floor + (1 - floor) * (1 + math.cos(math.pi * over)) / 2)

    check(schedule, formula, total + 3)


@EXAMPLES
@given(
    rate=RATE,
    lengths=st.lists(LENGTH, min_size=1, max_size=4),
    factors=st.lists(FACTOR, min_size=5, max_size=5),
    per_epoch=PER_EPOCH,
)
def test_piecewise(rate: float, lengths: list[int], factors: list[float], per_epoch: int) -> None:
    """Each factor holds from the first step of its epoch to the last before the next."""
    boundaries = np.cumsum(lengths).tolist()
    used = factors[: len(boundaries) + 1]
    schedule = read_schedule("piecewise", {"boundaries": boundaries, "factors": used}).rate(plan(rate, per_epoch))
    starts = [boundary * per_epoch for boundary in boundaries]
    check(schedule, lambda step: rate * used[sum(step >= start for start in starts)], starts[-1] + 2)


def cyclic(step: int, low: float, high: float, half_cycle: int, *, mode: str, gamma: float) -> float:
    """As Smith's paper has it."""
    cycle = math.floor(1 + step / (2 * half_cycle))
    x = abs(step / half_cycle - 2 * cycle + 1)
    scale = {"triangular": 1.0, "triangular2": 1 / 2 ** (cycle - 1), "exp_range": gamma**step}[mode]
    return low + (high - low) * max(0.0, 1 - x) * scale


@EXAMPLES
@given(
    rate=RATE, low=SHARE, half_cycle=LENGTH, gamma=st.floats(0.9, 1), per_epoch=PER_EPOCH, mode=st.sampled_from(MODES)
)
def test_cyclic(rate: float, low: float, half_cycle: int, gamma: float, per_epoch: int, mode: str) -> None:
    """Each mode is its formula, at every step of two cycles and their corners."""
    schedule = Cyclic(mode=mode, low=low, half_cycle=half_cycle, gamma=gamma).rate(plan(rate, per_epoch))
    steps = half_cycle * per_epoch
    check(schedule, lambda step: cyclic(step, rate * low, rate, steps, mode=mode, gamma=gamma), 4 * steps + 2)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("triangular", [0, 0.5, 1, 0.5, 0, 0.5, 1, 0.5, 0]),
        ("triangular2", [0, 0.5, 1, 0.5, 0, 0.25, 0.5, 0.25, 0]),
        ("exp_range", [0, 0.25, 0.25, 0.0625, 0, 0.015625, 0.015625, 0.00390625, 0]),
    ],
)
def test_cyclic_by_hand(mode: str, expected: list[float]) -> None:
    """Two cycles of four steps each, worked out on paper."""
    np.testing.assert_allclose(seen(CyclicRate(0, 1, 2, mode=mode, gamma=0.5), 9), expected, atol=1e-7)


def test_cyclic_after_many_steps() -> None:
    """Steps that float32 cannot tell apart still have their own rates."""
    rates = [float(CyclicRate(0, 4, 4)(2**26 + step)) for step in range(9)]
    assert rates == [0, 1, 2, 3, 4, 3, 2, 1, 0]


def test_parts_of_epochs() -> None:
    """Lengths may be parts of epochs, and are a step at least."""
    schedule = read_schedule("step", {"factor": 0.5, "every": 2.5}).rate(plan(1, 2))
    assert seen(schedule, 11).tolist() == [1] * 5 + [0.5] * 5 + [0.25]
    assert seen(read_schedule("step", {"factor": 0.5, "every": 0.01}).rate(plan(1, 2)), 3).tolist() == [1, 0.5, 0.25]


OPTIMIZERS = {
    "sgd": lambda rate: keras.optimizers.SGD(rate),
    "momentum": lambda rate: keras.optimizers.SGD(rate, momentum=0.9),
    "nesterov": lambda rate: keras.optimizers.SGD(rate, momentum=0.9, nesterov=True),
    "adam": lambda rate: keras.optimizers.Adam(rate),
    "adamw": lambda rate: keras.optimizers.AdamW(rate),
    "rmsprop": lambda rate: keras.optimizers.RMSprop(rate),
    "scaled": lambda rate: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(rate)),
    "accumulated": lambda rate: keras.optimizers.SGD(rate, gradient_accumulation_steps=2),
}


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [*((name, "sgd") for name in SCHEDULES), *(("cyclic", optimizer) for optimizer in OPTIMIZERS)],
)
def test_training(name: str, optimizer: str) -> None:
    """Optimizers take steps with the schedule in a traced training step; plain SGD's are the rates' exactly."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
    schedule = read_schedule(name).rate(plan(0.01, 1))
    model.compile(OPTIMIZERS[optimizer](schedule), loss=lambda target, score: -target * score)  # a gradient of -1
    model.fit(np.ones((4, 1)), np.ones((4, 1)), batch_size=1, verbose=0)
    weight = float(model.get_weights()[0][0, 0])
    assert weight > 0
    if optimizer in ("sgd", "scaled"):
        rates = [schedule(step) if callable(schedule) else schedule for step in range(4)]
        assert weight == pytest.approx(sum(map(float, rates)), rel=1e-5)


FRESH = """
import json, sys
import keras
import keraship.models.cyclic
for path in sys.argv[1:]:
    rate = keras.saving.load_model(path).optimizer._learning_rate
    print(json.dumps([float(rate(step)) for step in range(40)]))
"""


def test_saved_in_a_fresh_process(tmp_path: Path) -> None:
    """A compiled model with each schedule loads where only the cyclic one's file is imported, with the same rates."""
    paths, expected = [], []
    options = [("cyclic", {"mode": mode, "gamma": 0.9}) for mode in MODES]
    options += [(name, {}) for name in SCHEDULES if name not in ("constant", "cyclic")] + [("cosine", {"warmup": 3})]
    for index, (name, parameters) in enumerate(options):
        schedule = read_schedule(name, parameters).rate(plan(0.3, 1))
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(schedule), loss="mse", jit_compile=False)
        paths.append(str(tmp_path / f"{index}.keras"))
        model.save(paths[-1])
        expected.append([float(schedule(step)) for step in range(40)])
    done = subprocess.run(
        [sys.executable, "-c", FRESH, *paths], capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == expected


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cosin", {}, "a schedule out of constant.*did you mean 'cosine'"),
        ("step", {"gamma": 1}, "of the schedule step, no parameters but factor, every; got gamma"),
        ("constant", {"factor": 1}, "no parameters but none; got factor"),
        ("step", {"factor": 0, "every": -1}, "factor to be .*got 0; every to be .*got -1"),
        ("step", {"every": "ten"}, "every to be a number above 0, got 'ten'"),
        ("step", {"every": True}, "every .*got True"),
        ("exponential", {"factor": math.nan}, "factor .*got nan"),
        ("cosine", {"floor": 1}, "floor .*got 1"),
        ("cosine", {"warmup": math.inf}, "warmup .*got inf"),
        ("piecewise", {"boundaries": [], "factors": [1]}, r"boundaries .*got \(\)"),
        ("piecewise", {"boundaries": 3}, "boundaries .*got 3"),
        ("piecewise", {"boundaries": [1, 2], "factors": [1, 2]}, "one factor more"),
        ("cyclic", {"mode": "square"}, "mode to be one of triangular, .*got 'square'"),
        ("cyclic", {"gamma": 1.1, "low": 1}, "low .*got 1; gamma .*got 1.1"),
    ],
)
def test_wrong_parameters(name: str, options: dict[str, Any], message: str) -> None:
    """What cannot be is refused when it is written down, in one sentence."""
    with pytest.raises(TrainingError, match=message):
        read_schedule(name, options)


def test_what_does_not_fit_the_run() -> None:
    """A warm-up as long as the run, and boundaries that are no step apart or do not rise, are refused."""
    with pytest.raises(TrainingError, match="warmup shorter than the run of 10 epochs; got 10"):
        Cosine(warmup=10).rate(plan(1, 5))
    for boundaries in ((0.1, 0.11), (2.0, 1.0)):
        with pytest.raises(TrainingError, match="boundaries that rise"):
            Piecewise(boundaries, (1, 2, 3)).rate(plan(1, 5))


@pytest.mark.parametrize(
    "wrong", [{"low": -1}, {"low": 2}, {"high": math.nan}, {"half_cycle": 0}, {"half_cycle": 1.5}, {"gamma": 0}]
)
def test_wrong_arguments(wrong: dict[str, Any]) -> None:
    """The Keras object checks its arguments, too."""
    with pytest.raises(ValueError, match="expected"):
        CyclicRate(**{"low": 0.1, "high": 1.0, "half_cycle": 4, **wrong})
