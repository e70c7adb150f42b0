"""Data files to arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keraship.errors import DataError
from keraship.samples import named, read_samples
from keraship.signature import TensorSpec


def test_an_npz_gives_inputs_and_labels(tmp_path: Path) -> None:
    """`labels` is set apart; the rest are inputs by name."""
    np.savez(tmp_path / "d.npz", images=np.zeros((3, 8)), labels=np.arange(3))
    samples = read_samples(tmp_path / "d.npz")
    assert len(samples) == 3
    assert list(samples.inputs) == ["images"]
    assert samples.labels is not None
    head = samples.head(2)
    assert len(head) == 2
    assert head.labels is not None
    assert head.labels.tolist() == [0, 1]


def test_a_single_array_goes_to_a_single_input(tmp_path: Path) -> None:
    """Whatever it is called, and .npy has no name at all."""
    np.save(tmp_path / "d.npy", np.zeros((3, 8)))
    np.savez(tmp_path / "d.npz", x=np.zeros((3, 8)))
    for path in (tmp_path / "d.npy", tmp_path / "d.npz"):
        assert list(named(read_samples(path), ("images",)).inputs) == ["images"]


def test_missing_inputs_are_named(tmp_path: Path) -> None:
    """Both what was expected and what is there."""
    np.savez(tmp_path / "d.npz", a=np.zeros(3), b=np.zeros(3), other=np.zeros(3))
    assert list(named(read_samples(tmp_path / "d.npz"), ("b", "a")).inputs) == ["b", "a"]
    with pytest.raises(DataError, match="expected arrays named a, c in the data; got a, b, other"):
        named(read_samples(tmp_path / "d.npz"), ("a", "c"))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("d.npz", None, "there is no such file"),
        ("d.npz", b"", "expected plain arrays"),
        ("d.npz", b"PK\x03\x04", "expected plain arrays"),
        ("d.npy", b"\x93NUMPY\x01\x00", "expected plain arrays"),
        ("d.txt", b"1,2", "ends in .npz or .npy"),
    ],
)
def test_files_that_are_no_data_are_refused(tmp_path: Path, name: str, content: bytes | None, says: str) -> None:
    """Missing, empty, truncated, of another kind."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=says):
        read_samples(tmp_path / name)


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"labels": np.arange(3)},
        {"x": np.zeros((3, 2)), "labels": np.arange(4)},
        {"x": np.zeros((0, 2))},
        {"x": np.float32(1)},
        {"x": np.array([object()], object)},
    ],
)
def test_arrays_without_common_rows_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Nothing at all, labels alone, another number of rows, no rows, a scalar, pickled objects."""
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(DataError):
        read_samples(tmp_path / "d.npz")


IMAGES = TensorSpec("images", "float32", (None, 4, 4, 1))


def picture(path: Path, value: int, size: int = 4) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size, size), value, np.uint8)).save(path)


def test_class_folders_of_images_are_brought_to_the_inputs_size(tmp_path: Path) -> None:
    """Pixels from 0 to 255; labels are the places of the classes in alphabetical order."""
    picture(tmp_path / "cats" / "a.png", 10)
    picture(tmp_path / "dogs" / "b.png", 250, size=8)
    picture(tmp_path / "dogs" / "c.png", 3)
    samples = read_samples(tmp_path, [IMAGES])
    assert samples.inputs["images"].shape == (3, 4, 4, 1)
    np.testing.assert_allclose(samples.inputs["images"].max(axis=(1, 2, 3)), [10, 250, 3], rtol=1e-6)
    assert samples.labels is not None
    assert samples.labels.tolist() == [0, 1, 1]


def test_a_flat_folder_has_no_labels_and_other_dtypes_are_rounded(tmp_path: Path) -> None:
    """uint8 models are fed what the file holds."""
    picture(tmp_path / "a.png", 7)
    samples = read_samples(tmp_path, [TensorSpec("x", "uint8", (None, None, None, 3))])
    assert samples.labels is None
    assert samples.inputs["x"].dtype == np.uint8
    assert samples.inputs["x"].shape == (1, 4, 4, 3)


def test_folders_of_texts_feed_strings(tmp_path: Path) -> None:
    """Whole files, as bytes."""
    (tmp_path / "neg").mkdir()
    (tmp_path / "neg" / "1.txt").write_text("bad")
    samples = read_samples(tmp_path, [TensorSpec("text", "string", (None, 1))])
    assert samples.inputs["text"].tolist() == [[b"bad"]]


def test_folders_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    """Each with the path, and what would do."""
    picture(tmp_path / "parts" / "test" / "cats" / "a.png", 1)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"no image")
    (tmp_path / "empty").mkdir()
    for folder, inputs, said in [
        ("parts", [IMAGES], "name one part of it: .*parts/test"),
        ("broken", [IMAGES], r"broken/a.png is no image"),
        ("empty", [IMAGES], "found none"),
        ("broken", [TensorSpec("x", "float32", (None, 3))], "expected an input of images"),
        ("broken", [IMAGES, IMAGES], "an array for each input"),
    ]:
        with pytest.raises(DataError, match=said):
            read_samples(tmp_path / folder, inputs)


def test_columns_become_inputs_or_the_features_of_one(tmp_path: Path) -> None:
    """By name where an input has the column's; all together, less the labels, where the only input has another name."""
    path = tmp_path / "d.csv"
    path.write_text("age,town,label\n1.5,Rome,0\n2,Oslo,1\n")
    by_name = read_samples(path, [TensorSpec("age", "float32", (None, 1)), TensorSpec("town", "string", (None, 1))])
    assert by_name.inputs["age"].tolist() == [[1.5], [2.0]]
    assert by_name.inputs["town"].tolist() == [[b"Rome"], [b"Oslo"]]
    path.write_text("a,b,label\n1,2,0\n3,4,1\n")
    features = read_samples(path, [TensorSpec("x", "float32", (None, 2))])
    assert features.inputs["x"].tolist() == [[1, 2], [3, 4]]
    assert features.labels is not None
    assert features.labels.tolist() == [0, 1]


@pytest.mark.parametrize("text", ["", "a,b\n1\n", "a,a\n1,2\n", "a\nx\n", 'a\n"x\n'])
def test_broken_csv_files_are_refused(tmp_path: Path, text: str) -> None:
    """Rows of other lengths, names twice, texts where numbers are needed."""
    (tmp_path / "d.csv").write_text(text)
    with pytest.raises(DataError):
        read_samples(tmp_path / "d.csv", [TensorSpec("a", "float32", (None,)), TensorSpec("b", "float32", (None,))])
