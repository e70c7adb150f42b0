"""Ask a running server: numpy arrays in, numpy arrays out, over TensorFlow Serving's gRPC or REST API.

    from keraship.client import Client

    with Client("localhost:8500", "digits") as client:
        scores = client.predict({"images": batch}).array

It speaks to TensorFlow Serving, to `keraship serve` and to whatever else speaks that API, and needs no TensorFlow.
`core` says what a client does, step by step; `client` and `aio` are thin shells that perform the steps, one by waiting,
one by awaiting. `messages` and `rest_messages` build and read what goes over the wire, the channels carry it.
"""

from keraship.client.aio import AsyncClient
from keraship.client.client import Client
from keraship.client.options import NO_RETRY, Retry, Tls
from keraship.client.results import (
    Class,
    Classification,
    Metadata,
    ModelConfig,
    ModelSpec,
    Prediction,
    Regression,
    VersionStatus,
)
from keraship.errors import (
    Aborted,
    AlreadyExists,
    Cancelled,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    InvalidInput,
    KerashipError,
    NotFound,
    OutOfRange,
    PermissionDenied,
    ResourceExhausted,
    StatusError,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    Unknown,
)

__all__ = [
    "NO_RETRY",
    "Aborted",
    "AlreadyExists",
    "AsyncClient",
    "Cancelled",
    "Class",
    "Classification",
    "Client",
    "DataLoss",
    "DeadlineExceeded",
    "FailedPrecondition",
    "Internal",
    "InvalidArgument",
    "InvalidInput",
    "KerashipError",
    "Metadata",
    "ModelConfig",
    "ModelSpec",
    "NotFound",
    "OutOfRange",
    "PermissionDenied",
    "Prediction",
    "Regression",
    "ResourceExhausted",
    "Retry",
    "StatusError",
    "Tls",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Unknown",
    "VersionStatus",
]
