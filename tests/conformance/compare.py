"""What an answer should have been, and how it differs."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf import text_format

from keraship.wire.messages import METHODS

from .ask import POOL, Answer, full_path, read_text
from .case import Case

_LONG = 2000


def differences(case: Case, answer: Answer) -> list[str]:
    """Every way in which the answer is not what the case says; empty where it is."""
    return list(_rest(case.values, answer) if case.is_rest else _grpc(case.values, answer))


def _rest(values: Mapping[str, Any], answer: Answer) -> Iterator[str]:
    if answer.status != values.get("status", 200):
        yield f"expected status {values.get('status', 200)}, got {answer.status}"
    text = answer.body.decode("utf-8", "backslashreplace")
    if "error" in values:
        yield from _text("body", _error_body(values["error"]), text)
    if "error_like" in values:
        yield from _like("error", values["error_like"], _error_of(text))
    if "text" in values:
        yield from _text("body", values["text"], text)
    if "text_like" in values:
        yield from _like("body", values["text_like"], text)
    if "json" in values:
        yield from _json(values["json"], text)
    for name, value in values.get("answer_headers", {}).items():
        if answer.headers.get(name.lower(), "") != value:
            yield f"expected header {name}: {value or '(absent)'}, got {answer.headers.get(name.lower(), '(absent)')}"


def _grpc(values: Mapping[str, Any], answer: Answer) -> Iterator[str]:
    code = values.get("code", "OK")
    if answer.status != code:
        yield f"expected {code}, got {answer.status} {answer.details}"
        return
    if "details" in values:
        yield from _text("details", values["details"], answer.details)
    if "details_like" in values:
        yield from _like("details", values["details_like"], answer.details)
    if "answer_hex" in values and answer.body.hex() != values["answer_hex"]:
        yield f"expected the bytes {values['answer_hex']}, got {answer.body.hex()}"
    if "answer" in values:
        kind = METHODS[full_path(values["call"])][1]
        expected = read_text(kind, values["answer"])
        yield from _text("answer", _show(expected), _show(kind.FromString(answer.body)))


def _show(message: Any) -> str:
    return str(text_format.MessageToString(message, descriptor_pool=POOL))


def _error_body(error: str) -> str:
    escaped = json.dumps(error, ensure_ascii=False)
    return f'{{\n    "error": {escaped}\n}}'


def _error_of(text: str) -> str:
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return text


def _like(what: str, pattern: str, text: str) -> Iterator[str]:
    if not re.fullmatch(pattern, text, re.DOTALL):
        yield f"expected {what} like {pattern!r}, got {text[:_LONG]!r}"


def _text(what: str, expected: str, got: str) -> Iterator[str]:
    if expected != got:
        lines = difflib.unified_diff(
            expected[:_LONG].splitlines(), got[:_LONG].splitlines(), f"expected {what}", "got", lineterm="", n=1
        )
        shown = "\n".join(lines) or f"expected {expected[-200:]!r}, got {got[-200:]!r}"
        yield shown


def _json(expected: str, text: str) -> Iterator[str]:
    try:
        got = json.loads(text)
    except ValueError as error:
        yield f"expected JSON, got {text[:_LONG]!r}: {error}"
        return
    yield from _values(json.loads(expected), got, "$")


def _values(expected: Any, got: Any, where: str) -> Iterator[str]:
    if type(expected) is not type(got):
        yield f"{where}: expected {expected!r}, got {got!r}"
    elif isinstance(expected, dict):
        for key in sorted(expected.keys() | got.keys()):
            if key not in got or key not in expected:
                yield f"{where}.{key}: {'missing' if key in expected else f'not expected: {got[key]!r}'}"
            else:
                yield from _values(expected[key], got[key], f"{where}.{key}")
    elif isinstance(expected, list):
        if len(expected) != len(got):
            yield f"{where}: expected {len(expected)} elements, got {len(got)}: {str(got)[:_LONG]}"
        for index, (a, b) in enumerate(zip(expected, got, strict=False)):
            yield from _values(a, b, f"{where}[{index}]")
    elif expected != got and not (isinstance(expected, float) and math.isnan(expected) and math.isnan(got)):
        yield f"{where}: expected {expected!r}, got {got!r}"
