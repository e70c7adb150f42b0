"""/livez and /readyz: whether the process is to be restarted, and whether it is to be asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

from keraship.serving.rest import Page, Request, Response
from keraship.serving.servable import State, VersionStatus
from keraship.serving.status import text

Statuses = Mapping[str, Sequence[VersionStatus]]


def health_page(models: Callable[[], Statuses], ending: Callable[[], bool]) -> Page:
    """A page of both paths.

    /livez is 200 as long as anything is answered. /readyz is 200 while every model has a version that can be asked and
    the server is not about to end, else 503; {"ready": false, "reasons": [...]} says why.
    """

    def page(request: Request) -> Response | None:
        path = request.target.partition("?")[0]
        if path == "/livez":
            return Response(200, b'{"live": true}')
        if path != "/readyz":
            return None
        reasons = _reasons(models(), ending())
        body = json.dumps({"ready": not reasons, **({"reasons": reasons} if reasons else {})})
        return Response(503 if reasons else 200, body.encode())

    return page


def _reasons(models: Statuses, ending: bool) -> list[str]:
    waiting = [
        f"model {name} has no version that can be asked{_why(versions)}"
        for name, versions in models.items()
        if not any(version.state is State.AVAILABLE for version in versions)
    ]
    return ["the server is ending", *waiting] if ending else waiting


def _why(versions: Sequence[VersionStatus]) -> str:
    failed = [f"version {each.version}: {text(each.error)}" for each in versions if each.error is not None]
    return f" ({'; '.join(failed)})" if failed else ""
