"""classify, regress, multi_inference and reload_config, read by TensorFlow Serving's own classes."""

from __future__ import annotations

import sys
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from keraship import errors
from keraship.client import Class, Client, InvalidInput, ModelConfig, ModelSpec, Regression


def labels(client: Client, example: dict[str, Any]) -> list[Class]:
    return list(client.classify([example])[0])


@pytest.mark.parametrize(
    ("value", "kind", "score"),
    [
        (1.5, "float_list", 1.5),
        (2, "int64_list", 2),
        (True, "int64_list", 1),
        ("text", "bytes_list", 1),
        (b"\xff\0", "bytes_list", 1),
        ([1.5, 2], "float_list", 1.5),
        (["a", b"b"], "bytes_list", 2),
        (np.float32([3.5]), "float_list", 3.5),
        (np.float64(3.5), "float_list", 3.5),
        (np.array([7], np.uint8), "int64_list", 7),
        (np.array([1.5], ml_dtypes.bfloat16), "float_list", 1.5),
        (np.array(["x", "y"]), "bytes_list", 2),
        ([], "None", 0),
        (-(2**63), "int64_list", -(2.0**63)),
    ],
)
def test_features_are_of_the_kind_of_their_values(client: Client, value: Any, kind: str, score: float) -> None:
    """Numbers, bools, text, bytes, arrays of them."""
    assert labels(client, {"f": value}) == [Class(f"f:{kind}", score)]


def test_examples_come_as_lists_columns_or_frames(client: Client) -> None:
    """One answer for each row, in order."""
    import pandas as pd

    rows = [{"a": 1, "x": 0.5}, {"a": 2, "x": 1.5}]
    columns = {"a": [1, 2], "x": np.float32([0.5, 1.5])}
    for examples in (rows, columns, pd.DataFrame(columns)):
        answer = client.classify(examples)
        assert len(answer) == 2
        assert [[one.score for one in each] for each in answer] == [[1, 0.5], [2, 1.5]]
        assert answer.model_spec == ModelSpec("echo", 1, "serving_default")
        regression = client.regress(examples)
        assert isinstance(regression, Regression)
        assert regression.array.dtype == np.float32
        assert regression.array.tolist() == [0.5, 1.5]
    assert [best.label for best in client.classify(rows).best] == ["a:int64_list", "a:int64_list"]


def test_a_context_is_shared_by_all_examples(client: Client) -> None:
    """An example's own features stand over it."""
    answer = client.classify([{"a": 1}, {"b": 2}], context={"a": 5, "c": 7})
    assert [[one.score for one in each] for each in answer] == [[1, 7], [5, 2, 7]]


def test_multi_inference_asks_several_signatures_at_once(client: Client) -> None:
    """Each answer under its signature's name."""
    answers = client.multi_inference([{"x": 1.5}], tasks={"classes": "classify", "value": "regress"}, version=3)
    assert list(answers) == ["classes", "value"]
    assert answers["classes"][0] == (Class("x:float_list", 1.5),)  # type: ignore[index]
    assert answers["value"].array.tolist() == [1.5]  # type: ignore[union-attr]
    assert answers["value"].model_spec == ModelSpec("echo", 3, "value")
    with pytest.raises(ValueError, match="each classify or regress; got predict"):
        client.multi_inference([{"x": 1.0}], tasks={"a": "predict"})


@pytest.mark.parametrize(
    ("examples", "says"),
    [
        ({"a": [1], "b": [1, 2]}, "one number of rows"),
        ("text", "list of examples"),
        ([1], "example 0 to be features by name; got int"),
        ([{"a": [[1]]}], r"feature 'a' of example 0; got shape \[1, 1\]"),
        ([{"a": 1}, {"a": None}], "feature 'a' of example 1"),
        ([{"a": [1, "b"]}], "of one kind"),
        ([{"a": 1j}], "numbers or text"),
        ([{"a": 2**63}], "64 bits"),
    ],
)
def test_what_is_no_example_is_never_sent(client: Client, examples: Any, says: str) -> None:
    """The feature is named."""
    with pytest.raises(InvalidInput, match=says) as caught:
        client.classify(examples)
    assert caught.value.attempts == 0


def test_reload_config_tells_the_server_its_models(client: Client) -> None:
    """Names and folders, or configurations with policies and labels; a refusal in the answer is raised."""

    def told() -> str:
        config = client.predict({"reloaded": True}, model_name="control", check=False)["config"].item().decode()
        return " ".join(config.split())

    client.reload_config({"a": "/models/a"})
    assert told() == 'config { name: "a" base_path: "/models/a" model_platform: "tensorflow" }'
    client.reload_config(
        [
            ModelConfig("a", "/a", versions=2),
            ModelConfig("b", "/b", versions="all"),
            ModelConfig("c", "/c", versions=[3, 4], labels={"stable": 3}),
        ]
    )
    text = told()
    for part in ("latest { num_versions: 2 }", "all { }", "specific { versions: 3 versions: 4 }", 'key: "stable"'):
        assert part in text
    with pytest.raises(errors.InvalidArgument, match="absolute path"):
        client.reload_config({"a": ""})
    for wrong in ("text", [1]):
        with pytest.raises(ValueError, match="models by name"):
            client.reload_config(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'all'; got 'some'"):
        client.reload_config([ModelConfig("a", "/a", versions="some")])


def test_pandas_is_not_imported() -> None:
    """To find out whether something is a frame."""
    import subprocess

    code = "import sys\nfrom keraship.client.examples import read_examples\nread_examples([{'a': 1}])\n"
    done = subprocess.run([sys.executable, "-c", f"{code}assert 'pandas' not in sys.modules"], check=False)
    assert done.returncode == 0
