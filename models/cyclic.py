"""The cyclic learning rate; importing this file registers it, so that saved models load with their optimizer."""

from __future__ import annotations

import math
from typing import Any

import keras

from keraship.models.schedules import MODES


@keras.saving.register_keras_serializable(package="keraship")
class CyclicRate(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]  # keras has no types
    """A rate that goes up along a line from `low` to `high` in `half_cycle` steps and down again, over and over.

    Of cycle = floor(1 + step / (2 * half_cycle)) and x = |step / half_cycle - 2 * cycle + 1|, it is
    low + (high - low) * max(0, 1 - x) * scale; the scale is, by mode,
      triangular    1
      triangular2   1 / 2 ** (cycle - 1)
      exp_range     gamma ** step
    Called with a step, a whole number or a scalar tensor of any type; gives float32.
    Raises ValueError where low is not in 0 to high, half_cycle not 1 or more, gamma not in (0, 1], mode not in MODES.
    Source: Smith, Cyclical learning rates for training neural networks (2017).
    """

    def __init__(
        self, low: float, high: float, half_cycle: int, *, mode: str = "triangular", gamma: float = 1.0
    ) -> None:
        super().__init__()
        self.low, self.high, self.half_cycle = float(low), float(high), int(half_cycle)
        self.mode, self.gamma = mode, float(gamma)
        faults = [
            f"{name} to be {expected}, got {given!r}"
            for name, expected, given, holds in (
                ("low", "a number from 0 to high", low, 0 <= self.low <= self.high < math.inf),
                ("half_cycle", "a whole number from 1 on", half_cycle, self.half_cycle == half_cycle >= 1),
                ("mode", f"one of {', '.join(MODES)}", mode, mode in MODES),
                ("gamma", "a number above 0, 1 at most", gamma, 0 < self.gamma <= 1),
            )
            if not holds
        ]
        if faults:
            raise ValueError(f"expected {'; '.join(faults)}")

    def __call__(self, step: Any) -> Any:
        # Whole numbers up to the last division: float32 cannot tell steps beyond 16 million apart.
        step = keras.ops.cast(step, "int64")
        length = 2 * self.half_cycle
        x = keras.ops.abs(_float(keras.ops.mod(step, length)) / self.half_cycle - 1)
        cycles = keras.ops.floor_divide(step, length)
        count, base = {
            "triangular": (cycles, 1.0),
            "triangular2": (cycles, 0.5),
            "exp_range": (step, self.gamma),
        }[self.mode]
        # base ** count; but gamma itself is too near 1 for float32.
        scale = keras.ops.exp(_float(count) * math.log(base))
        return self.low + (self.high - self.low) * (1 - x) * scale

    def get_config(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("low", "high", "half_cycle", "mode", "gamma")}


def _float(whole: Any) -> Any:
    return keras.ops.cast(whole, "float32")
