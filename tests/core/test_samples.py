"""Data files to arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from keraship.errors import DataError
from keraship.samples import named, read_samples


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
