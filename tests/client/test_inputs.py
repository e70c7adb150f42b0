"""What predict takes: pandas frames by column or as a whole, Python's literals, and numbers of every kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from keraship.client import Client, InvalidInput
from keraship.client.inputs import by_name, column_array, fit
from keraship.client.results import Metadata, ModelSpec
from keraship.signature import Signature, TensorSpec

pd = pytest.importorskip("pandas")

COLUMNS = Signature(
    (
        TensorSpec("age", "float32", (None, 1)), TensorSpec("city", "string", (None,)),
        TensorSpec("count", "int64", (None,)),
    ),
    (),
)  # fmt: skip
FEATURES = Signature((TensorSpec("x", "float32", (None, 2)),), ())


def fitted(inputs: Any, signature: Signature) -> dict[str, np.ndarray]:
    metadata = Metadata(ModelSpec("m", 1, ""), {"serving_default": signature})
    return dict(fit(inputs, metadata, "", check=True)[0])


def test_a_frames_columns_are_the_inputs() -> None:
    """Of shape [rows], or [rows, 1] where the model has it so; pandas' own dtypes and categories too."""
    for age, city, count in (
        (np.float32([1, 2]), ["a", "b"], np.int64([1, 2])),
        (pd.array([1, 2], dtype="Float32"), pd.array(["a", "b"], dtype="string"), pd.array([1, 2], dtype="Int64")),
        (pd.array([1, 2], dtype="Int8"), pd.Categorical(["a", "b"]), np.uint8([1, 2])),
    ):
        arrays = fitted(pd.DataFrame({"age": age, "city": city, "count": count}), COLUMNS)
        assert arrays["age"].tolist() == [[1], [2]]
        assert arrays["city"].tolist() == [b"a", b"b"]
        assert arrays["count"].dtype == np.int64


def test_a_frame_feeds_a_single_input() -> None:
    """As one array, its columns as features; by name where a column has the input's."""
    frame = pd.DataFrame({"p": np.float32([1, 2]), "q": np.int8([3, 4])})
    assert fitted(frame, FEATURES)["x"].tolist() == [[1, 3], [2, 4]]
    assert fitted({"x": frame}, FEATURES)["x"].tolist() == [[1, 3], [2, 4]]
    one = Signature((TensorSpec("x", "float32", (None,)),), ())
    assert fitted(pd.DataFrame({"x": np.float32([5])}), one)["x"].tolist() == [5]
    assert fitted({"x": pd.Series(np.float32([5]))}, one)["x"].tolist() == [5]


def test_missing_values_are_nan_or_refused() -> None:
    """Floats have a NaN, whole numbers have not."""
    assert np.isnan(column_array(pd.Series(pd.array([1, None], dtype="Float64")))[1])
    with pytest.raises(InvalidInput, match="every row of the column 'n'; some are missing"):
        column_array(pd.Series(pd.array([1, None], dtype="Int64"), name="n"))


def test_a_frame_that_does_not_fit_is_refused_by_column() -> None:
    """With what was probably meant."""
    frame = pd.DataFrame({"age": np.float64([1]), "citi": ["a"], "count": [1]})
    with pytest.raises(InvalidInput, match=r"no input 'citi', did you mean 'city'.*'age' expects float32 \[-1,1\]"):
        fitted(frame, COLUMNS)


def test_frames_go_to_a_server(client: Client) -> None:
    """Whose names are known, or not."""
    frame = pd.DataFrame({"a": np.int32([1, 2])})
    answer = client.predict({"a": frame["a"], "b": [[1, 2], [3, 4]]}, model_name="two")
    assert answer["sum"].tolist() == [[2, 3], [5, 6]]
    assert client.predict(frame, model_name="no-metadata")["a"].tolist() == [1, 2]


def test_names_are_left_to_mappings() -> None:
    """A mapping is taken as it is."""
    arrays = {"x": 1}
    assert by_name(arrays, FEATURES) is arrays
