"""What went wrong on the way to a server and back, in words that help."""

from __future__ import annotations

import re
from typing import Any

from keraship.errors import BY_CODE, StatusError

# What gRPC reports, and what it means to someone who wants a prediction. The first that is found says it.
_UNREACHABLE = (
    (
        r"Failed parsing HTTP/2|http1\.x server",
        "what answers at {address} does not speak gRPC: is that the REST port? Servers usually have gRPC on port 8500; "
        "http://... asks over REST",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|[Ss]sl handshake|SSL_ERROR|TLS handshake|Ssl handshaker|Peer name",
        "no encrypted connection can be made to {address}: check tls=Tls(ca=..., server_name=...), and whether the "
        "server has TLS at all ({details})",
    ),
    (
        r"Connection refused|No such file or directory|Connection reset|Socket closed|[Nn]etwork is unreachable"
        r"|No route to host|failed to connect|Broken pipe|recvmsg|closed the connection",
        "no server answers at {address} ({reason}): is it running, and is this its {protocol} port (usually {port})?",
    ),
    (
        r"errors resolving|DNS resolution failed|[Nn]ame resolution|Name or service not known|nodename nor servname"
        r"|Temporary failure in name|No address associated",
        "expected the address of a server; no host is known by the name in {address}",
    ),
)
_REASONS = re.compile(
    r"Connection refused|No such file or directory|Connection reset|Socket closed|[Nn]etwork is unreachable"
    r"|No route to host|Broken pipe|closed the connection"
)

# A connection that breaks under a call is told in several codes.
_BROKEN = re.compile(r"Stream removed|RST_STREAM|Connection reset|Socket closed|GOAWAY|Broken pipe|Transport closed")
_BROKEN_CODES = ("UNKNOWN", "INTERNAL", "CANCELLED")

_PORTS = {"gRPC": 8500, "REST": 8501}


def failure(code: str, details: str, *, address: str, method: str, protocol: str = "gRPC") -> StatusError:
    """The error for a status that came: the class of its code, and a sentence."""
    if code in _BROKEN_CODES and _BROKEN.search(details):
        code = "UNAVAILABLE"
    message = _explain(code, details, address, method, protocol)
    return BY_CODE.get(code, BY_CODE["UNKNOWN"])(details, attempts=1, message=message)


def grpc_failure(error: Any, *, address: str, method: str) -> StatusError:
    """The same for a gRPC error."""
    return failure(error.code().name, error.details() or "", address=address, method=method)


def _explain(code: str, details: str, address: str, method: str, protocol: str) -> str:
    if code == "UNAVAILABLE":
        for pattern, sentence in _UNREACHABLE:
            if re.search(pattern, details):
                found = _REASONS.search(details)
                reason = found[0].lower() if found else details
                return sentence.format(
                    address=address, reason=reason, details=details, protocol=protocol, port=_PORTS[protocol]
                )
    name = method.rpartition("/")[2]
    if code == "DEADLINE_EXCEEDED":
        return f"{address} did not answer {name} within the time given: {details}"
    return f"{address} answered {name} with {code}: {details}"
