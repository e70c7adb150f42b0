"""Real data to try things with, written as files: digits, scenes of digits with masks, texts, a table."""

from __future__ import annotations

import ast
import csv
import functools
import importlib.util
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keraship.errors import DataError
from keraship.extras import require
from keraship.models.choice import choose
from keraship.models.new_folder import new_folder
from keraship.models.rows import PARTS, Array

_DIGITS = 1797
_LEAST_OF_A_CLASS = 5  # so that each of the three splits has one


@dataclass(frozen=True)
class Written:
    """What was written. path: what `--data` takes. rows: images, texts, or rows of the table."""

    kind: str
    path: Path
    rows: int
    classes: tuple[str, ...]
    about: str


@dataclass(frozen=True)
class Kind:
    """One kind of data. write: takes the folder, how many rows and the seed; gives the classes.

    count: how many rows there are by default. least and most: how many there can be.
    """

    write: Callable[[Path, int, int], tuple[str, ...]]
    about: str
    count: Callable[[], int]
    least: int
    most: Callable[[], int]


def make_data(kind: str, out: Path, *, count: int | None = None, seed: int = 0, overwrite: bool = False) -> Written:
    """Write a kind of data, one of KINDS, into a new folder, which appears when all is in it.

    count: how many rows, drawn at random; by default all there are (of scenes 1000). One seed gives one result.
    overwrite: take the place of a folder that holds something.
    Raises DataError for a count that cannot be, and a folder that cannot be written or holds something.
    """
    require("train", "sklearn", "PIL")
    chosen = choose("a kind of data", kind, KINDS)
    rows = chosen.count() if count is None else count
    if not chosen.least <= rows <= chosen.most():
        raise DataError(f"expected a count from {chosen.least} to {chosen.most()} of {kind}; got {count}")
    with new_folder(out, overwrite=overwrite) as folder:
        classes = chosen.write(folder, rows, seed)
    return Written(kind, out, rows, classes, chosen.about)


# Digits


def _write_digits(folder: Path, count: int, seed: int) -> tuple[str, ...]:
    images, labels = _digit_images()
    for number in _balanced(labels, count, seed):
        path = folder / str(labels[number]) / f"digit-{number:04}.png"
        path.parent.mkdir(exist_ok=True)
        _save(images[number], path)
    return tuple("0123456789")


def _digit_images() -> tuple[Array, Array]:
    """Scikit-learn's digits: uint8 [1797, 8, 8], 0 to 255 for their 0 to 16, and labels [1797]."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return np.round(bunch.images * (255 / 16)).astype(np.uint8), bunch.target


def _balanced(labels: Array, count: int, seed: int) -> list[int]:
    """So many row numbers, drawn at random with as many of each class as can be."""
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(labels))
    place = np.empty(len(labels), np.int64)  # among the rows of its class
    for label in np.unique(labels):
        of_class = shuffled[labels[shuffled] == label]
        place[of_class] = np.arange(len(of_class))
    return sorted(int(row) for row in shuffled[np.argsort(place[shuffled], kind="stable")][:count])


def _save(pixels: Array, path: Path) -> None:
    from PIL import Image

    Image.fromarray(pixels).save(path)


# Scenes

_CANVAS = 32
_SIZES = (12, 17)  # pixels of a digit's side, the last left out
_SHARES = {"train": 0.6, "validation": 0.2, "test": 0.2}
_INK = 96  # from this brightness on a pixel is the digit's
_TRIES = 50


def _write_scenes(folder: Path, count: int, seed: int) -> tuple[str, ...]:
    """Scenes in three parts, which have no digit in common: one would know the test's digits by heart."""
    classes = ("background", *(f"digit {digit}" for digit in range(10)))
    (folder / "classes.txt").write_text("\n".join(classes) + "\n", encoding="utf-8")
    rng = np.random.default_rng(seed)
    images, labels = _digit_images()
    digits = np.split(rng.permutation(len(images)), _cuts(len(images)))
    scenes = np.split(np.arange(count), _cuts(count))
    for part, own, numbers in zip(PARTS, digits, scenes, strict=True):
        for name in ("images", "masks"):
            (folder / part / name).mkdir(parents=True)
        for number in numbers:
            scene, mask = _scene(images, labels, own, rng)
            _save(scene, folder / part / "images" / f"scene-{number:05}.png")
            _save(mask, folder / part / "masks" / f"scene-{number:05}.png")
    return classes


def _cuts(count: int) -> list[int]:
    shares = np.cumsum([_SHARES[part] for part in PARTS])[:-1]
    return [round(count * share) for share in shares]


