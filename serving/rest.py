"""TensorFlow Serving's REST API: a request to an answer, behind Flask and, for predictions, ahead of it.

Which path means what is tensorflow_serving/model_servers/http_server.cc's: the path is matched together with its
query, as it was sent. Flask answers everything but predictions, whose way through its dispatch would cost ten times
what the model does; both ways lead to the same `RestApi.handle`.
"""

from __future__ import annotations

import json
import logging
import re
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote_to_bytes

from google.protobuf import json_format

from keraship.errors import Internal, InvalidArgument, StatusError
from keraship.serving.backend import Array
from keraship.serving.classify import Classified
from keraship.serving.engine import Engine, ModelSpec
from keraship.serving.examples import ExamplesCall
from keraship.serving.grpc_methods import status_response
from keraship.serving.json_text import quote, to_bytes
from keraship.serving.prediction import PredictCall
from keraship.serving.regress import Regressed
from keraship.serving.request_log import RequestLog
from keraship.serving.request_metrics import count_request
from keraship.serving.rest_answer import write_response
from keraship.serving.rest_examples import read_examples, write_classes, write_values
from keraship.serving.rest_json import read_inputs, read_request
from keraship.serving.servable import VersionStatus
from keraship.serving.status import CODES
from keraship.signature import Signature

_LOG = logging.getLogger(__name__)

_VERSION = r"(?:/versions/(\d+)|/labels/([^/:]+))?"
_POST = re.compile(rf"/v1/models/([^/:]+){_VERSION}:(classify|regress|predict)", re.IGNORECASE | re.ASCII)
_GET = re.compile(rf"/v1/models(?:/([^/:]+))?{_VERSION}(?:/(metadata))?", re.IGNORECASE | re.ASCII)
_API = re.compile(r"/v1/", re.IGNORECASE)
_ORIGIN = re.compile(r"https?://")

# Those that libevent's server lets pass.
_METHODS = ("GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH")

_JSON = {"Content-Type": "application/json"}
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}
_MAX_INFLATED = 100 * 2**20
_INT64_MAX = 2**63 - 1


@dataclass(frozen=True)
class RestOptions:
    """timeout: seconds that a prediction may take; None for ever. cors: whether pages of other sites may ask.

    list_models: whether GET /v1/models lists the models.
    """

    timeout: float | None = 30
    cors: bool = False
    list_models: bool = False


