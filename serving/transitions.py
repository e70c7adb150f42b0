"""Which of a model's versions is loaded or unloaded next: never is there nothing to ask when there need not be.

Source: tensorflow_serving/core/availability_preserving_policy.cc.
"""

from __future__ import annotations

from collections.abc import Collection

from keraship.serving.servable import Life, State


def next_to_unload(lives: Collection[Life]) -> Life | None:
    """The lowest version that is loaded and not wanted, where its going takes no answer from anybody."""
    old = [life for life in lives if life.ready and not life.wanted]
    wanted = [life for life in lives if life.wanted]
    if old and (not wanted or any(life.ready for life in wanted) or len(old) > 1):
        return min(old, key=lambda life: life.version)
    return None


def next_to_load(lives: Collection[Life]) -> Life | None:
    """The highest version that is wanted and new; none while one is to be unloaded first."""
    new = [life for life in lives if life.wanted and life.state is State.START]
    return max(new, key=lambda life: life.version, default=None)
