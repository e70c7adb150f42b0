"""A case: what is asked, and what must come back. Read from the TOML files in cases/ and scenarios/.

    [defaults]                      # of the file, for every case that does not say otherwise
    rule = "rest.predict.row"

    [[case]]
    id = "two-rows"
    post = "/v1/models/half_plus_two:predict"
    body = '{"instances": [1.0, 2.0]}'
    json = '{"predictions": [2.5, 3.0]}'

Over REST the method is a key, in lower case, and its value the target, as it goes over the wire.
    body, body_hex, body_parts ([[text, times], ...]), gzip, headers: what is sent.
    status (200), error (the text of a JSON error, to the byte), error_like (a regular expression for all of it), text
    (the body, to the byte), text_like, json (compared as values, 1 is not 1.0), answer_headers ("": it must be absent).
Over gRPC `call` is the method, "PredictionService/Predict", or a path that begins with "/".
    request (text protobuf) or request_hex; timeout, in seconds.
    code ("OK"), details, details_like, answer (text protobuf), answer_hex.
backend: "tensorflow" or "onnx" where only one can have it. with: tables; one case is made for each, with its values in
the places of $name.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = Path(__file__).parent
METHODS = ("get", "post", "head", "put", "delete", "options", "patch", "trace")

_REST = {
    *METHODS, "body", "body_hex", "body_parts", "gzip", "headers", "status", "error", "error_like", "text", "text_like",
    "json", "answer_headers",
}  # fmt: skip
_GRPC = {
    "call", "request", "request_hex", "timeout", "metadata", "code", "details", "details_like", "answer", "answer_hex"
}  # fmt: skip
KEYS = _REST | _GRPC
ASKING = {*METHODS, "call"}


@dataclass(frozen=True)
class Case:
    """One question and its answer; values: the keys above."""

    id: str
    rule: str
    backend: str
    values: Mapping[str, Any]

    @property
    def is_rest(self) -> bool:
        return "call" not in self.values

    def runs_on(self, backend: str | None) -> bool:
        """None: a server of which nobody knows what it runs models with, as TensorFlow Serving itself."""
        return self.backend in ("any", backend or "tensorflow")


@dataclass(frozen=True)
class Scenario:
    """A server of its own, and what happens to it; steps: see scenario.py.

    awaits: what keraship must have first, where it fails for want of that; "" for nothing.
    """

    id: str
    rule: str
    backend: str
    flags: tuple[str, ...]
    steps: tuple[Mapping[str, Any], ...]
    awaits: str = ""

    def runs_on(self, backend: str | None) -> bool:
        """As a case does."""
        return self.backend in ("any", backend or "tensorflow")


def read_cases() -> list[Case]:
    """All cases, of all topics."""
    return [case for path in sorted(FOLDER.glob("cases/*.toml")) for case in _cases_of(path)]


def read_scenarios() -> list[Scenario]:
    """All scenarios."""
    return [
        Scenario(
            id=f"{path.stem}.{each['id']}",
            rule=each["rule"],
            backend=each.get("backend", "any"),
            flags=tuple(each.get("flags", ())),
            steps=tuple(each["steps"]),
            awaits=each.get("awaits", ""),
        )
        for path in sorted(FOLDER.glob("scenarios/*.toml"))
        for one in tomllib.loads(path.read_text("utf-8"))["scenario"]
        for each in _each(one)
    ]


def read_rules() -> dict[str, str]:
    """Every rule's name, and what it says."""
    return dict(tomllib.loads((FOLDER / "rules.toml").read_text("utf-8")))


def make_case(name: str, values: Mapping[str, Any]) -> Case:
    """A case out of a table; raises ValueError for keys that mean nothing."""
    rest = dict(values)
    known = {key: rest.pop(key) for key in list(rest) if key in KEYS}
    case = Case(name, rest.pop("rule", ""), rest.pop("backend", "any"), known)
    if rest:
        raise ValueError(f"{name}: no case has {', '.join(rest)}")
    return case


def _cases_of(path: Path) -> Iterator[Case]:
    data = tomllib.loads(path.read_text("utf-8"))
    for one in data["case"]:
        for each in _each({**_without_asking(data.get("defaults", {}), one), **one}):
            yield make_case(f"{path.stem}.{each.pop('id')}", each)


def _without_asking(defaults: Mapping[str, Any], one: Mapping[str, Any]) -> dict[str, Any]:
    """A case that says by itself whom it asks does not ask by its file's defaults too."""
    return {key: value for key, value in defaults.items() if key not in ASKING or not ASKING & one.keys()}


def _each(one: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    one = dict(one)
    variants = one.pop("with", [])
    for number, values in enumerate(variants, 1):
        yield {**fill(one, values), "id": f"{one['id']}-{number}"}
    if not variants:
        yield one


def fill(value: Any, values: Mapping[str, Any]) -> Any:
    """`value` with every $name in its strings replaced."""
    if isinstance(value, str):
        return Template(value).safe_substitute(values)
    if isinstance(value, list):
        return [fill(each, values) for each in value]
    if isinstance(value, dict):
        return {key: fill(each, values) for key, each in value.items()}
    return value