@dataclass(frozen=True)
class Request:
    """What came. target: path and query as they were sent. headers: names in lower case."""

    method: str
    target: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Response:
    """What goes back. code: the status code's name, of which an HTTP status stands for several."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=lambda: _JSON)
    code: str = "OK"


_WITHOUT_BODY = Response(400, code="INVALID_ARGUMENT")  # TensorFlow Serving forgets it where a version is no int64

Page = Callable[[Request], "Response | None"]
"""Answers paths outside of /v1/; None for those that are not its own."""


class RestApi:
    """The answers of an engine, over HTTP; beside them pages, of which the first that knows a path answers it.

    placed: pages by their paths, without a query; they come before all else, by whatever method.
    log: is shown what was answered.
    """

    def __init__(
        self,
        engine: Engine,
        options: RestOptions | None = None,
        pages: Sequence[Page] = (),
        placed: Mapping[str, Page] | None = None,
        log: RequestLog | None = None,
    ) -> None:
        self._log = log
        self._engine = engine
        self._options = options or RestOptions()
        self._pages = tuple(pages)
        self._placed = dict(placed or {})

    def handle(self, request: Request) -> Response:
        """Answer one request; never raises: what nobody foresaw is 500 "internal", and in full in the log."""
        if request.method not in _METHODS:
            return _html_error(HTTPStatus.NOT_IMPLEMENTED)
        page = self._placed.get(request.target.partition("?")[0])
        if page is None and _API.match(request.target):
            return self._api(request)
        return self._guard(request, page or self._page)

    def _api(self, request: Request) -> Response:
        begin = time.perf_counter()
        match = _match(request)
        response = self._guard(request, lambda request: self._route(request, match))
        model, verb = ("", "") if match is None else (unquoted(match[1] or ""), match[4] if match.re is _POST else "")
        spent = time.perf_counter() - begin
        count_request(model, response.code, api=verb, entrypoint="REST", seconds=spent)
        if not self._options.cors:
            return response
        return replace(response, headers={**response.headers, **_CORS})

    def _guard(self, request: Request, answer: Page) -> Response:
        try:
            return answer(request) or _html_error(HTTPStatus.NOT_FOUND)
        except StatusError as error:
            return _json_error(error)
        except Exception:
            _LOG.exception("%s %s failed in a way that nobody foresaw", request.method, request.target)
            return _json_error(Internal("internal"))

    def _page(self, request: Request) -> Response | None:
        answers = (page(request) for page in self._pages)
        return next((answer for answer in answers if answer is not None), None)

    def _route(self, request: Request, match: re.Match[str] | None) -> Response:
        if request.method == "OPTIONS":
            if _ORIGIN.search(request.headers.get("origin", "")):
                return Response(200, headers={})
            return Response(400, headers={}, code="FAILED_PRECONDITION")
        if match is None:
            raise _malformed(request)
        return self._post(request, match) if match.re is _POST else self._get(match)

    def _post(self, request: Request, match: re.Match[str]) -> Response:
        name, version, label, verb = match.groups()
        spec = _spec(name, version, label)
        if spec is None:
            return _WITHOUT_BODY
        if verb not in _VERBS:
            raise _malformed(request)
        return _VERBS[verb](self, spec, _inflated(request))

    def _predict(self, spec: ModelSpec, body: bytes) -> Response:
        asked = read_request(body)
        inputs: dict[str, Array] = {}

        def make_call(signatures: Mapping[str, Signature]) -> PredictCall:
            inputs.update(read_inputs(asked, signatures))
            return PredictCall(
                inputs=inputs,
                read=lambda array: array,
                signature_name=asked.signature_name,
                timeout=self._options.timeout,
            )

        prediction = self._engine.predict_by(spec, make_call)
        response = Response(200, write_response(prediction.outputs, by_row=asked.by_row))
        if self._log is not None:
            self._log.offer_prediction(prediction, inputs)
        return response

    def _classify(self, spec: ModelSpec, body: bytes) -> Response:
        call = self._examples(body)
        found = self._engine.classify(spec, call)
        return self._logged("classify_log", found, call, Response(200, write_classes(found.classes)))

    def _regress(self, spec: ModelSpec, body: bytes) -> Response:
        call = self._examples(body)
        found = self._engine.regress(spec, call)
        return self._logged("regress_log", found, call, Response(200, write_values(found.values)))

    def _logged(self, field: str, found: Classified | Regressed, call: ExamplesCall, response: Response) -> Response:
        if self._log is not None:
            self._log.offer_examples(field, found, call.examples)
        return response

    def _examples(self, body: bytes) -> ExamplesCall:
        asked = read_examples(body)
        return ExamplesCall(asked.examples, asked.signature_name, timeout=self._options.timeout)

    def _get(self, match: re.Match[str]) -> Response:
        name, version, label, verb = match.groups()
        if not name and self._options.list_models:
            return Response(200, json.dumps({"models": _listed(self._engine.models())}).encode())
        if not name:
            raise InvalidArgument("Missing model name in request.")
        spec = _spec(name, version, label)
        if spec is None:
            return _WITHOUT_BODY
        return Response(200, to_bytes(self._metadata(spec) if verb == "metadata" else self._status(spec)))

    def _status(self, spec: ModelSpec) -> str:
        return _to_json(status_response(self._engine.status(spec))) + "\n"

    def _metadata(self, spec: ModelSpec) -> str:
        found = self._engine.metadata(spec)
        model = quote(found.model)
        return (
            f'{{\n"model_spec":{{\n "name": {model},\n "signature_name": "",\n "version": "{found.version}"\n}}\n,\n'
            f'"metadata": {{"signature_def": {_to_json(found.signature_defs)}\n}}\n}}\n'
        )


# What can be asked of a model by POST.
_VERBS: dict[str, Callable[[RestApi, ModelSpec, bytes], Response]] = {
    "predict": RestApi._predict,
    "classify": RestApi._classify,
    "regress": RestApi._regress,
}


def _listed(models: Mapping[str, Sequence[VersionStatus]]) -> list[dict[str, Any]]:
    return [
        {"name": name, "versions": [{"version": str(each.version), "state": each.state.name} for each in versions]}
        for name, versions in models.items()
    ]


def wsgi_app(api: RestApi) -> Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]:
    """The API as a WSGI application."""
    from flask import Flask
    from flask import Response as FlaskResponse
    from flask import request as flask_request

    flask = Flask("keraship.serving", static_folder=None)
    flask.url_map.merge_slashes = False

    def view(path: str) -> FlaskResponse:
        response = api.handle(_read_environ(flask_request.environ, path))
        answer = FlaskResponse(response.body, status=_status_line(response.status))
        answer.headers.clear()
        answer.headers.extend(_headers(response))
        return answer

    for rule, defaults in (("/", {"path": ""}), ("/<path:path>", None)):
        flask.add_url_rule(rule, view_func=view, defaults=defaults, methods=_METHODS, provide_automatic_options=False)
    flask.register_error_handler(404, lambda _: view(""))  # a path with a line break fits no rule of Flask's

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in _METHODS and not _is_prediction(environ):
            return flask(environ, start_response)
        response = api.handle(_read_environ(environ, environ.get("PATH_INFO", "")))
        start_response(_status_line(response.status), _headers(response))
        return [response.body]

    return app


def _is_prediction(environ: Mapping[str, Any]) -> bool:
    return environ["REQUEST_METHOD"] == "POST" and _POST.fullmatch(environ.get("REQUEST_URI", "")) is not None


def _read_environ(environ: Mapping[str, Any], path: str) -> Request:
    return Request(
        method=environ["REQUEST_METHOD"],
        target=environ.get("REQUEST_URI") or f"/{path.lstrip('/')}",
        body=environ["wsgi.input"].read(),
        headers={
            "origin": environ.get("HTTP_ORIGIN", ""),
            "content-encoding": environ.get("HTTP_CONTENT_ENCODING", ""),
        },
    )


def _headers(response: Response) -> list[tuple[str, str]]:
    return [*response.headers.items(), ("Content-Length", str(len(response.body)))]


def _status_line(status: int) -> str:
    phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Client Closed Request"
    return f"{status} {phrase}"


def _spec(name: str, version: str | None, label: str | None) -> ModelSpec | None:
    """The model that a path names; None where it cannot be read."""
    if version is not None and (len(version.lstrip("0")) > 19 or int(version) > _INT64_MAX):
        return None
    return ModelSpec(
        unquoted(name),
        version=None if version is None else int(version),
        label=None if label is None else unquoted(label),
    )


def unquoted(text: str) -> str:
    """Percent-encoded text as it was meant."""
    return unquote_to_bytes(text).decode("utf-8", "replace")


def _inflated(request: Request) -> bytes:
    """The body, unpacked where it is packed; what cannot be unpacked counts as empty, as in TensorFlow Serving."""
    if "gzip" not in request.headers.get("content-encoding", ""):
        return request.body
    unpack = zlib.decompressobj(wbits=31)  # 31: gzip's header
    try:
        body = unpack.decompress(request.body, _MAX_INFLATED)
    except zlib.error:
        return b""
    return b"" if unpack.unconsumed_tail or not unpack.eof else body


def _to_json(message: Any) -> str:
    settings: dict[str, Any] = {"preserving_proto_field_name": True, "indent": 1, _ALL_FIELDS: True}
    return json_format.MessageToJson(message, **settings)


def _find_all_fields_setting() -> str:
    """protobuf renamed it in 5.26."""
    known = json_format.MessageToJson.__code__.co_varnames
    new = "always_print_fields_with_no_presence"
    return new if new in known else "including_default_value_fields"


_ALL_FIELDS = _find_all_fields_setting()


def _json_error(error: StatusError) -> Response:
    body = to_bytes(f'{{\n    "error": {quote(error.details)}\n}}')
    return Response(CODES[error.code].http, body, code=error.code)


def _match(request: Request) -> re.Match[str] | None:
    """What the path says; None where it says nothing that goes with the method."""
    pattern = {"POST": _POST, "GET": _GET}.get(request.method)
    return None if pattern is None else pattern.fullmatch(request.target)


def _malformed(request: Request) -> InvalidArgument:
    return InvalidArgument(f"Malformed request: {request.method} {request.target}")


def _html_error(status: HTTPStatus) -> Response:
    """libevent's page."""
    page = (
        f"<HTML><HEAD>\n<TITLE>{status.value} {status.phrase}</TITLE>\n</HEAD><BODY>\n"
        f"<H1>{status.phrase}</H1>\n</BODY></HTML>\n"
    )
    return Response(status.value, page.encode(), {"Content-Type": "text/html"})
