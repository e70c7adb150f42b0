"""Names, samples and accuracy: the small parts, without TensorFlow."""

import numpy as np
import pytest

from keraship.errors import DataError, ExportError
from keraship.exporter import golden, names, quality
from keraship.samples import Samples
from keraship.signature import Signature, TensorSpec


@pytest.mark.parametrize(
    ("derived", "chosen"),
    [
        (["a", "a", "a_1"], ["a", "a_2", "a_1"]),
        (["my layer/x", "_y", "€"], ["my_layer_x", "y", "tensor"]),
        (["taken"], ["taken_1"]),
    ],
)
def test_derived_names_are_valid_and_unique(derived, chosen):
    """Whatever layers are called."""
    assert names.choose("inputs", derived, None, ["taken"]) == chosen


@pytest.mark.parametrize("given", [["a"], ["a", "a"], ["a", "b c"], ["a", "taken"], ["a", "b", "c"], ["", "b"]])
def test_given_names_must_be_valid_and_unique(given):
    """A user's names are never changed: they are taken or refused."""
    with pytest.raises(ExportError):
        names.choose("outputs", ["x", "y"], given, ["taken"])


def spec(dtype="float32", shape=(None, 2)):
    return TensorSpec("x", dtype, shape)


@pytest.mark.parametrize("dtype", ["float32", "int64", "uint8", "bool", "string", "bfloat16"])
def test_drawn_samples_fit_the_signature(dtype):
    """8 rows of the dtype, open sizes filled, the same in every run."""
    signature = Signature((spec(dtype, (None, None, 3)),), ())
    first, _ = golden.golden(signature, lambda inputs: inputs, None)
    second, _ = golden.golden(signature, lambda inputs: inputs, None)
    assert first["x"].shape == (8, 16, 3)
    np.testing.assert_array_equal(first["x"], second["x"])


def test_smaller_numbers_are_tried_where_a_model_refuses():
    """A vocabulary of 2 takes 0 and 1 only."""

    def answer(inputs):
        return {"y": np.eye(2)[inputs["x"]]}

    inputs, _ = golden.golden(Signature((spec("int32"),), ()), answer, None)
    assert set(inputs["x"].flat) == {0, 1}


def test_few_rows_of_data_are_repeated():
    """At least 7 rows are needed for a batch of 7."""
    data = Samples({"x": np.arange(6, dtype=np.float32).reshape(3, 2)})
    inputs, _ = golden.golden(Signature((spec(),), ()), lambda inputs: inputs, data)
    np.testing.assert_array_equal(inputs["x"][:, 0], [0, 2, 4, 0, 2, 4, 0, 2])


def test_data_of_another_kind_is_refused():
    """float64 is rounded, numbers are not made of texts, fractions not cut off."""
    signature = Signature((spec("int32"),), ())
    with pytest.raises(DataError):
        golden.fit(signature, Samples({"x": np.ones((2, 2))}))
    rounded = golden.fit(Signature((spec(),), ()), Samples({"x": np.ones((2, 2))}))
    assert rounded.inputs["x"].dtype == np.float32


SCORES = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6]], np.float32)


@pytest.mark.parametrize(
    ("outputs", "labels", "right"),
    [
        ({"y": SCORES}, np.array([0, 1, 0, 0]), 3),
        ({"y": SCORES}, np.array([[0], [1], [1], [1]]), 3),
        ({"y": SCORES}, np.eye(2)[[0, 0, 0, 1]], 3),
        ({"y": SCORES[:, 1:]}, np.array([0.0, 1.0, 0.0, 1.0]), 4),
        ({"other": SCORES[:2], "y": SCORES}, np.array([0, 1, 0, 1]), 4),
    ],
)
def test_right_rows(outputs, labels, right):
    """Class numbers, one-hot labels, one probability; the first output that fits is judged."""
    assert quality.correct(outputs, labels).sum() == right


@pytest.mark.parametrize("labels", [np.array([0.5, 1, 0, 1]), np.array([0, 1, 2, 1]), np.array(["a", "b", "a", "b"])])
def test_labels_that_are_no_classes_give_no_accuracy(labels):
    """Targets of a regression, classes that the model has not, texts."""
    assert quality.correct({"y": SCORES}, labels) is None


@pytest.mark.parametrize("labels", [np.array([0, 1, 2, 1]), np.array([[-1], [0], [0], [0]])])
def test_labels_beyond_the_classes_are_refused(labels):
    """They are a mistake in the data, and no accuracy would be the silent answer to it."""
    with pytest.raises(DataError, match="expected labels from 0 to 1, the model's classes; got labels from"):
        quality.check_labels({"y": SCORES[:2]}, labels)
    quality.check_labels({"y": SCORES}, np.array([0.5, 2.5, 1, 0]))
    quality.check_labels({"depth": SCORES[:, :1]}, labels)


def test_inputs_that_fill_the_memory_are_refused():
    """A model that declares a trillion columns is refused before a sample of them is drawn."""
    wide = Signature((TensorSpec("wide", "float32", (None, 10**12)),), ())
    with pytest.raises(ExportError, match=r"'wide' has .*fill the memory"):
        golden.golden(wide, lambda inputs: inputs, None)
