"""From an address and a caller's choices to what a client is made of: its core, and the transport under it."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from keraship.client.address import parse_addresses
from keraship.client.core import Core
from keraship.client.options import Compression, Headers, Options, Retry, Tls, checked_hedge
from keraship.client.tracing import Tracing

# The modules that a protocol needs; REST's are loaded by those who use it.
_LANGUAGES = {"grpc": "keraship.client.messages", "rest": "keraship.client.rest_messages"}
_TRANSPORTS = {
    ("grpc", False): ("keraship.client.channel", "GrpcTransport"),
    ("grpc", True): ("keraship.client.aio_channel", "AioGrpcTransport"),
    ("rest", False): ("keraship.client.rest_channel", "RestTransport"),
    ("rest", True): ("keraship.client.rest_channel", "AioRestTransport"),
}


@dataclass(frozen=True)
class Parts:
    """What a client is made of."""

    core: Core
    transport: Any


def connect(
    address: str | Sequence[str],
    model_name: str | None,
    *,
    asynchronous: bool,
    timeout: float,
    retry: Retry,
    hedge: float | None,
    tls: Tls | bool | None,
    headers: Headers | None,
    compression: Compression | None,
    interceptors: Sequence[Any],
    tracer: Any,
) -> Parts:
    """The parts of a client; nothing is connected before the first call. Raises ValueError for what makes no sense."""
    addresses = parse_addresses(address)
    protocol = addresses[0].protocol
    if protocol == "rest" and interceptors:
        raise ValueError("expected interceptors with a gRPC address; they are gRPC's, and this client asks over REST")
    options = Options(
        tls=_tls(tls, wanted=addresses[0].tls), headers=headers, compression=compression, interceptors=interceptors
    )
    core = Core(
        addresses,
        language=_language(protocol),
        model_name=model_name,
        timeout=timeout,
        retry=retry,
        hedge=checked_hedge(hedge),
        tracing=None if tracer is None or tracer is False else Tracing(tracer),
    )
    module, name = _TRANSPORTS[protocol, asynchronous]
    return Parts(core, getattr(importlib.import_module(module), name)(addresses, options))


def _language(protocol: str) -> ModuleType:
    return importlib.import_module(_LANGUAGES[protocol])


def _tls(tls: Tls | bool | None, *, wanted: bool) -> Tls | None:
    if isinstance(tls, Tls):
        return tls
    if tls is False and wanted:
        raise ValueError("expected tls with an address of https:// or grpcs://; got tls=False")
    return Tls() if tls or wanted else None
