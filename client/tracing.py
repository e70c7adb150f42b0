"""OpenTelemetry's spans, for clients that are given a tracer: one for each call, over all its attempts.

Names and attributes follow its semantic conventions for RPC; the header traceparent tells the server of the trace.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from keraship.client.steps import Call
from keraship.errors import StatusError
from keraship.extras import require


def NO_SPAN(_code: str, _number: int) -> None:  # noqa: N802  # the event of a call that nobody traces
    """Do nothing."""


class Tracing:
    """Spans of one tracer; True for the one that is set up for the process. Raises MissingExtra where it is absent."""

    def __init__(self, tracer: Any) -> None:
        require("tracing", "opentelemetry")
        from opentelemetry import trace

        self._tracer = trace.get_tracer("keraship.client") if tracer is True else tracer

    @contextmanager
    def span(self, call: Call, address: str) -> Iterator[Span]:
        """A span for as long as the block runs; errors that leave it are recorded."""
        from opentelemetry.trace import SpanKind, StatusCode

        service, _, name = call.method.lstrip("/").rpartition("/")
        attributes = {
            "rpc.system": "grpc" if not call.path else "http",
            "rpc.service": service,
            "rpc.method": name,
            "server.address": address,
            "keraship.model": call.model,
            "keraship.request_bytes": len(call.body),
        }
        span = self._tracer.start_span(f"{service}/{name}", kind=SpanKind.CLIENT, attributes=attributes)
        try:
            yield Span(span)
        except StatusError as error:
            span.set_attribute("rpc.response.status_code", error.code)
            span.set_attribute("keraship.attempts", error.attempts)
            span.set_status(StatusCode.ERROR, str(error))
            raise
        finally:
            span.end()


class Span:
    """One call's span."""

    def __init__(self, span: Any) -> None:
        self._span = span

    def headers(self) -> tuple[tuple[str, str], ...]:
        """What tells the server which trace it is part of."""
        from opentelemetry import propagate, trace

        carrier: dict[str, str] = {}
        propagate.inject(carrier, trace.set_span_in_context(self._span))
        return tuple((name.lower(), value) for name, value in carrier.items())

    def event(self, code: str, number: int) -> None:
        """An attempt that failed, and is followed by another."""
        self._span.add_event("retry", {"rpc.response.status_code": code, "keraship.attempt": number})
