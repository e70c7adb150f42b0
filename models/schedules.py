"""How the learning rate changes while a model learns: every schedule by name, with its parameters.

Lengths are given in epochs, of which 2.5 is two and a half, and rates as shares of the run's learning rate; a Plan
turns both into steps and rates. Keras counts steps from 0, one a batch.

    schedule = read_schedule("step", {"factor": 0.5, "every": 10})
    optimizer = keras.optimizers.Adam(schedule.rate(Plan(1e-3, epochs=30, steps_per_epoch=34)))
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from keraship.errors import TrainingError
from keraship.models.choice import choose

_Rule = tuple[str, Callable[[Any], bool]]


@dataclass(frozen=True)
class Plan:
    """What a schedule is laid over.

    rate: the run's learning rate. steps_per_epoch: the batches of an epoch, with accumulated gradients too: Keras's
    schedules count batches, and an update has the rate of its last one.
    """

    rate: float
    epochs: int
    steps_per_epoch: int

    def steps(self, epochs: float) -> int:
        """How many steps so many epochs have, 1 or more."""
        return max(1, round(epochs * self.steps_per_epoch))


class Schedule(Protocol):
    """The parameters of one schedule."""

    def rate(self, plan: Plan) -> Any:
        """What a Keras optimizer takes as learning_rate: a number, or a LearningRateSchedule of float32.

        Raises TrainingError where the parameters do not fit the plan.
        """


@dataclass(frozen=True)
class _Checked:
    """Parameters that are checked when they are written down."""

    _rules: ClassVar[dict[str, _Rule]] = {}

    def __post_init__(self) -> None:
        faults = [
            f"{name} to be {expected}, got {getattr(self, name)!r}"
            for name, (expected, holds) in self._rules.items()
            if not holds(getattr(self, name))
        ]
        if faults:
            raise TrainingError(f"expected, of the schedule, {'; '.join(faults)}")


def _number(holds: Callable[[float], bool]) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        real = isinstance(value, numbers.Real) and not isinstance(value, bool)
        return real and math.isfinite(value) and holds(float(value))

    return check


def _numbers(holds: Callable[[float], bool]) -> Callable[[Any], bool]:
    return lambda values: isinstance(values, tuple) and bool(values) and all(map(_number(holds), values))


_POSITIVE: _Rule = ("a number above 0", _number(lambda value: value > 0))
_FACTOR: _Rule = ("a number above 0, 1 at most", _number(lambda value: 0 < value <= 1))
_SHARE: _Rule = ("a number from 0 on, below 1", _number(lambda value: 0 <= value < 1))


@dataclass(frozen=True)
class Constant(_Checked):
    """The same rate at every step."""

    def rate(self, plan: Plan) -> float:
        return float(plan.rate)


@dataclass(frozen=True)
class Step(_Checked):
    """Multiplied by `factor` after every `every` epochs: rate * factor ** floor(step / steps(every))."""

    factor: float = 0.1
    every: float = 10
    _rules: ClassVar[dict[str, _Rule]] = {"factor": _FACTOR, "every": _POSITIVE}

    def rate(self, plan: Plan) -> Any:
        return _exponential(plan.rate, self.factor, plan.steps(self.every) * _EARLY, staircase=True)


@dataclass(frozen=True)
class Exponential(_Checked):
    """Falls by `factor` in `every` epochs, a little at each step: rate * factor ** (step / steps(every))."""

    factor: float = 0.9
    every: float = 1
    _rules: ClassVar[dict[str, _Rule]] = {"factor": _FACTOR, "every": _POSITIVE}

    def rate(self, plan: Plan) -> Any:
        return _exponential(plan.rate, self.factor, plan.steps(self.every), staircase=False)


@dataclass(frozen=True)
class Cosine(_Checked):
    """Rises along a line for `warmup` epochs, then falls along a half cosine to `floor` of the rate at the run's end.

    Of w = steps(warmup): rate * (step + 1) / (w + 1) before w, so that the first step learns something; from there
    on, rate * (floor + (1 - floor) * (1 + cos(pi * p)) / 2), p being the share of the steps after w that are over.
    Source: Loshchilov and Hutter, SGDR: stochastic gradient descent with warm restarts (2017).
    """

    warmup: float = 0
    floor: float = 0
    _rules: ClassVar[dict[str, _Rule]] = {
        "warmup": ("a number of epochs from 0 on", _number(lambda value: value >= 0)),
        "floor": _SHARE,
    }

    def rate(self, plan: Plan) -> Any:
        import keras

        decay = keras.optimizers.schedules.CosineDecay
        if not self.warmup:
            return decay(float(plan.rate), plan.steps(plan.epochs), alpha=self.floor)
        rising = plan.steps(self.warmup)
        falling = plan.steps(plan.epochs) - rising
        if falling < 1:
            raise TrainingError(
                f"expected, of the schedule, a warmup shorter than the run of {plan.epochs} epochs; "
                f"got {self.warmup!r}: take fewer epochs of it"
            )
        first = plan.rate / (rising + 1)
        return decay(first, falling, alpha=self.floor, warmup_target=float(plan.rate), warmup_steps=rising)


@dataclass(frozen=True)
class Piecewise(_Checked):
    """factors[0] of the rate until the first of `boundaries`, in epochs, is reached; from each on, the next factor."""

    boundaries: tuple[float, ...] = (10, 20)
    factors: tuple[float, ...] = (1, 0.1, 0.01)
    _rules: ClassVar[dict[str, _Rule]] = {
        "boundaries": ("numbers above 0, one or more", _numbers(lambda value: value > 0)),
        "factors": ("numbers above 0", _numbers(lambda value: value > 0)),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.factors) != len(self.boundaries) + 1:
            raise TrainingError(
                "expected, of the schedule, one factor more than boundaries; "
                f"got boundaries {self.boundaries} and factors {self.factors}"
            )

    def rate(self, plan: Plan) -> Any:
        import keras

        starts = [plan.steps(boundary) for boundary in self.boundaries]
        if any(later <= earlier for earlier, later in itertools.pairwise(starts)):
            raise TrainingError(
                "expected, of the schedule, boundaries that rise, by a step or more; "
                f"got {self.boundaries}, which are steps {starts}"
            )
        values = [float(plan.rate * factor) for factor in self.factors]
        # Keras's boundary is the last step of the old value.
        return keras.optimizers.schedules.PiecewiseConstantDecay([start - 1 for start in starts], values)


MODES = ("triangular", "triangular2", "exp_range")
"""What becomes of the height of a cyclic rate's triangles: it stays, halves every cycle, or shrinks every step."""


