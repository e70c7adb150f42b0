"""`keraship predict`, as it is typed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from keraship.cli import main

IMAGES = np.eye(4, dtype=np.float32)[[0, 1, 2, 3, 1]] * 0.75
LABELS = np.array([0, 1, 2, 0, 1])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "test.npz"
    np.savez(path, images=IMAGES, labels=LABELS)
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]  # a function of three results
    def run(*args: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit_:
            main(["predict", *map(str, args)])
        captured = capsys.readouterr()
        return int(exit_.value.code or 0), captured.out, captured.err

    return run


def test_a_table_of_classes_scores_and_labels(run, address: str, data: Path) -> None:  # type: ignore[no-untyped-def]
    """The simplest call: row, class, score, label, and how many agree."""
    code, out, err = run(f"{address}/digits", data)
    assert (code, err) == (0, "")
    lines = [line.replace("│", " ").split() for line in out.splitlines()]
    assert ["row", "class", "score", "label"] in [line.replace("┃", " ").split() for line in out.splitlines()]
    assert ["3", "3", "0.75", "0"] in lines
    assert "4 of 5 agree with their label (80.0%)" in out


@pytest.mark.parametrize(("rows", "expected"), [("2", [0, 2]), ("1:3", [1, 3]), ("3:", [3, 5]), (":4", [0, 4])])
def test_rows_are_chosen(run, address: str, data: Path, rows: str, expected: list[int]) -> None:  # type: ignore[no-untyped-def]
    """The first ones, a range, the rest; JSON says which."""
    code, out, _ = run("digits", data, "--server", address, "--rows", rows, "--json")
    document = json.loads(out)
    assert code == 0
    assert document == {
        "model": "digits",
        "version": 1,
        "signature": "serving_default",
        "rows": expected,
        "outputs": {"scores": IMAGES[slice(*expected)].tolist()},
        "labels": LABELS[slice(*expected)].tolist(),
    }


def test_batches_are_joined_in_order(run, address: str, data: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """However many rows go into a request; --output keeps them all."""
    code, out, _ = run(f"{address}/digits", data, "--batch-size", 2, "--output", tmp_path / "answers.npz")
    assert code == 0, out
    with np.load(tmp_path / "answers.npz") as written:
        np.testing.assert_array_equal(written["scores"], IMAGES)
        np.testing.assert_array_equal(written["labels"], LABELS)


def test_several_inputs_and_outputs(run, address: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """By --input, each with its file and array; texts are texts in the table, in JSON and in a file."""
    np.savez(tmp_path / "a.npz", other=np.zeros(2), numbers=np.int32([1, 2]))
    np.save(tmp_path / "b.npy", np.float32([[1, 2], [3, 4]]))
    args = ("--input", f"a={tmp_path / 'a.npz'}:numbers", "--input", f"b={tmp_path / 'b.npy'}")
    code, out, _ = run(f"{address}/two", *args, "--output", tmp_path / "out.json")
    assert code == 0
    assert "sum class" in out
    assert "row 2" in out
    document = json.loads((tmp_path / "out.json").read_text())
    assert document["outputs"] == {"sum": [[2, 3], [5, 6]], "texts": ["row 1", "row 2"]}
    code, _, _ = run(f"{address}/two", *args, "--output", tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as written:
        assert written["texts"].tolist() == [b"row 1", b"row 2"]


def test_an_npy_file_is_the_only_input(run, address: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Whatever the input is called."""
    np.save(tmp_path / "x.npy", IMAGES)
    code, out, _ = run(f"{address}/digits", "--data", tmp_path / "x.npy", "--json")
    assert code == 0
    assert json.loads(out)["outputs"]["scores"] == IMAGES.tolist()


