"""Every error that keraship raises on purpose, in one tree.

    KerashipError
    ├── MissingExtra              a package of an extra is not installed; the message holds the install command
    ├── ModelError                a model file that cannot be loaded: missing, truncated, a class nobody registered
    ├── DataError                 a data file that cannot be read, or does not fit the model
    ├── TrainingError             a training run that cannot start or go on
    ├── ExportError               a model that loads but cannot be exported
    │   └── VerificationError     an artifact that does not answer as the model does
    ├── BundleError               a model repository, version or manifest that is not as it must be
    │   └── VersionExists         a version to be published is there already
    ├── ServerError               a server that cannot start: wrong flag or config, port in use, nothing to serve
    └── StatusError               how a prediction ended, in gRPC's canonical codes; raised by the server's engine
        │                         and, with the same class, by the client that received it
        ├── InvalidArgument, NotFound, FailedPrecondition, Unavailable, DeadlineExceeded, ...
        └── InvalidInput          (an InvalidArgument) arrays that do not fit the signature

Errors know no transport: `serving/status.py` maps a StatusError to HTTP and gRPC, the client maps back.

    try:
        client.predict({"images": batch})
    except keraship.errors.InvalidInput as error:   # never sent
        ...
    except keraship.errors.StatusError as error:    # the server's answer, or the lack of one
        print(error.code, error.details, error.attempts)
"""

from __future__ import annotations


class KerashipError(Exception):
    """The base of all: one sentence that says what was expected, what came and what to do."""


class MissingExtra(KerashipError, ImportError):
    """A package that an extra brings is not installed."""


class ModelError(KerashipError):
    """A model file cannot be loaded."""


class DataError(KerashipError):
    """A data file cannot be read, or does not fit the model."""


class TrainingError(KerashipError):
    """A training run cannot start or go on."""


class ExportError(KerashipError):
    """A model that loads cannot be exported."""


class VerificationError(ExportError):
    """An artifact does not answer as the model does."""


class BundleError(KerashipError):
    """A model repository, a version or a manifest is not as it must be."""


class VersionExists(BundleError):
    """A version that is to be published is there already; versions are never changed."""


class ServerError(KerashipError):
    """A server cannot start."""


class StatusError(KerashipError):
    """How a prediction ended.

    code: the canonical status code's name, such as "NOT_FOUND".
    details: the server's message, as it came.
    attempts: how many times the call was sent (0: never; it failed before).

    The exception's text is `message` where the client knows more to say than the server's words, else `details`.
    """

    code = "UNKNOWN"

    def __init__(self, details: str, *, attempts: int = 0, message: str = "") -> None:
        super().__init__(message or details)
        self.details = details
        self.attempts = attempts


class Cancelled(StatusError):
    code = "CANCELLED"


class Unknown(StatusError):
    code = "UNKNOWN"


class InvalidArgument(StatusError):
    code = "INVALID_ARGUMENT"


class InvalidInput(InvalidArgument, ValueError):
    """Arrays do not fit the signature they were meant for."""


class DeadlineExceeded(StatusError):
    code = "DEADLINE_EXCEEDED"


class NotFound(StatusError):
    code = "NOT_FOUND"


class AlreadyExists(StatusError):
    code = "ALREADY_EXISTS"


class PermissionDenied(StatusError):
    code = "PERMISSION_DENIED"


class ResourceExhausted(StatusError):
    code = "RESOURCE_EXHAUSTED"


class FailedPrecondition(StatusError):
    code = "FAILED_PRECONDITION"


class Aborted(StatusError):
    code = "ABORTED"


class OutOfRange(StatusError):
    code = "OUT_OF_RANGE"


class Unimplemented(StatusError):
    code = "UNIMPLEMENTED"


class Internal(StatusError):
    code = "INTERNAL"


class Unavailable(StatusError):
    code = "UNAVAILABLE"


class DataLoss(StatusError):
    code = "DATA_LOSS"


class Unauthenticated(StatusError):
    code = "UNAUTHENTICATED"


BY_CODE: dict[str, type[StatusError]] = {
    error.code: error
    for error in (
        Cancelled,
        Unknown,
        InvalidArgument,
        DeadlineExceeded,
        NotFound,
        AlreadyExists,
        PermissionDenied,
        ResourceExhausted,
        FailedPrecondition,
        Aborted,
        OutOfRange,
        Unimplemented,
        Internal,
        Unavailable,
        DataLoss,
        Unauthenticated,
    )
}
"""The class for each canonical code but OK."""
