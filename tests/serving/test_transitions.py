"""Whatever versions there are, and in whatever states: the next step never takes an answer away that there could be."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from keraship.serving.servable import Life, State
from keraship.serving.transitions import next_to_load, next_to_unload


@st.composite
def lives(draw: st.DrawFn) -> list[Life]:
    found = []
    for version in draw(st.sets(st.integers(1, 6))):
        life = Life("m", version, Path("/m"), draw(st.sampled_from(State)))
        if draw(st.booleans()):
            life.unwanted.set()
        found.append(life)
    return found


@given(lives())
def test_the_last_answer_stays_until_a_wanted_version_takes_over(found: list[Life]) -> None:
    """Unless nothing is wanted at all. What goes is the lowest of those that are not wanted."""
    old = next_to_unload(found)
    if old is None:
        return
    assert old.ready
    assert not old.wanted
    assert all(life.version >= old.version for life in found if life.ready and not life.wanted)
    if any(life.wanted for life in found):
        assert any(life.ready for life in found if life is not old)


@given(lives())
def test_nothing_stands_still(found: list[Life]) -> None:
    """Where a step would change something there is one: all that is new is loaded, and what is replaced goes."""
    new = [life for life in found if life.wanted and life.state is State.START]
    assert next_to_load(found) is max(new, key=lambda life: life.version, default=None)
    replaced = any(life.wanted and life.ready for life in found) and any(
        life.ready and not life.wanted for life in found
    )
    assert next_to_unload(found) is not None or not replaced
