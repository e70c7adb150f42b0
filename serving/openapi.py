"""/openapi.json: the REST API of the models that are loaded, as an OpenAPI 3.1 document made when it is asked for.

Each version has typed operations of its own; those with {model} are for whatever is loaded later. tests/serving/
test_openapi.py has schemathesis try the document against the server.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from keraship import __version__
from keraship.errors import NotFound
from keraship.serving.engine import Description, Engine, ModelSpec
from keraship.serving.openapi_schemas import BASE64, Schema, predict_example, predict_request, predict_response
from keraship.serving.rest import Request, Response
from keraship.serving.servable import State
from keraship.serving.status import CODES

_PATH = "/openapi.json"
_INT64_MAX = 2**63 - 1

# What may go wrong, and with which status; gRPC's other codes come from no model that we know.
_ERRORS = (
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "RESOURCE_EXHAUSTED",
    "INTERNAL",
    "UNIMPLEMENTED",
    "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
)

_JSON_TYPE = "application/json"


class OpenApi:
    """Answers /openapi.json; base: the server's address in the examples for curl."""

    def __init__(self, engine: Engine, base: str) -> None:
        self._engine = engine
        self._base = base

    def __call__(self, request: Request) -> Response | None:
        if request.target.partition("?")[0] != _PATH:
            return None
        if request.method not in ("GET", "HEAD"):
            return Response(405, b"", {"Allow": "GET, HEAD"})
        return Response(200, json.dumps(document(self._engine, self._base)).encode())


def document(engine: Engine, base: str) -> dict[str, Any]:
    """The description of the API as it is now."""
    paths: dict[str, Any] = {}
    schemas: dict[str, Schema] = dict(_COMMON)
    names = _Names()
    for route in _routes(engine):
        paths |= _paths_of(route, names, schemas, base)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Models served under TensorFlow Serving's REST API",
            "version": __version__,
            "description": "Made from the signatures of the models that are loaded. A query after a path makes it "
            "another path, and methods that are not listed are malformed requests: 400.",
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": schemas, "responses": {code: _error_response(code) for code in _ERRORS}},
    }


# Which paths there are.


@dataclass(frozen=True)
class _Route:
    """A model's path: /v1/models/NAME with or without a version. found: the version that it leads to, if one does."""

    path: str
    title: str
    found: Description | None
    parameters: tuple[dict[str, Any], ...] = ()

    @property
    def has_open_version(self) -> bool:
        return "{version}" in self.path


def _routes(engine: Engine) -> Iterator[_Route]:
    for name, statuses in sorted(engine.models().items()):
        loaded = [status.version for status in statuses if status.state is State.AVAILABLE]
        path = f"/v1/models/{quote(name, safe='')}"
        yield _Route(path, name, _describe(engine, name, None))
        for version in loaded:
            yield _Route(f"{path}/versions/{version}", f"{name} {version}", _describe(engine, name, version))
    yield _Route("/v1/models/{model}", "any model", None, (_MODEL,))
    yield _Route("/v1/models/{model}/versions/{version}", "any version", None, (_MODEL, _VERSION))


def _describe(engine: Engine, name: str, version: int | None) -> Description | None:
    try:
        return engine.describe(ModelSpec(name, version))
    except NotFound:  # unloaded meanwhile, or not loaded yet
        return None


_MODEL = {
    "name": "model",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[^/:]+$", "minLength": 1},
}
_VERSION = {
    "name": "version",
    "in": "path",
    "required": True,
    "schema": {"type": "integer", "minimum": 0, "maximum": _INT64_MAX},
}


def _paths_of(route: _Route, names: _Names, schemas: dict[str, Schema], base: str) -> dict[str, Any]:
    common = {"parameters": list(route.parameters)} if route.parameters else {}
    name, read = names.of(route.title), f"of {route.title}"
    paths = {
        route.path: {
            **common,
            "get": _operation(f"status_{name}", f"The versions {read} and their states", route, _ref("Status")),
        },
        f"{route.path}/metadata": {
            **common,
            "get": _operation(f"metadata_{name}", f"The signatures {read}", route, _ref("Metadata")),
        },
    }
    if route.found is None:
        bodies = {
            "predict": (_ref("AnyRequest"), _ref("AnyPrediction")),
            "classify": (_ref("ExamplesRequest"), _ref("Classifications")),
            "regress": (_ref("ExamplesRequest"), _ref("Regressions")),
        }
    else:
        bodies = _typed(route.found, name, schemas)
    for verb, (asked, answered) in bodies.items():
        operation = _operation(f"{verb}_{name}", f"Ask {route.title} to {verb}", route, answered)
        example = predict_example(route.found.signatures) if route.found else None
        operation["requestBody"] = {"required": True, "content": {_JSON_TYPE: _content(asked, example)}}
        if example is not None:
            operation["x-codeSamples"] = [{"lang": "curl", "source": _curl(base + route.path, verb, example)}]
        paths[f"{route.path}:{verb}"] = {**common, "post": operation}
    return paths


