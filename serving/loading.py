"""How a version is loaded, with all its tries, and unloaded.

Source: tensorflow_serving/util/retrier.cc, core/loader_harness.cc.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from keraship.errors import Cancelled, FailedPrecondition, KerashipError, MissingExtra, StatusError, Unknown
from keraship.serving.memory import give_back
from keraship.serving.servable import Life, Loader
from keraship.serving.status import text

_LOG = logging.getLogger(__name__)


def load(
    life: Life, loader: Loader, *, retries: int, pause: float, failed: Callable[[StatusError], None]
) -> StatusError | None:
    """Load a version into `life.servable`; why not, when all tries are used up or it is no longer wanted.

    retries: tries after the first. pause: seconds between two. failed: told of every try that failed, at once.
    """
    _LOG.info("Loading servable version %s", life)
    for attempt in range(max(retries, 0) + 1):
        if attempt and life.unwanted.wait(max(pause, 0)):
            break
        if attempt:
            _LOG.info("Retrying of Loading servable: %s retry: %d", life, attempt)
        error = _try(life, loader)
        if error is None:
            return _unless_cancelled(life)
        failed(error)
        if isinstance(error.__cause__, MissingExtra):  # what no installed package can run is not cured by waiting
            break
    else:
        _LOG.info("Retrying of Loading servable: %s exhausted max_num_retries: %d", life, max(retries, 0))
    if not life.wanted:
        _LOG.info("Retrying of Loading servable: %s was cancelled.", life)
    _LOG.error("Servable %s cannot be loaded: %s", life, text(error) if error else "")
    return error


def unload(life: Life) -> None:
    """Close a version that nobody uses any more, and give its memory back to the system."""
    _LOG.info("Unloading servable version %s", life)
    _close(life)


def _try(life: Life, loader: Loader) -> StatusError | None:
    try:
        life.servable = loader(life.name, life.version, life.path)
    except Exception as cause:
        error = _as_status(cause)
        _LOG.error("Loading servable: %s failed: %s", life, text(error))
        return _without_frames(error)
    return None


def _unless_cancelled(life: Life) -> StatusError | None:
    if life.wanted:
        _LOG.info("Successfully loaded servable version %s", life)
        return None
    _LOG.info("Unloading just-loaded servable version %s", life)
    _close(life)
    return Cancelled("Loading of servable cancelled")


def _close(life: Life) -> None:
    servable, life.servable = life.servable, None
    try:
        if servable is not None:
            servable.backend.close()
    finally:
        del servable
        give_back()
        _LOG.info("Done unloading servable version %s", life)


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


def _without_frames(error: StatusError) -> StatusError:
    """It is kept for as long as the server runs; what its frames hold, half of a model perhaps, must not be."""
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return error
