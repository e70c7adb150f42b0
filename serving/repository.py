"""Watches the models' folders, loads what appears, unloads what goes, and lends out what is loaded.

Availability comes first: of a model's versions the new one is loaded before the old one is unloaded, and an old one
goes only after the last request that uses it. (tensorflow_serving/core/availability_preserving_policy.cc)
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from keraship.errors import (
    FailedPrecondition,
    InvalidArgument,
    KerashipError,
    MissingExtra,
    NotFound,
    ServerError,
    StatusError,
    Unknown,
)
from keraship.serving.servable import Life, Loader, Servable, State, VersionStatus
from keraship.serving.status import text
from keraship.serving.versions import ModelConfig, aspired

_LOG = logging.getLogger(__name__)

_TICK_SECONDS = 0.1


class ModelsFailedError(ServerError):
    """Models, not ports or flags, are why a server cannot start."""


@dataclass(frozen=True)
class RepositoryOptions:
    """How models are watched and loaded.

    poll_seconds: between two looks at the folders; 0 looks once, less than 0 never.
    load_retries: tries after the first; retry_seconds: the pause between them. load_threads: 0 for 4 a core.
    """

    poll_seconds: float = 1
    load_retries: int = 5
    retry_seconds: float = 60
    load_threads: int = 0


class Repository:
    """The models that are served, kept as the folders are.

    Its threads run from `start` to `close`. Everything may be called from any thread.
    """

    def __init__(self, models: Iterable[ModelConfig], loader: Loader, options: RepositoryOptions | None = None) -> None:
        self._models = tuple(models)
        self._loader = loader
        self._options = options or RepositoryOptions()
        self._changed = threading.Condition()
        self._lives: dict[str, dict[int, Life]] = {model.name: {} for model in self._models}
        self._closing = threading.Event()
        self._workers = ThreadPoolExecutor(self._options.load_threads or 4 * (os.cpu_count() or 1), "load")
        self._threads = [
            threading.Thread(target=run, name=run.__name__, daemon=True) for run in (self._poll, self._manage)
        ]

    # Asked by the engine.

    @contextlib.contextmanager
    def lease(self, name: str, version: int | None = None, label: str | None = None) -> Iterator[Servable]:
        """The version to run, which stays loaded until the block ends. version None: the highest that is loaded.

        Raises InvalidArgument without a name or for a label that nobody set, NotFound where nothing is loaded.
        """
        life = self._borrow(name, version, label)
        try:
            assert life.servable is not None  # noqa: S101 - for the type checker: whatever is ready has one
            yield life.servable
        finally:
            with self._changed:
                life.users -= 1
                self._changed.notify_all()

    def status(self, name: str, version: int | None = None) -> list[VersionStatus]:
        """Every version of a model since the start, those that ended too, or the one asked for; newest first.

        Raises NotFound where there never was one.
        """
        with self._changed:
            lives = self._lives.get(name, {})
            found = [lives[number].status for number in sorted(lives, reverse=True) if version in (None, number)]
        if not found:
            which = "any versions" if version is None else f"version {version}"
            raise NotFound(f"Could not find {which} of model {name}")
        return found

    def statuses(self) -> dict[str, list[VersionStatus]]:
        """Every model that is configured, with its versions as `status` has them; none where none was found yet."""
        with self._changed:
            return {
                name: [lives[number].status for number in sorted(lives, reverse=True)]
                for name, lives in self._lives.items()
            }

    # Called by whoever runs the server.

    def start(self) -> None:
        """Begin to look at the folders and to load."""
        for thread in self._threads:
            thread.start()

    def wait_until_served(self, *, until_first_failure: bool = False, stop: Callable[[], bool] = lambda: False) -> None:
        """Return once every model has a version that can be asked.

        until_first_failure: a model that fails to load once is not waited for through all its retries.
        stop: asked again and again; True ends the wait.
        Raises ModelsFailedError when versions failed for good instead; every one is named.
        """
        while not stop():
            with self._changed:
                waiting = [
                    name for name, lives in self._lives.items() if not any(life.ready for life in lives.values())
                ]
                failed = [
                    life
                    for name in waiting
                    for life in self._lives[name].values()
                    if _failed(life, until_first_failure)
                ]
                if len({life.name for life in failed}) == len(waiting):
                    break
                self._changed.wait(_TICK_SECONDS)
        else:
            return
        if failed:
            causes = "".join(f"{life} due to error: {text(life.last_error or Unknown(''))}, " for life in failed)
            raise ModelsFailedError(f"{len(failed)} servable(s) did not become available: {{{causes}}}")

    def close(self) -> None:
        """Unload everything, after the requests under way; returns when all is unloaded."""
        self._closing.set()
        with self._changed:
            for life in self._all():
                life.unwanted.set()
        for thread in self._threads:
            if thread.ident is not None:  # else it was never started
                thread.join()
        self._workers.shutdown(wait=True)
        for life in self._all():
            if life.ready:
                self._unload(life)

    # The watching thread: folders -> what is wanted.

    def _poll(self) -> None:
        seconds = self._options.poll_seconds
        while seconds >= 0:
            try:
                wanted = {model.name: aspired(model) for model in self._models}
            except NotFound as error:  # nothing is updated in this pass: a share that is away is no order to unload
                _LOG.error("FileSystemStoragePathSource encountered a filesystem access error: %s", error)
            else:
                self._aspire(wanted)
            if seconds == 0 or self._closing.wait(seconds):
                return

    def _aspire(self, wanted: dict[str, dict[int, Path]]) -> None:
        with self._changed:
            for name, versions in wanted.items():
                lives = self._lives[name]
                for version, life in lives.items():
                    if version not in versions:
                        life.unwanted.set()
                for version, path in versions.items():
                    # A version that comes back waits until its earlier life is over.
                    if version not in lives or (lives[version].state is State.END and not lives[version].wanted):
                        lives[version] = Life(name, version, path)
            self._changed.notify_all()

    # The managing thread: what is wanted -> loads and unloads, one step of a model at a time.

    def _manage(self) -> None:
        while not self._closing.is_set():
            with self._changed:
                for lives in self._lives.values():
                    self._step(list(lives.values()))
                self._changed.wait(_TICK_SECONDS)

    def _step(self, lives: list[Life]) -> None:
        for life in lives:
            if life.state is State.START and not life.wanted:
                life.state = State.END
        if (old := _to_unload(lives)) is not None:
            old.state = State.UNLOADING
            self._workers.submit(self._guard, self._unload, old)
        elif new := [life for life in lives if life.state is State.START]:
            newest = max(new, key=lambda life: life.version)
            newest.state = State.LOADING
            self._workers.submit(self._guard, self._load, newest)

    def _guard(self, work: Callable[[Life], None], life: Life) -> None:
        """A worker's exception would be lost in its future."""
        try:
            work(life)
        except Exception:
            _LOG.exception("%s", life)

    # Workers.

    def _load(self, life: Life) -> None:
        for attempt in range(self._options.load_retries + 1):
            if attempt:
                _LOG.info("Retrying of Loading servable: %s retry: %d", life, attempt)
            error = self._try_to_load(life)
            if error is None:
                return
            _LOG.error("Loading servable: %s failed: %s", life, text(error))
            # What no installed package can run will not be cured by waiting.
            if isinstance(error.__cause__, MissingExtra) or attempt == self._options.load_retries:
                break
            if life.unwanted.wait(max(self._options.retry_seconds, 0)):
                break
        else:
            error = Unknown("no try was allowed")
        if life.wanted:
            _LOG.error("Loading servable: %s exhausted max_num_retries: %d", life, self._options.load_retries)
        self._set(life, State.END, error=error)

    def _try_to_load(self, life: Life) -> StatusError | None:
        """None when it is loaded, and lent out from then on; otherwise why not."""
        started = time.monotonic()
        try:
            servable = self._loader(life.name, life.version, life.path)
        except Exception as cause:
            error = _as_status(cause)
            with self._changed:
                life.last_error = error
                self._changed.notify_all()
            return error
        self._set(life, State.AVAILABLE, servable=servable)
        _LOG.info("Successfully loaded servable version %s in %.2f s", life, time.monotonic() - started)
        return None

    def _unload(self, life: Life) -> None:
        with self._changed:
            life.state = State.UNLOADING
            self._changed.wait_for(lambda: life.users == 0)
            servable, life.servable = life.servable, None
        try:
            if servable is not None:
                servable.backend.close()
        finally:
            self._set(life, State.END)
            _LOG.info("Done unloading servable version %s", life)

    def _set(
        self, life: Life, state: State, *, servable: Servable | None = None, error: StatusError | None = None
    ) -> None:
        with self._changed:
            life.state, life.servable, life.error = state, servable, error
            self._changed.notify_all()

    def _borrow(self, name: str, version: int | None, label: str | None) -> Life:
        if not name:
            raise InvalidArgument("ModelSpec has no name specified.")
        if label is not None:
            raise InvalidArgument(f"Unrecognized servable version label: {label}")
        with self._changed:
            ready = {number: life for number, life in self._lives.get(name, {}).items() if life.ready}
            number = max(ready, default=None) if version is None else version
            if number not in ready:
                which = f"Latest({name})" if version is None else f"Specific({name}, {version})"
                raise NotFound(f"Servable not found for request: {which}")
            ready[number].users += 1
            return ready[number]

    def _all(self) -> list[Life]:
        return [life for lives in self._lives.values() for life in lives.values()]


def _to_unload(lives: list[Life]) -> Life | None:
    """The lowest version that is loaded and not wanted, where its going takes no answer from anybody."""
    old = [life for life in lives if life.ready and not life.wanted]
    wanted = [life for life in lives if life.wanted]
    if old and (not wanted or any(life.ready for life in wanted) or len(old) > 1):
        return min(old, key=lambda life: life.version)
    return None


def _failed(life: Life, on_first: bool) -> bool:
    return life.wanted and (life.error if not on_first else life.last_error) is not None


def _as_status(cause: Exception) -> StatusError:
    if isinstance(cause, StatusError):
        return cause
    error: StatusError
    if isinstance(cause, KerashipError):
        error = FailedPrecondition(str(cause))
    else:
        _LOG.error("a model failed to load in a way that nobody foresaw", exc_info=cause)
        error = Unknown(f"{type(cause).__name__}: {cause}")
    error.__cause__ = cause
    return error
