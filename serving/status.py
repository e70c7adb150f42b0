"""How a StatusError is called over HTTP and over gRPC: one table."""

from __future__ import annotations

from dataclasses import dataclass

from keraship.errors import StatusError


@dataclass(frozen=True)
class Code:
    """One canonical code: its number in gRPC and in TensorFlow's error.Code, and its HTTP status."""

    number: int
    http: int


CODES = {
    "OK": Code(0, 200),
    "CANCELLED": Code(1, 499),
    "UNKNOWN": Code(2, 500),
    "INVALID_ARGUMENT": Code(3, 400),
    "DEADLINE_EXCEEDED": Code(4, 504),
    "NOT_FOUND": Code(5, 404),
    "ALREADY_EXISTS": Code(6, 409),
    "PERMISSION_DENIED": Code(7, 403),
    "RESOURCE_EXHAUSTED": Code(8, 429),
    "FAILED_PRECONDITION": Code(9, 400),
    "ABORTED": Code(10, 409),
    "OUT_OF_RANGE": Code(11, 400),
    "UNIMPLEMENTED": Code(12, 501),
    "INTERNAL": Code(13, 500),
    "UNAVAILABLE": Code(14, 503),
    "DATA_LOSS": Code(15, 500),
    "UNAUTHENTICATED": Code(16, 401),
}

NAMES = {code.number: name for name, code in CODES.items()}

_GRPC_LIMIT = 1024


def text(error: StatusError) -> str:
    """An error as logs and wrapped messages write it: `NOT_FOUND: Could not find ...`."""
    return f"{error.code}: {error.details}"


def grpc_details(details: str) -> str:
    """A message as TensorFlow Serving puts it on the wire: of at most 1024 bytes, and a mark where it was cut."""
    raw = details.encode("utf-8", "replace")
    if len(raw) <= _GRPC_LIMIT:
        return raw.decode()
    return raw[:_GRPC_LIMIT].decode("utf-8", "ignore") + "...TRUNCATED"