def _typed(found: Description, name: str, schemas: dict[str, Schema]) -> dict[str, tuple[Schema, Schema]]:
    asked = predict_request(found.signatures)
    if asked is None:
        return {}
    schemas[f"Request_{name}"] = asked
    schemas[f"Prediction_{name}"] = predict_response(found.signatures)
    return {"predict": (_ref(f"Request_{name}"), _ref(f"Prediction_{name}"))}


def _operation(name: str, summary: str, route: _Route, answered: Schema) -> dict[str, Any]:
    responses = {"200": {"description": "The answer", "content": {_JSON_TYPE: {"schema": answered}}}}
    return {
        "operationId": name,
        "summary": summary,
        "tags": [route.title.partition(" ")[0] if route.found else "any"],
        "responses": {**responses, **_error_responses(route)},
    }


def _error_responses(route: _Route) -> dict[str, Any]:
    made: dict[str, Any] = {str(CODES[code].http): {"$ref": f"#/components/responses/{code}"} for code in _ERRORS}
    if route.has_open_version:
        made["400"] = {
            "description": "INVALID_ARGUMENT. For a version beyond 64 bits TensorFlow Serving forgets the body.",
            "content": {_JSON_TYPE: {}},
        }
    return made


def _error_response(code: str) -> dict[str, Any]:
    return {"description": code, "content": {_JSON_TYPE: {"schema": _ref("Error")}}}


def _content(schema: Schema, example: Any) -> dict[str, Any]:
    return {"schema": schema} if example is None else {"schema": schema, "example": example}


def _curl(address: str, verb: str, body: Any) -> str:
    return f"curl --data-raw {shlex.quote(json.dumps(body))} {shlex.quote(f'{address}:{verb}')}"


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


class _Names:
    """Names for operations and schemas that no two routes share, of letters, digits and _."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def of(self, title: str) -> str:
        plain = re.sub(r"[^A-Za-z0-9]+", "_", title).strip("_") or "model"
        name, number = plain, 2
        while name in self._taken:
            name, number = f"{plain}_{number}", number + 1
        self._taken.add(name)
        return name


# The schemas that all models share.


def _members(required: Mapping[str, Schema], **optional: Schema) -> Schema:
    return {"type": "object", "required": list(required), "properties": {**required, **optional}}


_TEXT: Schema = {"type": "string"}
_ERROR_CODE: Schema = {"type": "string", "enum": list(CODES)}
# A feature's values are of one kind; TensorFlow Serving tells floats from integers by their point.
_KINDS: tuple[Schema, ...] = (
    {"type": "integer", "minimum": -(2**63), "maximum": _INT64_MAX},
    {"type": "boolean"},
    {"anyOf": [_TEXT, BASE64]},
)
_EXAMPLE: Schema = {
    "type": "object",
    "description": "Features: a scalar or a flat list each, of one kind; floats with a point.",
    "additionalProperties": {
        "anyOf": [*_KINDS, {"type": "number"}, *({"type": "array", "items": each} for each in _KINDS)]
    },
}

_COMMON: dict[str, Schema] = {
    "Error": _members({"error": _TEXT}),
    "Status": _members(
        {
            "model_version_status": {
                "type": "array",
                "items": _members(
                    {
                        "version": {"type": "string", "pattern": "^-?[0-9]+$"},
                        "state": {
                            "type": "string",
                            "enum": ["UNKNOWN", "START", "LOADING", "AVAILABLE", "UNLOADING", "END"],
                        },
                        "status": _members({"error_code": _ERROR_CODE, "error_message": _TEXT}),
                    }
                ),
            }
        }
    ),
    "Metadata": _members(
        {
            "model_spec": _members({"name": _TEXT, "signature_name": _TEXT, "version": _TEXT}),
            "metadata": _members({"signature_def": {"type": "object"}}),
        }
    ),
    "AnyRequest": {
        "anyOf": [
            {
                **_members({"instances": {"type": "array", "minItems": 1}}, signature_name=_TEXT),
                "not": {"required": ["inputs"]},
            },
            {**_members({"inputs": {}}, signature_name=_TEXT), "not": {"required": ["instances"]}},
        ]
    },
    "AnyPrediction": {"anyOf": [_members({"predictions": {"type": "array"}}), _members({"outputs": {}})]},
    "ExamplesRequest": _members(
        {"examples": {"type": "array", "minItems": 1, "items": _EXAMPLE}}, context=_EXAMPLE, signature_name=_TEXT
    ),
    "Classifications": _members(
        {
            "results": {
                "type": "array",
                "items": {
                    "type": "array",
                    "items": {
                        "type": "array",
                        "minItems": 2,
                        "maxItems": 2,
                        "prefixItems": [_TEXT, {"type": "number"}],
                    },
                },
            }
        }
    ),
    "Regressions": _members({"results": {"type": "array", "items": {"type": "number"}}}),
}  # fmt: skip