@dataclass(frozen=True)
class Cyclic(_Checked):
    """Up from `low` of the rate to the rate in `half_cycle` epochs, and down again: CyclicRate has the formula.

    mode: one of MODES. gamma: for exp_range, the factor of every step.
    Source: Smith, Cyclical learning rates for training neural networks (2017), who advises half cycles of 2 to 10
    epochs.
    """

    mode: str = "triangular"
    low: float = 0.1
    half_cycle: float = 4
    gamma: float = 0.9999
    _rules: ClassVar[dict[str, _Rule]] = {
        "mode": (f"one of {', '.join(MODES)}", lambda value: value in MODES),
        "low": _SHARE,
        "half_cycle": _POSITIVE,
        "gamma": _FACTOR,
    }

    def rate(self, plan: Plan) -> Any:
        from keraship.models.cyclic import CyclicRate

        half_cycle = plan.steps(self.half_cycle)
        return CyclicRate(plan.rate * self.low, plan.rate, half_cycle, mode=self.mode, gamma=self.gamma)


# Traced, step / steps becomes step * (1 / steps), of which 55 * (1 / 55) in float32 is below 1: a step too late. This
# is more than three such roundings; what it brings forward is one step in four million.
_EARLY = 1 - 2.5e-7


def _exponential(rate: float, factor: float, steps: float, *, staircase: bool) -> Any:
    import keras

    return keras.optimizers.schedules.ExponentialDecay(float(rate), steps, float(factor), staircase=staircase)


SCHEDULES: dict[str, type[Schedule]] = {
    "constant": Constant,
    "step": Step,
    "exponential": Exponential,
    "cosine": Cosine,
    "piecewise": Piecewise,
    "cyclic": Cyclic,
}
"""Every schedule by name: its parameters, all of which have defaults."""


def read_schedule(name: str, options: Mapping[str, Any] | None = None) -> Schedule:
    """The schedule called `name`, one of SCHEDULES, with these parameters; lists do for tuples, as TOML has none.

    Raises TrainingError for a name or a parameter that is not there, and for values that cannot be.
    """
    parameters = choose("a schedule", name, SCHEDULES)
    options = options or {}
    known = [field.name for field in dataclasses.fields(parameters)]  # type: ignore[arg-type]  # all are dataclasses
    unknown = [option for option in options if option not in known]
    if unknown:
        raise TrainingError(
            f"expected, of the schedule {name}, no parameters but {', '.join(known) or 'none'}; "
            f"got {', '.join(unknown)}"
        )
    return parameters(**{key: tuple(value) if isinstance(value, list) else value for key, value in options.items()})
