from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from keraship.errors import DataError
from keraship.models.data import Dataset, fetch_all, load


def everything(data: Dataset) -> dict[str, list[Any]]:
    """All rows of all parts, ordered by the column `id`, with the class names."""
    parts = [fetch_all(part) for part in (data.train, data.validation, data.test)]
    columns = {name: np.concatenate([inputs[name] for inputs, _ in parts]) for name in parts[0][0]}
    columns["class"] = np.array(data.task.classes)[np.concatenate([labels for _, labels in parts])]
    rank = np.argsort(columns["id"])
    return {name: column[rank].tolist() for name, column in columns.items()}


def table(path: Path, header: str, row: Any, *, count: int = 30) -> Path:
    path.write_text("\n".join([header, *(row(number) for number in range(count))]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Numbers, whole numbers, strings and codes; the label last."""
    return table(
        tmp_path / "people.csv",
        "id,height (m),town,post code,kind",
        lambda n: f'{n},{1 + n / 100},"Rio, {n % 3}",0{n},{"odd" if n % 2 else "even"}',
    )


def refused(path: Path) -> str:
    with pytest.raises(DataError) as error:
        load(str(path), seed=0)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_columns(people: Path) -> None:
    """Whole numbers are int64, others float32, all else strings, codes with leading zeros among them."""
    data = load(str(people), seed=0)
    specs = {spec.name: (spec.dtype, spec.shape) for spec in data.task.inputs}
    assert specs == {
        "id": ("int64", (None,)),
        "height_m": ("float32", (None,)),
        "town": ("string", (None,)),
        "post_code": ("string", (None,)),
    }
    rows = everything(data)
    assert rows["id"] == list(range(30))
    np.testing.assert_allclose(rows["height_m"], [1 + n / 100 for n in range(30)], rtol=1e-6)
    assert rows["town"] == [f"Rio, {n % 3}" for n in range(30)]
    assert rows["post_code"] == [f"0{n}" for n in range(30)]
    assert rows["class"] == ["odd" if n % 2 else "even" for n in range(30)]


def test_the_label_column(people: Path, tmp_path: Path) -> None:
    """The column called label, else the last, or the one that is asked for; a wrong name is answered with all."""
    named = table(tmp_path / "named.csv", "Label,id,x", lambda n: f"{n % 2},{n},{n}")
    assert load(str(named), seed=0).task.classes == ("0", "1")
    assert load(str(people), seed=0, label_column="town").task.classes == ("Rio, 0", "Rio, 1", "Rio, 2")
    with pytest.raises(DataError, match=r"a column called 'city' in .*; got id, height"):
        load(str(people), seed=0, label_column="city")


def test_numbered_classes_by_value(tmp_path: Path) -> None:
    """10 comes after 9, and 1.0 is 1."""
    path = table(tmp_path / "t.csv", "id,label", lambda n: f"{n},{n % 11}{'.0' if n % 2 else ''}", count=110)
    assert load(str(path), seed=0).task.classes == tuple(map(str, range(11)))


def test_bad_rows(people: Path) -> None:
    """Cells that are missing or no numbers among numbers, rows of another length, missing labels: by line."""
    lines = people.read_text().splitlines()
    lines[3] = "2,,Rio,02,even"
    lines[4] = "3,tall,Rio,03,odd"
    lines[5] = "4,1.04,Rio,04,"
    lines[6] = "5,1.05"
    lines[7] = "6,1e60,Rio,06,even"
    people.write_text("\n".join(lines * 1) + "\n")
    bulk = "\n".join(f"{n},1.5,Rio,0{n},odd" for n in range(100, 160))
    people.write_text(people.read_text() + bulk + "\n")
    message = refused(people)
    for line, what in {
        4: "column 'height (m)' is empty, and its other cells are numbers",
        5: "column 'height (m)' has 'tall', and its other cells are numbers",
        6: "has no kind",
        7: "has 2 cells; the header has 5",
        8: "column 'height (m)' has 1e60, more than float32 can hold",
    }.items():
        assert f"{people}, line {line}: {what}" in message
    data = load(str(people), seed=0, on_bad="skip")
    assert len(data.faults) == 5
    assert everything(data)["id"] == [0, 1, *range(7, 30), *range(100, 160)]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "a header of two or more column names, separated by commas, in {}; got nothing"),
        ("a;b\n1;2\n", "separated by commas, in {}; got 'a;b'"),
        ("1,2\n3,4\n", "a header of column names in the first line of {}; got numbers"),
        ("a,a\n3,4\n", "names each column, each once, in {}"),
        ("a,b\n", "rows below the header of {}"),
        ("x,y\n" + "1,0.5\n2,0.25\n" * 9, "labels that are classes in {}; got numbers with fractions, such as 0.5"),
        ("a b,a_b,label\n" + "1,2,x\n3,4,y\n" * 9, "columns that differ in letters or digits in {}"),
        ('a,b\n"1,2\n', "comma-separated values in UTF-8; {}"),
    ],
)
def test_no_table(content: str, says: str, tmp_path: Path) -> None:
    """What is no table says what is wrong with which file."""
    path = tmp_path / "t.csv"
    path.write_text(content)
    assert says.format(path) in refused(path)


def test_no_utf8(tmp_path: Path) -> None:
    """A table in another encoding is one sentence."""
    path = tmp_path / "t.csv"
    path.write_bytes(b"a,label\n\xe9,1\n")
    assert "in UTF-8" in refused(path)


def test_texts(tmp_path: Path) -> None:
    """The columns text and label alone are texts."""
    path = table(tmp_path / "t.csv", "text,label", lambda n: f'"one, {n}",{"a" if n % 2 else "b"}')
    data = load(str(path), seed=0)
    assert data.task.has_text
    inputs, labels = fetch_all(data.test)
    assert inputs["text"].dtype == object
    assert [int(text.split()[1]) % 2 for text in inputs["text"]] == [1 - label for label in labels]


def test_data_frame() -> None:
    """A pandas DataFrame is taken as a table: numbers, text, categories, None and NA as missing text."""
    frame = pd.DataFrame(
        {
            "id": np.arange(20),
            "x": np.arange(20) / 4,
            "s": ["u", None] * 10,
            "c": pd.Categorical(["low", "high"] * 10),
            "y": [0, 1] * 10,
        },
        index=np.arange(100, 120),
    )
    rows = everything(load(frame, seed=0))
    assert rows["x"] == frame["x"].tolist()
    assert rows["s"] == ["u", ""] * 10
    assert rows["c"] == ["low", "high"] * 10
    assert rows["class"] == ["0", "1"] * 10
    frame.loc[103, "x"] = float("nan")
    with pytest.raises(DataError, match="row 3: column 'x' is empty"):
        load(frame, seed=0)


def npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


IDS = np.arange(30) % 3


def test_arrays_of_images(tmp_path: Path) -> None:
    """An array of images is `images`, float32; the brightest is that of its type, or of its fractions."""
    path = npz(tmp_path / "i.npz", x=np.full((30, 4, 5), 7, np.uint8), y=IDS + 5)
    task = load(str(path), seed=0).task
    assert (task.image_shape, task.maximum, task.classes) == ((4, 5, 1), 255, ("5", "6", "7"))
    path = npz(tmp_path / "f.npz", x=np.full((30, 4, 5, 3), 16.0), labels=np.eye(3)[IDS])
    data = load(str(path), seed=0)
    assert (data.task.image_shape, data.task.maximum, data.task.classes) == ((4, 5, 3), 16, ("0", "1", "2"))
    assert fetch_all(data.train)[0]["images"].dtype == np.float32


def test_arrays_of_masks(tmp_path: Path) -> None:
    """Labels as large as the images are masks."""
    path = npz(tmp_path / "m.npz", images=np.zeros((10, 4, 5, 1)), labels=np.tile(np.arange(5) % 2, (10, 4, 1)))
    task = load(str(path), seed=0).task
    assert (task.kind, task.classes) == ("segmentation", ("0", "1"))


def test_arrays_of_columns_and_text(tmp_path: Path) -> None:
    """Arrays of rows are columns, one of two dimensions is several; one array of strings is texts."""
    path = npz(tmp_path / "c.npz", id=np.arange(30), x=np.zeros((30, 2)), town=np.array(["u"] * 30), labels=IDS)
    specs = {spec.name: spec.dtype for spec in load(tmp_path, seed=0).task.inputs}  # the only file of its folder
    assert specs == {"id": "int64", "x_0": "float32", "x_1": "float32", "town": "string"}
    path = npz(tmp_path / "t.npz", body=np.array(["na\u00efve"] * 30), labels=np.array(["a", "b", "c"] * 10))
    data = load(str(path), seed=0)
    assert (data.task.has_text, data.task.classes) == (True, ("a", "b", "c"))
    assert set(fetch_all(data.train)[0]["text"]) == {"na\u00efve"}


def test_arrays_that_cannot_be(tmp_path: Path) -> None:
    """No labels, NaN, labels of no form, broken files: what, where; rows of NaN can be skipped."""
    assert "an array called labels" in refused(npz(tmp_path / "n.npz", x=np.zeros((9, 2))))
    assert "labels of one class a row" in refused(npz(tmp_path / "l.npz", x=np.zeros((9, 2)), y=np.ones((9, 2))))
    assert "one array of images, or columns" in refused(
        npz(tmp_path / "d.npz", a=np.ones((9, 2, 2, 1)), b=IDS[:9], y=IDS[:9])
    )
    images = np.zeros((30, 2, 2))
    images[4, 1, 1] = np.nan
    path = npz(tmp_path / "nan.npz", x=images, y=IDS)
    assert f"{path}, row 4: holds NaN or infinity" in refused(path)
    assert len(load(str(path), seed=0, on_bad="skip").faults) == 1
    path.write_bytes(path.read_bytes()[:100])
    assert "expected plain arrays" in refused(path)
    path = npz(tmp_path / "u.npz", x=np.zeros((30, 2, 2)), y=np.where(np.arange(30) == 7, np.nan, IDS))
    assert f"{path}, row 7: has no label" in refused(path)
    data = load(str(path), seed=0, on_bad="skip")
    assert (len(data.faults), data.task.classes) == (1, ("0", "1", "2"))
    assert "each of its 30 rows holds NaN" in refused(npz(tmp_path / "v.npz", x=np.full(30, np.inf), y=IDS))
    assert "hold something in" in refused(npz(tmp_path / "w.npz", x=np.zeros((30, 0, 2)), y=IDS))
    assert f"x in {tmp_path}" in refused(npz(tmp_path / "x.npz", x=np.zeros(30, "datetime64[s]"), y=IDS))
