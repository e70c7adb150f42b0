"""The page that Prometheus reads: where it is, and what stands on it.

Source: tensorflow_serving/model_servers/http_server.cc, server.cc.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from keraship.serving.rest import Page, Request, Response
from keraship.serving.text_proto import read_text_proto
from keraship.wire.messages import MonitoringConfig

_DEFAULT_PATH = "/monitoring/prometheus/metrics"
_TEXT = {"Content-Type": "text/plain"}


def read_monitoring(path: str) -> str | None:
    """The page's path, out of a file that holds a MonitoringConfig as text; None where none is asked for.

    path: "" for no file. Raises what `read_text_proto` does.
    """
    if not path:
        return None
    config = read_text_proto(path, MonitoringConfig).prometheus_config
    return (config.path or _DEFAULT_PATH) if config.enable else None


def metrics_page(path: str, text: Callable[[], str]) -> Page:
    """The page at `path`, by any method; a query makes it another path, as TensorFlow Serving has it."""

    def answer(request: Request) -> Response:
        if request.target != path:
            message = f"Unexpected path: {request.target}. Should be {path}"
            return Response(HTTPStatus.BAD_REQUEST, message.encode("latin-1", "replace"), _TEXT)
        return Response(HTTPStatus.OK, text().encode(), _TEXT)

    return answer
