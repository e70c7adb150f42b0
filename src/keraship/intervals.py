"""How sure a share is that was counted on a sample."""

from __future__ import annotations

import math

Z_95 = 1.959963984540054
"""The standard normal distribution's 97.5 % quantile."""


def wilson(successes: int, total: int) -> tuple[float, float]:
    """The 95 % Wilson score interval [low, high] of a share; (0, 1) where nothing was counted.

    Source: Wilson, Probable inference, the law of succession, and statistical inference (1927).

    >>> wilson(9, 10)
    (0.595849..., 0.982123...)
    """
    if not total:
        return 0.0, 1.0
    share, z2 = successes / total, Z_95**2
    centre = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = Z_95 / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    return max(0.0, centre - half), min(1.0, centre + half)
