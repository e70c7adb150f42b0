"""`--ui`: the page for people at /ui/, its files, and its data; the models themselves it asks under /v1/, as all do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from keraship.serving import ui_data
from keraship.serving.engine import Engine
from keraship.serving.rest import Request, Response, unquoted

_FILES = Path(__file__).with_name("page")
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}

_HEADERS = {
    # Nothing but this server's own files and answers; pictures of the user's own come as blobs.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob: data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}

_VERSION = re.compile(r"/ui/models/([^/]+)/versions/(\d{1,19})\.json", re.ASCII)

Rates = Callable[[], Mapping[str, Any]]


class Ui:
    """Answers / and /ui...; rates: what of the traffic is shown, nothing without it."""

    def __init__(self, engine: Engine, rates: Rates = dict) -> None:
        self._engine = engine
        self._rates = rates
        self._files = {f"/ui/{path.name}": _read(path) for path in _FILES.iterdir() if path.suffix in _TYPES}
        self._files["/ui/"] = self._files.pop("/ui/index.html")

    def __call__(self, request: Request) -> Response | None:
        path = request.target.partition("?")[0]
        answer = self._find(path)
        if answer is not None and request.method not in ("GET", "HEAD"):
            return Response(405, b"", {"Allow": "GET, HEAD"})
        return answer() if answer is not None else None

    def _find(self, path: str) -> Callable[[], Response] | None:
        if path in ("/", "/ui"):
            return lambda: Response(302, b"", {**_HEADERS, "Location": "ui/"})  # relative: a proxy may add to the path
        if path in self._files:
            return lambda: self._files[path]
        if path == "/ui/state.json":
            return lambda: _json({**ui_data.overview(self._engine), "rates": self._rates()})
        if match := _VERSION.fullmatch(path):
            return lambda: _json(ui_data.version_in_full(self._engine, unquoted(match[1]), int(match[2])))
        return None


def _read(path: Path) -> Response:
    return Response(200, path.read_bytes(), {"Content-Type": f"{_TYPES[path.suffix]}; charset=utf-8", **_HEADERS})


def _json(value: Mapping[str, Any]) -> Response:
    return Response(200, json.dumps(value).encode(), {"Content-Type": "application/json", **_HEADERS})
