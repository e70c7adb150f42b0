"""Ask a running server: numpy arrays in, numpy arrays out, over TensorFlow Serving's gRPC API.

    from keraship.client import Client

    with Client("localhost:8500", "digits") as client:
        scores = client.predict({"images": batch}).array

It speaks to TensorFlow Serving, to `keraship serve` and to whatever else speaks that API, and needs no TensorFlow.
`messages` builds and reads what goes over the wire, `channel` carries it, `client` is the thin shell over both.
"""

from keraship.client.client import Client
from keraship.client.messages import Metadata, ModelSpec, Prediction, VersionStatus
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
    "Aborted",
    "AlreadyExists",
    "Cancelled",
    "Client",
    "DataLoss",
    "DeadlineExceeded",
    "FailedPrecondition",
    "Internal",
    "InvalidArgument",
    "InvalidInput",
    "KerashipError",
    "Metadata",
    "ModelSpec",
    "NotFound",
    "OutOfRange",
    "PermissionDenied",
    "Prediction",
    "ResourceExhausted",
    "StatusError",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Unknown",
    "VersionStatus",
]
