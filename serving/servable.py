"""One version of a model in memory: what it is, how far it is, and who is using it."""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from keraship.errors import StatusError
from keraship.serving.backend import Backend


class State(enum.IntEnum):
    """Where a version stands; the numbers are those of ModelVersionStatus.State."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True)
class Servable:
    """A loaded version. path: the folder that it was loaded from."""

    name: str
    version: int
    backend: Backend
    path: Path = Path()


@dataclass(frozen=True)
class VersionStatus:
    """What GetModelStatus says of a version; error is None where nothing went wrong.

    last_error, which it does not say: why the last try to load failed, though others may follow.
    """

    version: int
    state: State
    error: StatusError | None
    last_error: StatusError | None = None


@dataclass(eq=False)
class Life:
    """One life of a version, from START to END. Its fields are changed under the repository's lock.

    unwanted: set once the version is no longer aspired; a load that is waiting for its next try then gives up.
    users: requests that are using it.
    last_error: why the last try to load failed; error: why the last of all did, which is the end of it.
    """

    name: str
    version: int
    path: Path
    state: State = State.START
    servable: Servable | None = None
    error: StatusError | None = None
    last_error: StatusError | None = None
    users: int = 0
    unwanted: threading.Event = field(default_factory=threading.Event)

    @property
    def wanted(self) -> bool:
        return not self.unwanted.is_set()

    @property
    def ready(self) -> bool:
        return self.state is State.AVAILABLE

    @property
    def status(self) -> VersionStatus:
        return VersionStatus(self.version, self.state, self.error, self.last_error)

    def __str__(self) -> str:
        return f"{{name: {self.name} version: {self.version}}}"


class Lease:
    """A version that is lent out for the length of a `with` block.

    A class, and no generator: it is made once a request, and is half of what lending costs.
    """

    __slots__ = ("_borrow", "_give_back", "_life", "_wish")

    def __init__(
        self,
        borrow: Callable[[str, int | None, str | None], Life],
        give_back: Callable[[Life], None],
        wish: tuple[str, int | None, str | None],
    ) -> None:
        self._borrow, self._give_back, self._wish = borrow, give_back, wish

    def __enter__(self) -> Servable:
        self._life = self._borrow(*self._wish)
        servable = self._life.servable
        assert servable is not None  # noqa: S101 - for the type checker: whatever is lent out has one
        return servable

    def __exit__(self, *_: object) -> None:
        self._give_back(self._life)


Loader = Callable[[str, int, Path], Servable]
"""Loads and warms up a version: name, version, folder."""
