"""Which models are served: takes a configuration, brings the server there, and waits for what is new in it.

Source: tensorflow_serving/model_servers/server_core.cc, core/load_servables_fast.cc.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keraship.errors import Aborted, DeadlineExceeded, ServerError, StatusError, Unavailable, Unknown
from keraship.serving.labels import assign
from keraship.serving.model_config import read_config
from keraship.serving.repository import TICK_SECONDS, Repository
from keraship.serving.servable import Life, State
from keraship.serving.status import text
from keraship.serving.versions import ModelConfig
from keraship.serving.watcher import Watcher

_LOG = logging.getLogger(__name__)


class ModelsFailedError(ServerError):
    """Models, not ports or flags, are why a server cannot start."""


@dataclass(frozen=True)
class ManagerOptions:
    """How models are watched, and what a start waits for.

    poll_seconds: between two looks at the folders; 0 looks once, less than 0 never.
    allow_unavailable_labels: new labels may point to versions that are not loaded.
    until_first_failure: a model that fails to load once is not waited for through all its retries.
    serve_what_loads: a model that is missing or broken keeps no other one from being served.
    """

    poll_seconds: float = 1
    allow_unavailable_labels: bool = False
    until_first_failure: bool = False
    serve_what_loads: bool = False


@dataclass(frozen=True)
class Awaited:
    """Models that are to become available. before: their earlier lives, which do not count."""

    names: tuple[str, ...]
    before: frozenset[Life]
    what: str = "model"


class ModelManager:
    """Keeps a repository as a configuration wants it. Everything may be called from any thread."""

    def __init__(self, repository: Repository, options: ManagerOptions | None = None) -> None:
        self._repository = repository
        self._options = options or ManagerOptions()
        self._watcher = Watcher(
            repository.aspire, seconds=self._options.poll_seconds, together=not self._options.serve_what_loads
        )
        if self._options.serve_what_loads:
            repository.explain_missing(self._why_missing)
        self._changing = threading.Lock()
        self._current: tuple[ModelConfig, ...] | None = None
        self._ending = threading.Event()

    def start(self, models: Sequence[ModelConfig] | None) -> None:
        """Serve these models, and return once every one has a version that can be asked; None waits for `reload`.

        Raises ModelsFailedError where versions failed for good instead; FailedPrecondition for labels of versions that
        are not there.
        """
        self._repository.start()
        self._watcher.start()
        if models is None:
            _LOG.info("Taking no action for empty config.")
        else:
            with self._changing:
                awaited = self._apply(models)
            self._wait_for_start(awaited)
        self._repository.settle()

    def reload(self, message: Any, *, deadline: float | None = None) -> None:
        """Go over to a ModelServerConfig, and return once the models that are new in it can be asked.

        deadline: seconds to wait; None for ever, as tensorflow_model_server does.
        Raises StatusError. What was refused changes nothing; what failed later stays configured.
        """
        awaited = self.begin_reload(message)
        end = None if deadline is None else time.monotonic() + deadline
        while not self.is_up(awaited):
            if self._ending.is_set():
                raise Unavailable("the server is shutting down")
            if end is not None and time.monotonic() > end:
                raise DeadlineExceeded(f"model(s) {', '.join(awaited.names)} did not become available in time")
            self._repository.wait_for_change()

    def begin_reload(self, message: Any) -> Awaited:
        """As `reload`, without the waiting; `is_up` tells the rest."""
        with self._changing:
            models = read_config(message, self._current)
            if models is None:
                _LOG.info("Taking no action for empty config.")
                return Awaited((), frozenset())
            return self._apply(models)

    def is_up(self, awaited: Awaited) -> bool:
        """Whether everything that was waited for can be asked.

        Raises Unknown where versions failed for good, Aborted where a later configuration took a model away again.
        """
        configured = {model.name for model in self._watcher.models}
        gone = [name for name in awaited.names if name not in configured]
        if gone:
            raise Aborted(f"model(s) {', '.join(gone)} went away with a later config before they became available")
        reached = [self._reached(name, awaited.before) for name in awaited.names]
        if None in reached:
            return False
        failed = [life for life in reached if life and not life.ready]
        if failed:
            raise Unknown(_causes(failed, awaited.what))
        return True

    def end_waiting(self) -> None:
        """Let everybody who waits for a model go; may be called by a signal's handler."""
        self._ending.set()

    def close(self) -> bool:
        """Watch no more and unload everything; False where a load was still under way and was left behind."""
        self._ending.set()
        self._watcher.close()
        return self._repository.close()

    def _apply(self, models: Sequence[ModelConfig]) -> Awaited:
        """The configuration counts from here on, whatever fails after."""
        first, self._current = self._current is None, tuple(models)
        labels = assign(
            models,
            self._repository.labels,
            is_available=self._repository.is_available,
            allow_unavailable=self._options.allow_unavailable_labels,
        )
        _LOG.info("Adding/updating models.")
        for model in models:
            _LOG.info(" (Re-)adding model: %s", model.name)
        watched = {model.name for model in self._watcher.models}
        new = tuple(model.name for model in models if model.name not in watched)
        awaited = Awaited(
            new,
            frozenset(life for name in new for life in self._repository.lives(name)),
            "servable" if first else "model",
        )
        self._repository.configure((model.name for model in models), labels)
        self._watcher.watch(models)
        return awaited

    def _wait_for_start(self, awaited: Awaited) -> None:
        is_up = self._is_decided if self._options.serve_what_loads else self._is_up_at_start
        while not self._ending.is_set() and not is_up(awaited):
            self._repository.wait_for_change(TICK_SECONDS)

    def _is_up_at_start(self, awaited: Awaited) -> bool:
        try:
            return self._has_started_or_failed(awaited) if self._options.until_first_failure else self.is_up(awaited)
        except Unknown as error:
            raise ModelsFailedError(str(error)) from error

    def _has_started_or_failed(self, awaited: Awaited) -> bool:
        waiting = [name for name in awaited.names if not self._is_ready(name)]
        failed = [life for name in waiting for life in self._repository.lives(name) if life.last_error]
        if {life.name for life in failed} != set(waiting):
            return False
        if failed:
            raise Unknown(_causes(failed, awaited.what))
        return True

    def _is_decided(self, awaited: Awaited) -> bool:
        """Whether each model is served, failed, or is not there."""
        return all(
            self._is_ready(name)
            or self._is_missing(name)
            or any(life.last_error for life in self._repository.lives(name))
            for name in awaited.names
        )

    def _is_ready(self, name: str) -> bool:
        return any(life.ready for life in self._repository.lives(name))

    def _is_missing(self, name: str) -> bool:
        return self._options.poll_seconds < 0 or self._watcher.seen(name) == 0 or self._why_missing(name) is not None

    def _why_missing(self, name: str) -> StatusError | None:
        seen = self._watcher.seen(name)
        return seen if isinstance(seen, StatusError) else None

    def _reached(self, name: str, before: frozenset[Life]) -> Life | None:
        """The newest version that is loaded or failed; it stands for the model, whatever becomes of older ones."""
        lives = [life for life in self._repository.lives(name) if life not in before]
        return next((life for life in lives if life.ready or (life.state is State.END and life.error)), None)


def _causes(failed: Sequence[Life], what: str) -> str:
    causes = "".join(f"{life} due to error: {text(_why(life))}, " for life in failed)
    return f"{len(failed)} {what}(s) did not become available: {{{causes}}}"


def _why(life: Life) -> StatusError:
    return life.error or life.last_error or Unknown("")
