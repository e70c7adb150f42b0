"""Which requests share a run: the choice between the ways of batching, for each version as it is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from keraship import bundle
from keraship.errors import BundleError
from keraship.serving.backend import Backend, JointBackend
from keraship.serving.batch_session import PARAMETERS_FILE, BatchingOptions, BatchSession, read_batching
from keraship.serving.batch_while_busy import BatchWhileBusy, Observer


@dataclass(frozen=True)
class SchedulingOptions:
    """batching: TensorFlow Serving's, for every model; per_version: a version's own parameters come first.

    while_busy: without `batching`, requests share a run where the version's manifest proves its rows independent.
    """

    batching: BatchingOptions | None = None
    per_version: bool = False
    while_busy: bool = True


def scheduled(
    backend: Backend, version_dir: Path, options: SchedulingOptions, observer: Observer | None = None
) -> Backend:
    """The backend behind the queue that it is to have, or as it is; raises StatusError for wrong parameters."""
    queued = _queued(backend, version_dir, options, observer)
    if isinstance(backend, JointBackend):
        vars(queued)["run_together"] = backend.run_together  # several signatures at once are one run of their own
    return queued


def _queued(backend: Backend, version_dir: Path, options: SchedulingOptions, observer: Observer | None) -> Backend:
    if options.batching is not None:
        own = version_dir / PARAMETERS_FILE
        parameters = read_batching(own) if options.per_version and own.is_file() else options.batching
        return BatchSession(backend, parameters, observer)
    if options.while_busy and _rows_are_independent(version_dir):
        return BatchWhileBusy(backend, together=True, observer=observer)
    return backend


def _rows_are_independent(version_dir: Path) -> bool:
    """Whether the export has proven it, of every artifact."""
    if not (version_dir / bundle.MANIFEST).is_file():
        return False
    try:
        artifacts = bundle.read_manifest(version_dir).artifacts
    except BundleError:
        return False  # what is wrong with it is the backend's to say
    return bool(artifacts) and all(artifact.row_independent for artifact in artifacts)
