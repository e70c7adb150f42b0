from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keraship.intervals import wilson


@given(st.integers(1, 10_000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_definition(counted: tuple[int, int]) -> None:
    """The interval's ends are the shares p at which the sample is 1.96 standard errors, sqrt(p(1-p)/n), away."""
    successes, total = counted
    share = successes / total
    low, high = wilson(successes, total)
    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1
    for end in (low, high):
        distance = 1.959963984540054 * math.sqrt(end * (1 - end) / total)
        assert abs(share - end) == pytest.approx(distance, abs=1e-7)


def test_known_values() -> None:
    """A published example: 81 of 263 gives 0.2553 to 0.3662 (Newcombe 1998, table I)."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_nothing_counted() -> None:
    """Without a sample, nothing is known."""
    assert wilson(0, 0) == (0, 1)
