"""Which requests share a run: the choice between the ways of batching, for each version as it is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from keraship import bundle
from keraship.errors import BundleError
from keraship.serving.backend import Backend
from keraship.serving.batch_session import PARAMETERS_FILE, BatchingOptions, BatchSession, read_batching
from keraship.serving.batch_while_busy import BatchWhileBusy


@dataclass(frozen=True)
class SchedulingOptions:
    """batching: TensorFlow Serving's, for every model; per_version: a version's own parameters come first.

    Without `batching`, requests share a run where the version's manifest proves its rows independent.
    """

    batching: BatchingOptions | None = None
    per_version: bool = False


def scheduled(backend: Backend, version_dir: Path, options: SchedulingOptions) -> Backend:
    """The backend behind the queue that it is to have, or as it is; raises StatusError for wrong parameters."""
    if options.batching is not None:
        own = version_dir / PARAMETERS_FILE
        parameters = read_batching(own) if options.per_version and own.is_file() else options.batching
        return BatchSession(backend, parameters)
    return BatchWhileBusy(backend, together=True) if _rows_are_independent(version_dir) else backend


def _rows_are_independent(version_dir: Path) -> bool:
    """Whether the export has proven it, of every artifact."""
    if not (version_dir / bundle.MANIFEST).is_file():
        return False
    try:
        artifacts = bundle.read_manifest(version_dir).artifacts
    except BundleError:
        return False  # what is wrong with it is the backend's to say
    return bool(artifacts) and all(artifact.row_independent for artifact in artifacts)