def _scene(images: Array, labels: Array, own: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """One to four digits at random places and sizes, none over another; and the class of each pixel. uint8 [32, 32]."""
    scene, mask = (np.zeros((_CANVAS, _CANVAS), np.uint8) for _ in range(2))
    taken = np.zeros((_CANVAS, _CANVAS), bool)
    for number in rng.choice(own, size=rng.integers(1, 5), replace=False):
        place = _free_place(taken, int(rng.integers(*_SIZES)), rng)
        if place is not None:
            digit = _enlarged(images[number], place[0].stop - place[0].start)
            scene[place], taken[place] = digit, True
            mask[place] = np.where(digit >= _INK, labels[number] + 1, 0)
    return scene, mask


def _free_place(taken: Array, side: int, rng: np.random.Generator) -> tuple[slice, slice] | None:
    """A square where nothing is yet; None where a few tries find none."""
    for _ in range(_TRIES):
        top, left = rng.integers(0, _CANVAS - side + 1, 2)
        place = slice(int(top), int(top) + side), slice(int(left), int(left) + side)
        if not taken[place].any():
            return place
    return None


def _enlarged(digit: Array, side: int) -> Array:
    from PIL import Image

    return np.asarray(Image.fromarray(digit).resize((side, side), Image.Resampling.BILINEAR))


# Texts

_PACKAGES = ("asyncio", "email", "http", "logging", "xml")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_NO_PROSE = re.compile(r">>>|::|--|==|[{}<>]|``|:param")
_WORDS = range(6, 41)


def _write_text(folder: Path, count: int, seed: int) -> tuple[str, ...]:
    rows = _sentences()
    labels = np.array([label for _, label in rows])
    chosen = [rows[number] for number in _balanced(labels, count, seed)]
    _write_csv(folder / "text.csv", ("text", "label"), chosen)
    return _PACKAGES


@functools.cache
def _sentences() -> list[tuple[str, str]]:
    """Every sentence of prose in the packages' docstrings with the package's name; one that two have is left out."""
    of_package = {package: set(_prose(package)) for package in _PACKAGES}
    counts: dict[str, int] = {}
    for sentences in of_package.values():
        for sentence in sentences:
            counts[sentence] = counts.get(sentence, 0) + 1
    return [(text, name) for name, texts in of_package.items() for text in sorted(texts) if counts[text] == 1]


def _prose(package: str) -> Iterator[str]:
    for docstring in _docstrings(package):
        for paragraph in re.split(r"\n\s*\n", docstring):
            for sentence in _SENTENCE_END.split(" ".join(paragraph.split())):
                if _is_prose(sentence):
                    yield sentence


def _is_prose(text: str) -> bool:
    has_form = text[:1].isupper() and text.endswith(".") and len(text.split()) in _WORDS
    return has_form and not _NO_PROSE.search(text)


def _docstrings(package: str) -> Iterator[str]:
    """Every docstring in a package of the standard library, out of its source: nothing is imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"expected the source of the package {package} in Python's standard library; it is not there")
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for path in sorted(Path(spec.submodule_search_locations[0]).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, documented):
                yield ast.get_docstring(node) or ""


# A table

_BAND_OF = "mean area"
_BANDS = ("small", "medium", "large")


def _write_table(folder: Path, count: int, seed: int) -> tuple[str, ...]:
    """The tumours' measurements, with one column of them once more as a word: which third of all it is in."""
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer()
    names = [str(name) for name in bunch.feature_names]
    area = bunch.data[:, names.index(_BAND_OF)]
    bands = np.searchsorted(np.quantile(area, [1 / 3, 2 / 3]), area)
    rows = [
        (
            *(repr(float(value)) for value in bunch.data[row]),
            _BANDS[bands[row]],
            str(bunch.target_names[bunch.target[row]]),
        )
        for row in _balanced(bunch.target, count, seed)
    ]
    _write_csv(folder / "tabular.csv", (*names, f"{_BAND_OF} band", "label"), rows)
    return tuple(str(name) for name in bunch.target_names)


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


KINDS: dict[str, Kind] = {
    "digits": Kind(
        _write_digits,
        "handwritten digits of the UCI set in scikit-learn, 8 x 8 PNG, a folder for each class",
        count=lambda: _DIGITS,
        least=10 * _LEAST_OF_A_CLASS,
        most=lambda: _DIGITS,
    ),
    "scenes": Kind(
        _write_scenes,
        "1 to 4 of those digits on 32 x 32 pixels, with masks: 0 is background, 1 to 10 the digits 0 to 9",
        count=lambda: 1000,
        least=_LEAST_OF_A_CLASS,
        most=lambda: 99_999,
    ),
    "text": Kind(
        _write_text,
        f"sentences out of the docstrings of Python's own {', '.join(_PACKAGES)}; the package is the label",
        count=lambda: len(_sentences()),
        least=len(_PACKAGES) * _LEAST_OF_A_CLASS,
        most=lambda: len(_sentences()),
    ),
    "tabular": Kind(
        _write_table,
        "measurements of 569 tumours (Wisconsin, in scikit-learn), and the column `mean area band`, derived from "
        "`mean area`: small, medium or large by the thirds of all",
        count=lambda: 569,
        least=2 * _LEAST_OF_A_CLASS,
        most=lambda: 569,
    ),
}
"""What can be written, by name."""