def test_outputs_of_any_shape_are_shown(run, address: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Boxes and counts by row; a scalar for all rows below, which batches cannot be joined to."""
    np.save(tmp_path / "x.npy", np.float32([[1, 2], [3, 4]]))
    code, out, _ = run(f"{address}/nested", tmp_path / "x.npy")
    assert code == 0
    assert "1, 2, 1, 2" in out
    code, out, _ = run(f"{address}/whole", tmp_path / "x.npy")
    assert code == 0
    assert "mean (float32 []): 2.5" in out
    code, _, err = run(f"{address}/whole", tmp_path / "x.npy", "--batch-size", 1)
    assert code == 1
    assert "--batch-size 2" in err


def test_a_long_table_is_cut(run, address: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """And says so."""
    np.save(tmp_path / "x.npy", np.zeros((25, 4), np.float32))
    _, out, _ = run(f"{address}/digits", tmp_path / "x.npy")
    assert "... and 5 more rows" in out


def test_numbers_that_json_has_not(run, address: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """NaN and infinities are texts, so that every JSON reader takes the document."""
    np.save(tmp_path / "x.npy", np.float32([[np.nan, np.inf, -np.inf, 1]]))
    _, out, _ = run(f"{address}/digits", tmp_path / "x.npy", "--json")
    assert json.loads(out, parse_constant=pytest.fail)["outputs"]["scores"] == [["NaN", "Infinity", "-Infinity", 1]]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("m",), "expected data once"),
        (("m", "x.npz", "--input", "a=b.npy"), "expected data once"),
        (("m", "x.npz", "--rows", "5:5"), "STOP above START"),
        (("m", "x.npz", "--rows", "all"), "STOP above START"),
        (("m", "x.npz", "--output", "x.txt"), ".csv or .jsonl"),
        (("http://localhost:x/m", "x.npz"), "an address with a port"),
        (("m", "--input", "a"), "NAME=FILE"),
        (("localhost:8500/m", "x.npz", "--server", "h:1"), "the server once"),
        (("localhost/m", "x.npz"), "an address with a port"),
        (("localhost:8500/", "x.npz"), "expected a model"),
        (("m", "x.npz", "--version", "1", "--label", "stable"), "--version or --label"),
    ],
)
def test_wrong_usage_is_told(run, args: tuple[str, ...], says: str) -> None:  # type: ignore[no-untyped-def]
    """Exit status 2, before anybody is asked."""
    code, _, err = run(*args)
    assert code == 2
    assert says in " ".join(err.replace("│", " ").split())


def test_expected_failures_are_a_sentence(run, address: str, data: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Exit status 1: no such file, rows, model, input, server."""
    np.savez(tmp_path / "wide.npz", images=np.zeros((2, 4)))
    for args, says in (
        ((f"{address}/digits", tmp_path / "none.npz"), "there is no such file"),
        ((f"{address}/digits", data, "--rows", "9:"), "within the 5 rows"),
        ((f"{address}/absent", data), "Servable not found"),
        ((f"{address}/two", data), "arrays named a, b"),
        ((f"{address}/digits", tmp_path / "wide.npz"), "expects float32"),
        ((f"{address}/digits", data, "--signature", "x"), "no signature 'x'"),
        ((f"unix:{tmp_path / 's'}/digits", data), "no server answers"),
        (("digits", "--server", address, "--input", f"images={data}:image"), "expected an array 'image'"),
        ((f"{address}/digits", data, "--output", tmp_path / "no" / "x.npz"), "to write the answers"),
    ):
        code, _, err = run(*args)
        assert (code, says in err, err.count("\n")) == (1, True, 1), err


def test_answers_go_to_every_kind_of_file(run, address: str, data: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """.npy an array; .csv and .jsonl a line for each row, with its number and label."""
    for suffix in (".npy", ".csv", ".jsonl"):
        code, out, err = run(f"{address}/digits", data, "--rows", "1:4", "--output", tmp_path / f"out{suffix}")
        assert code == 0, out + err
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), IMAGES[1:4])
    assert (tmp_path / "out.csv").read_text().splitlines() == [
        "row,scores_0,scores_1,scores_2,scores_3,label",
        "1,0.0,0.75,0.0,0.0,1",
        "2,0.0,0.0,0.75,0.0,2",
        "3,0.0,0.0,0.0,0.75,0",
    ]
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert lines[1] == {"row": 2, "scores": [0.0, 0.0, 0.75, 0.0], "label": 2}
    np.save(tmp_path / "x.npy", np.float32([[1, 2], [3, 4]]))
    for suffix, says in ((".npy", "write an .npz file"), (".csv", None)):
        code, _, err = run(f"{address}/nested", tmp_path / "x.npy", "--output", tmp_path / f"n{suffix}")
        assert (code, (says or "") in err) == (0 if says is None else 1, True)
    header = (tmp_path / "n.csv").read_text().splitlines()[0]
    assert header == "row,boxes_0_0,boxes_0_1,boxes_1_0,boxes_1_1,count"
    code, _, err = run(f"{address}/whole", tmp_path / "x.npy", "--output", tmp_path / "w.csv")
    assert (code, "write a .json file" in err) == (1, True)


def test_csv_files_and_folders_of_images_are_read(run, address: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """By the model's inputs: columns become its features, images get its size."""
    from PIL import Image

    (tmp_path / "x.csv").write_text("p,q,r,s,label\n1,2,3,4,0\n5,6,7,8,1\n")
    code, out, err = run(f"{address}/digits", tmp_path / "x.csv", "--json")
    assert code == 0, err
    document = json.loads(out)
    assert document["outputs"]["scores"] == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert document["labels"] == [0, 1]
    for index, name in enumerate(("a", "b")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.new("L", (6, 6), 100 * index).save(tmp_path / "photos" / name / "1.png")
    code, out, err = run(f"{address}/photos", tmp_path / "photos", "--json")
    assert code == 0, err
    document = json.loads(out)
    assert np.array(document["outputs"]["y"]).reshape(2, -1).mean(axis=1).round(3).tolist() == [0, 100]
    assert document["labels"] == [0, 1]


def test_ctrl_c_keeps_what_came(address: str, tmp_path: Path) -> None:
    """In the file that was asked for; exit status 130, within a second."""
    np.save(tmp_path / "x.npy", np.zeros((100_000, 4), np.float32))
    script = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from keraship.cli import main; main(sys.argv[1:])"
    )
    args = ["predict", f"{address}/digits", tmp_path / "x.npy", "--batch-size=1", f"--output={tmp_path / 'out.npy'}"]
    with subprocess.Popen(
        [sys.executable, "-c", script, *map(str, args)], stderr=subprocess.PIPE, text=True
    ) as process:
        time.sleep(6)
        os.kill(process.pid, signal.SIGINT)
        start = time.monotonic()
        _, err = process.communicate(timeout=30)
        assert time.monotonic() - start < 10
    assert process.returncode == 130, err
    count = len(np.load(tmp_path / "out.npy"))
    assert 0 < count < 100_000
    assert f"those to the first {count} are in" in err


def test_over_rest_and_from_several_servers(run, address: str, data: Path) -> None:  # type: ignore[no-untyped-def]
    """Addresses with commas; one that is down is passed over."""
    code, out, err = run(f"{address},127.0.0.1:1/digits", data, "--json")
    assert code == 0, err
    assert len(json.loads(out)["outputs"]["scores"]) == 5


def test_help_shows_examples(run) -> None:  # type: ignore[no-untyped-def]
    """What to type."""
    code, out, _ = run("--help")
    assert code == 0
    assert "keraship predict digits run/test.npz --rows 10" in out
