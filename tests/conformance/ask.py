"""Asks a server what a case says, over HTTP or gRPC."""

from __future__ import annotations

import gzip
import http.client
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

import grpc
from google.protobuf import text_format

from keraship.wire.messages import METHODS, PredictRequest

from .case import METHODS as HTTP_METHODS
from .case import Case

_SECONDS = 60
POOL = PredictRequest.DESCRIPTOR.file.pool


@dataclass(frozen=True)
class Answer:
    """What came back: of REST status, headers (names in lower case) and body; of gRPC code, details and body."""

    status: int | str
    body: bytes = b""
    details: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Server:
    """Where a server is: rest as http://host:port, grpc as host:port."""

    rest: str | None
    grpc: str | None

    def answers(self, case: Case) -> bool:
        """Whether it can be asked at all."""
        return (self.rest if case.is_rest else self.grpc) is not None

    def ask(self, case: Case) -> Answer:
        """Ask it; raises OSError where nobody is there."""
        return self._ask_rest(case.values) if case.is_rest else self._ask_grpc(case.values)

    def close(self) -> None:
        if "_channel" in self.__dict__:
            self._channel.close()

    def _ask_rest(self, values: Mapping[str, Any]) -> Answer:
        address = urlsplit(self.rest or "")
        (method,) = (each for each in HTTP_METHODS if each in values)
        body = _body(values)
        headers = dict(values.get("headers", {}))
        if values.get("gzip"):
            body, headers["Content-Encoding"] = gzip.compress(body or b""), "gzip"
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=_SECONDS)
        try:
            connection.request(method.upper(), values[method], body, headers)
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, response.read(), headers=names)
        except http.client.HTTPException as error:
            raise OSError(f"no HTTP: {error!r}") from error
        finally:
            connection.close()

    def _ask_grpc(self, values: Mapping[str, Any]) -> Answer:
        path = full_path(values["call"])
        request = bytes.fromhex(values.get("request_hex", ""))
        if "request" in values:
            request = read_text(METHODS[path][0], values["request"]).SerializeToString()
        try:
            body = self._channel.unary_unary(path)(
                request, timeout=values.get("timeout", _SECONDS), metadata=list(values.get("metadata", {}).items())
            )
        except grpc.RpcError as error:
            return Answer(error.code().name, details=error.details() or "")
        return Answer("OK", body)

    @cached_property
    def _channel(self) -> Any:
        return grpc.insecure_channel(
            self.grpc or "", [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
        )


def full_path(call: str) -> str:
    """A method's path."""
    return call if call.startswith("/") else f"/tensorflow.serving.{call}"


def read_text(kind: Any, text: str) -> Any:
    """A message out of text protobuf."""
    return text_format.Parse(text, kind(), descriptor_pool=POOL)


def _body(values: Mapping[str, Any]) -> bytes | None:
    if "body_hex" in values:
        return bytes.fromhex(values["body_hex"])
    if "body_parts" in values:
        return "".join(text * times for text, times in values["body_parts"]).encode()
    body = values.get("body")
    return None if body is None else body.encode()
