"""The versions in memory: loads those that are wanted, unloads those that are not, and lends out what is loaded.

Availability comes first: of a model's versions the new one is loaded before the old one is unloaded, and an old one
goes only after the last request that uses it. (tensorflow_serving/core/aspired_versions_manager.cc)
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from keraship.errors import InvalidArgument, NotFound, StatusError
from keraship.serving.labels import Labels
from keraship.serving.loading import load, unload
from keraship.serving.servable import Lease, Life, Loader, State, VersionStatus
from keraship.serving.transitions import next_to_load, next_to_unload

_LOG = logging.getLogger(__name__)

TICK_SECONDS = 0.1
_CORES = os.cpu_count() or 1


@dataclass(frozen=True)
class RepositoryOptions:
    """How versions are loaded.

    load_retries: tries after the first; retry_seconds: the pause between them.
    load_threads, unload_threads: how many at once; 0 for 4 a core, and so it is until `settle`.
    show_failures: a version that waits for its next try tells why the last one failed.
    """

    load_retries: int = 5
    retry_seconds: float = 60
    load_threads: int = 0
    unload_threads: int = 0
    show_failures: bool = False


class Repository:
    """The versions that are served. Everything may be called from any thread."""

    def __init__(self, loader: Loader, options: RepositoryOptions | None = None) -> None:
        self._loader = loader
        self._options = options or RepositoryOptions()
        self._changed = threading.Condition()
        self._names: tuple[str, ...] = ()
        self._labels: Labels = {}
        self._requests: dict[str, Mapping[int, Path]] = {}
        self._lives: dict[str, dict[int, Life]] = {}
        self._ready: dict[str, dict[int, Life]] = {}  # what is lent out, apart from all that has ended
        self._ended: dict[str, dict[int, VersionStatus]] = {}
        self._working = {State.LOADING: 0, State.UNLOADING: 0}
        self._why_missing: Callable[[str], StatusError | None] = lambda _: None
        self._settled = False
        self._closing = threading.Event()
        self._manager = threading.Thread(target=self._manage, name="manage", daemon=True)

    # Asked by the engine.

    def lease(self, name: str, version: int | None = None, label: str | None = None) -> Lease:
        """The version to run, which stays loaded until the block ends. version None: the highest that is loaded.

        with repository.lease("digits") as servable: ...

        The block raises InvalidArgument for no name or a label that nobody set, NotFound where nothing is loaded.
        """
        return Lease(self._borrow, self._give_back, (name, version, label))

    def status(self, name: str, version: int | None = None) -> list[VersionStatus]:
        """Every version of a model since the start, those that ended too, or the one asked for; newest first.

        Raises NotFound where there never was one.
        """
        with self._changed:
            found = [status for status in self._statuses(name) if version in (None, status.version)]
        if found:
            return found
        which = "any versions" if version is None else f"version {version}"
        why = self._why_missing(name)
        raise NotFound(f"Could not find {which} of model {name}" + (f": {why.details}" if why else ""))

    def statuses(self) -> dict[str, list[VersionStatus]]:
        """Every model that is configured, with its versions as `status` has them; none where none was found yet."""
        with self._changed:
            return {name: self._statuses(name) for name in self._names}

    # Told by whoever decides what is served.

    def start(self) -> None:
        """Begin to load and unload."""
        self._manager.start()

    def settle(self) -> None:
        """What a server starts with is loaded; from now on there are as many threads as the options say."""
        self._settled = True

    def configure(self, names: Iterable[str], labels: Labels) -> None:
        """Which models there are, and the names of their versions."""
        with self._changed:
            self._names, self._labels = tuple(names), labels

    def explain_missing(self, why: Callable[[str], StatusError | None]) -> None:
        """Have somebody say why nothing was found of a model, where there is more to say."""
        self._why_missing = why

    @property
    def labels(self) -> Labels:
        """Model -> label -> version."""
        return self._labels

    def aspire(self, wanted: Mapping[str, Mapping[int, Path]]) -> None:
        """Serve these versions of these models, number -> folder, and no others of them."""
        with self._changed:
            self._requests.update(wanted)
            self._changed.notify_all()

    def is_available(self, name: str, version: int) -> bool:
        """Whether a version can be asked."""
        return version in self._ready.get(name, {})

    def lives(self, name: str) -> list[Life]:
        """The versions of a model that are loaded or may be, newest first."""
        with self._changed:
            lives = self._lives.get(name, {})
            return [lives[version] for version in sorted(lives, reverse=True)]

    def wait_for_change(self, seconds: float = TICK_SECONDS) -> None:
        """Return when a version's state may have changed."""
        with self._changed:
            self._changed.wait(seconds)

    def close(self, *, patience: float = 5) -> bool:
        """Unload everything, after the requests under way.

        patience: seconds that loads have to end. False where one had not: its thread goes on.
        """
        self._closing.set()
        if self._manager.ident is not None:  # else it was never started
            self._manager.join()
        end = time.monotonic() + patience
        with self._changed:
            for life in self._all():
                life.unwanted.set()
            self._changed.wait_for(lambda: not any(self._working.values()), patience)
            for life in [life for life in self._all() if life.ready]:
                self._begin_to_unload(life)
            self._changed.wait_for(lambda: not self._working[State.UNLOADING])
            return self._changed.wait_for(lambda: not any(self._working.values()), max(end - time.monotonic(), 0))

    # The managing thread: what is wanted -> loads and unloads, one step of a model at a time.

    def _manage(self) -> None:
        while not self._closing.is_set():
            with self._changed:
                try:
                    self._pass()
                except Exception:  # no thread can be started, say; the next pass may go better
                    _LOG.exception("managing versions failed in a way that nobody foresaw")
                self._changed.wait(TICK_SECONDS)

    def _pass(self) -> None:
        self._forget_ended()
        self._take_requests()
        for lives in self._lives.values():
            self._step(lives)

    def _forget_ended(self) -> None:
        """Of lives that are over the last state is kept, which makes room for the next life of the version."""
        for name, lives in self._lives.items():
            for life in [life for life in lives.values() if not life.wanted and life.state in (State.START, State.END)]:
                life.state = State.END
                self._ended.setdefault(name, {})[life.version] = life.status
                del lives[life.version]

    def _take_requests(self) -> None:
        for name, versions in list(self._requests.items()):
            lives = self._lives.setdefault(name, {})
            for version, life in lives.items():
                if version not in versions:
                    life.unwanted.set()
                elif life.ready and life.path == versions[version]:
                    life.unwanted.clear()
            if not any(version in lives and not lives[version].wanted for version in versions):
                del self._requests[name]
                for version in versions.keys() - lives.keys():
                    lives[version] = Life(name, version, versions[version])
            # else: a version comes back whose earlier life is not over, which is waited for

    def _step(self, lives: dict[int, Life]) -> None:
        if (old := next_to_unload(lives.values())) is not None:
            if self._has_room(State.UNLOADING):
                self._begin_to_unload(old)
        elif (new := next_to_load(lives.values())) is not None and self._has_room(State.LOADING):
            self._begin(new, State.LOADING, self._load)

    def _has_room(self, kind: State) -> bool:
        load_threads = self._options.load_threads if self._settled else 0
        threads = load_threads if kind is State.LOADING else self._options.unload_threads
        return self._working[kind] < (threads if threads > 0 else 4 * _CORES)

    def _begin_to_unload(self, life: Life) -> None:
        self._begin(life, State.UNLOADING, self._unload)
        del self._ready[life.name][life.version]

    def _begin(self, life: Life, state: State, work: Callable[[Life], None]) -> None:
        before, life.state = life.state, state
        worker = threading.Thread(target=self._work, args=(life, state, work), name=f"{state.name} {life}", daemon=True)
        try:
            worker.start()
        except RuntimeError:  # no more threads can be had
            life.state = before
            raise
        self._working[state] += 1

    # Workers.

    def _work(self, life: Life, state: State, work: Callable[[Life], None]) -> None:
        try:
            work(life)
        except Exception:
            _LOG.exception("%s", life)
            self._set(life, State.END)
        finally:
            with self._changed:
                self._working[state] -= 1
                self._changed.notify_all()

    def _load(self, life: Life) -> None:
        def failed(error: StatusError) -> None:
            with self._changed:
                life.last_error = error
                self._changed.notify_all()

        options = self._options
        error = load(life, self._loader, retries=options.load_retries, pause=options.retry_seconds, failed=failed)
        self._set(life, State.AVAILABLE if error is None else State.END, error)

    def _unload(self, life: Life) -> None:
        with self._changed:
            self._changed.wait_for(lambda: life.users == 0)
        unload(life)
        self._set(life, State.END)

    def _set(self, life: Life, state: State, error: StatusError | None = None) -> None:
        with self._changed:
            life.state, life.error = state, error
            if state is State.AVAILABLE:
                self._ready.setdefault(life.name, {})[life.version] = life
            self._changed.notify_all()

    def _borrow(self, name: str, version: int | None, label: str | None) -> Life:
        if not name:
            raise InvalidArgument("ModelSpec has no name specified.")
        with self._changed:
            if label is not None:
                version = self._labels.get(name, {}).get(label)
                if version is None:
                    raise InvalidArgument(f"Unrecognized servable version label: {label}")
            ready = self._ready.get(name, {})
            number = max(ready, default=None) if version is None else version
            if number not in ready:
                which = f"Latest({name})" if version is None else f"Specific({name}, {version})"
                raise NotFound(f"Servable not found for request: {which}")
            ready[number].users += 1
            return ready[number]

    def _give_back(self, life: Life) -> None:
        with self._changed:
            life.users -= 1
            if not life.users and not life.ready:  # it waits to be unloaded
                self._changed.notify_all()

    def _statuses(self, name: str) -> list[VersionStatus]:
        found = dict(self._ended.get(name, {}))
        found.update({version: self._status(life) for version, life in self._lives.get(name, {}).items()})
        return [found[version] for version in sorted(found, reverse=True)]

    def _status(self, life: Life) -> VersionStatus:
        if self._options.show_failures and life.state is State.LOADING:
            return VersionStatus(life.version, life.state, life.last_error)
        return life.status

    def _all(self) -> list[Life]:
        return [life for lives in self._lives.values() for life in lives.values()]
