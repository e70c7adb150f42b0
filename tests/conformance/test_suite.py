"""The suite itself: it sees differences, and says what they are."""

from __future__ import annotations

import pytest

from tests.conformance.ask import Answer
from tests.conformance.case import make_case, read_cases
from tests.conformance.compare import differences

REST = [
    ({"get": "/"}, Answer(404), "expected status 200, got 404"),
    ({"get": "/", "json": "[1.0]"}, Answer(200, b"[1]"), "$[0]: expected 1.0, got 1"),
    ({"get": "/", "json": '{"a": [1, 2]}'}, Answer(200, b'{"a": [1], "b": 0}'), "$.a: expected 2 elements, got 1: [1]"),
    ({"get": "/", "json": "[NaN]"}, Answer(200, b"nothing"), "expected JSON, got 'nothing'"),
    ({"get": "/", "text": "a"}, Answer(200, b"b"), "--- expected body\n+++ got\n@@ -1 +1 @@\n-a\n+b"),
    ({"get": "/", "text": "a"}, Answer(200, b"a\n"), "expected 'a', got 'a\\n'"),
    ({"get": "/", "error": "x"}, Answer(200, b'{"error": "x"}'), '-    "error": "x"'),
    ({"get": "/", "error_like": "x+"}, Answer(200, b'{"error": "y"}'), "expected error like 'x+', got 'y'"),
    ({"get": "/", "answer_headers": {"A": ""}}, Answer(200, headers={"a": "1"}), "expected header A: (absent), got 1"),
    ({"call": "PredictionService/Predict"}, Answer("NOT_FOUND", details="no"), "expected OK, got NOT_FOUND no"),
    ({"call": "PredictionService/Predict", "code": "ABORTED", "details": "a"}, Answer("ABORTED", details="b"), "-a"),
    ({"call": "ModelService/GetModelStatus", "answer": "model_version_status {}"}, Answer("OK"), "-model_version_st"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "answer", "words"), REST)
def test_a_difference_is_seen_and_named(values: dict, answer: Answer, words: str) -> None:
    assert words in "\n".join(differences(make_case("x", values), answer))


def test_what_is_equal_is_no_difference() -> None:
    assert not differences(make_case("x", {"get": "/", "json": "[NaN, 1.0]"}), Answer(200, b"[NaN,1.0]"))


def test_a_case_with_a_key_that_means_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="x: no case has boddy"):
        make_case("x", {"get": "/", "boddy": "1"})


def test_every_case_expects_something() -> None:
    """More than that a server answers: a status that is no success, or what is in the answer."""
    vague = {"rest_http.large-body", "rest_dispatch.trace", "grpc_status.metadata-of-onnx"}
    told = {"error", "error_like", "text", "text_like", "json", "answer_headers", "details", "details_like", "answer"}
    told |= {"code"}
    assert [case.id for case in read_cases() if not told & case.values.keys() and case.id not in vague] == []
