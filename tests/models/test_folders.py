from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keraship.errors import DataError
from keraship.models.data import Rows, fetch_all, load
from keraship.models.pipeline import batches
from keraship.models.rows import Array

RNG = np.random.default_rng(0)


def picture(path: Path, *, size: tuple[int, int] = (12, 10), mode: str = "RGB") -> Path:
    """A real image file of (height, width)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = {"RGB": (3,), "RGBA": (4,), "L": (), "CMYK": (4,)}[mode]
    Image.fromarray(RNG.integers(0, 256, (*size, *channels), np.uint8), mode).save(path)
    return path


def mask(path: Path, ids: Array) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ids.astype(np.uint8)).save(path)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Ten images of each of two classes, PNG and JPEG."""
    for name in ("cats", "dogs"):
        for number in range(10):
            picture(tmp_path / "photos" / name / f"{number}.{'png' if number % 2 else 'jpg'}")
    return tmp_path / "photos"


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Ten images with masks of three classes."""
    for number in range(10):
        picture(tmp_path / "scenes/images" / f"{number}.jpg")
        mask(tmp_path / "scenes/masks" / f"{number}.png", RNG.integers(0, 3, (12, 10)))
    return tmp_path / "scenes"


def refused(path: Path) -> str:
    with pytest.raises(DataError) as error:
        load(str(path), seed=0)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_class_folders(photos: Path) -> None:
    """The folders' names are the classes; the images come in the size and the colours that they have."""
    data = load(str(photos), seed=0)
    assert (data.task.kind, data.task.classes, data.task.image_shape) == (
        "classification",
        ("cats", "dogs"),
        (12, 10, 3),
    )
    assert data.task.maximum == 255
    assert [len(part) for part in (data.train, data.validation, data.test)] == [12, 4, 4]
    inputs, labels = fetch_all(data.test)
    assert (inputs["images"].shape, inputs["images"].dtype) == ((4, 12, 10, 3), np.float32)
    assert np.bincount(labels).tolist() == [2, 2]


def test_each_image_has_its_own_class(photos: Path) -> None:
    """Over all the splits every file is there once, its pixels under its folder's class."""
    data = load(str(photos), seed=0)
    seen = set()
    for part in (data.train, data.validation, data.test):
        inputs, labels = fetch_all(part)
        seen |= {(image.tobytes(), int(label)) for image, label in zip(inputs["images"], labels, strict=True)}
    expected = set()
    for path in photos.glob("*/*.*"):
        pixels = np.asarray(Image.open(path).convert("RGB"), np.float32)
        expected.add((pixels.tobytes(), ["cats", "dogs"].index(path.parent.name)))
    assert seen == expected


def test_gray_and_sizes(tmp_path: Path) -> None:
    """Gray images stay gray; of many sizes it is the median in steps of 8, unless one is asked for."""
    for name in ("a", "b"):
        for number in range(6):
            picture(tmp_path / name / f"{number}.png", size=(20 + number, 30), mode="L")
    assert load(str(tmp_path), seed=0).task.image_shape == (24, 32, 1)
    assert load(str(tmp_path), seed=0, image_size=(9, 7)).task.image_shape == (9, 7, 1)


def test_parts_that_are_given(tmp_path: Path) -> None:
    """Folders called train, validation and test are taken as they are; one that is missing is drawn from train."""
    for part, count in (("train", 10), ("val", 3), ("test", 2)):
        for name in ("a", "b"):
            for number in range(count):
                picture(tmp_path / part / name / f"{part}{number}.png")
    data = load(str(tmp_path), seed=0)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [20, 6, 4]
    for path in (tmp_path / "val").rglob("*.png"):
        path.unlink()
    for path in sorted((tmp_path / "val").rglob("*"), reverse=True):
        path.rmdir()
    (tmp_path / "val").rmdir()
    data = load(str(tmp_path), seed=0)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [16, 4, 4]


def spoil(photos: Path) -> dict[str, str]:
    """One of each thing that can be wrong with class folders: what is said of which path."""
    (photos / "cats" / "0.jpg").write_bytes((photos / "cats" / "0.jpg").read_bytes()[:-200])
    (photos / "cats" / "1.png").write_bytes((photos / "cats" / "1.png").read_bytes()[:-60])
    (photos / "cats" / "2.jpg").write_bytes(b"")
    (photos / "cats" / "4.jpg").write_bytes((photos / "cats" / "3.png").read_bytes())
    (photos / "dogs" / "0.jpg").write_text("not an image")
    (photos / "dogs" / "notes.txt").write_text("notes")
    picture(photos / "dogs" / "2.jpg", mode="CMYK")
    (photos / "birds").mkdir()
    picture(photos / "stray.png")
    return {
        "cats/0.jpg": "cannot be read to its end",
        "cats/1.png": "cannot be read to its end",
        "cats/2.jpg": "is empty",
        "cats/4.jpg": "holds PNG, but its name says JPEG",
        "dogs/0.jpg": "is no image; expected JPEG",
        "dogs/notes.txt": "expected a file that ends in",
        "dogs/2.jpg": "has colours of mode CMYK",
        "birds": "is an empty class folder",
        "stray.png": "lies beside the class folders",
    }


def test_bad_files_are_refused(photos: Path) -> None:
    """By default the whole list of what is wrong is one error, by path, with what to do."""
    expected = spoil(photos)
    message = refused(photos)
    assert f"got {len(expected)} faults" in message
    assert "--on-bad skip" in message
    for path, what in expected.items():
        assert f"{photos / path}: {what}" in message


def test_bad_files_are_skipped(photos: Path) -> None:
    """As asked, the rest is loaded, and the list goes with it."""
    expected = spoil(photos)
    data = load(str(photos), seed=0, on_bad="skip")
    assert {fault.path for fault in data.faults} == {str(photos / path) for path in expected}
    assert data.task.classes == ("cats", "dogs")
    assert len(data.train) + len(data.validation) + len(data.test) == 14


def test_names_that_are_no_utf8(photos: Path) -> None:
    """A file system takes any bytes for a name: such an image is used like others, such a class is refused."""
    odd = os.fsdecode(b"\xff\xfe \xc3\xbc.png")
    (photos / "cats" / "1.png").rename(photos / "cats" / odd)
    data = load(str(photos), seed=0)
    images, _ = fetch_all(data.train)
    read = np.concatenate([np.asarray(batch) for batch, _ in batches(data.train, batch_size=5)])
    np.testing.assert_array_equal(read, images["images"])
    (photos / "cats" / odd).write_bytes(b"")
    assert "\\udcff\\udcfe \u00fc.png: is empty" in refused(photos)
    (photos / "cats").rename(photos / odd)
    assert "expected class folders whose names are UTF-8" in refused(photos)


def test_links(photos: Path) -> None:
    """Links to files and folders are followed; one to nowhere is a fault, and one to where it is in is refused."""
    shutil.move(photos / "cats", photos.parent / "elsewhere")
    (photos / "cats").mkdir()
    (photos / "cats" / "more").symlink_to(photos.parent / "elsewhere")
    data = load(str(photos), seed=0)
    assert len(data.train) + len(data.validation) + len(data.test) == 20
    (photos / "cats" / "nowhere.png").symlink_to(photos / "nothing.png")
    assert f"{photos / 'cats' / 'nowhere.png'}: cannot be read" in refused(photos)
    (photos / "cats" / "round").symlink_to(photos)
    assert "cats/round: Too many levels of symbolic links" in refused(photos)


def test_a_broken_checksum(photos: Path) -> None:
    """A PNG with a flipped bit is found, though its pixels can still be unpacked."""
    path = photos / "cats" / "1.png"
    content = bytearray(path.read_bytes())
    content[-20] ^= 1  # the data's checksum
    path.write_bytes(content)
    assert f"{path}: cannot be read to its end" in refused(photos)


def test_a_long_list(tmp_path: Path) -> None:
    """Twenty are listed, the others counted."""
    for number in range(30):
        picture(tmp_path / "a" / f"{number}.png").write_bytes(b"")
        picture(tmp_path / "b" / f"{number}.png")
    message = refused(tmp_path)
    assert message.count("is empty") == 20
    assert "got 30 faults" not in message  # the class that lost all its files is told too
    assert "got 31 faults" in message
    assert "and 11 more" in message


@pytest.mark.parametrize("on_bad", ["refuse", "skip"])
def test_one_class(on_bad: str, tmp_path: Path) -> None:
    """One class is nothing to learn, even where faults are skipped."""
    for number in range(5):
        picture(tmp_path / "only" / f"{number}.png")
    with pytest.raises(DataError, match="one class only, 'only'; it takes two"):
        load(str(tmp_path), seed=0, on_bad=on_bad)


def test_nothing_that_can_be_told(tmp_path: Path) -> None:
    """What is there is listed beside what is expected."""
    assert "expected class folders" in refused(tmp_path)
    assert "got an empty folder" in refused(tmp_path)
    picture(tmp_path / "1.png")
    assert "got the files 1.png" in refused(tmp_path)
    for number in range(3):
        picture(tmp_path / "a" / f"{number}.png")
        (tmp_path / "a" / f"{number}.txt").write_text("text")
    assert "got the folders a, in them 3 .png, 3 .txt and the files 1.png" in refused(tmp_path)


def test_a_class_that_a_part_lacks(tmp_path: Path) -> None:
    """Parts have one set of classes: one too many and one too few are told."""
    for path in ("train/a", "train/b", "test/a", "test/c"):
        for number in range(5):
            picture(tmp_path / path / f"{number}.png")
    message = refused(tmp_path)
    assert f"{tmp_path / 'test/c'}: is a class that the training part does not have" in message
    assert f"{tmp_path / 'test/b'}: is not there" in message


def test_masks(scenes: Path) -> None:
    """Each image goes with the mask of its name, class ids as they are."""
    data = load(str(scenes), seed=0)
    assert (data.task.kind, data.task.classes) == ("segmentation", ("0", "1", "2"))
    seen = {}
    for part in (data.train, data.validation, data.test):
        inputs, masks = fetch_all(part)
        assert (masks.dtype, masks.shape) == (np.int64, (len(part), 12, 10))
        seen |= {image.tobytes(): ids for image, ids in zip(inputs["images"], masks, strict=True)}
    for path in (scenes / "images").iterdir():
        pixels = np.asarray(Image.open(path), np.float32)
        expected = np.asarray(Image.open(scenes / "masks" / f"{path.stem}.png"))
        np.testing.assert_array_equal(seen[pixels.tobytes()], expected)


def test_masks_with_a_palette(scenes: Path) -> None:
    """In a mask with a palette the places in it are the classes, whatever their colours."""
    for path in (scenes / "masks").iterdir():
        ids = Image.open(path).copy()
        ids.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200])
        ids.save(path)
    assert load(str(scenes), seed=0).task.classes == ("0", "1", "2")


def test_bad_masks(scenes: Path) -> None:
    """A mask of another size, of a class that is none, of colours; an image or a mask alone: all in one list."""
    mask(scenes / "masks/0.png", np.zeros((12, 11)))
    mask(scenes / "masks/1.png", np.full((12, 10), 255))
    picture(scenes / "masks/2.png")
    picture(scenes / "images/alone.jpg")
    mask(scenes / "masks/lost.png", np.zeros((12, 10)))
    (scenes / "readme.md").write_text("about")
    message = refused(scenes)
    for path, what in {
        "masks/0.png": "is 11 x 12 pixels, its image 10 x 12; expected one size",
        "masks/1.png": "has the class id 255; the masks have 3 without a gap",
        "masks/2.png": "is a mask of mode RGB",
        "images/alone.jpg": "has no mask of its name",
        "masks/lost.png": "has no image of its name",
        "readme.md": "lies beside `images` and `masks`",
    }.items():
        assert f"{scenes / path}: {what}" in message
    data = load(str(scenes), seed=0, on_bad="skip")
    assert len(data.train) + len(data.validation) + len(data.test) == 7
    assert data.task.classes == ("0", "1", "2")


def test_named_classes(scenes: Path) -> None:
    """classes.txt names the ids, also those that no mask has; an id beyond it is out of range."""
    (scenes / "classes.txt").write_text("sky\nsea\nland\nship\n")
    assert load(str(scenes), seed=0).task.classes == ("sky", "sea", "land", "ship")
    (scenes / "classes.txt").write_text("sky\nsea\n")
    assert "has the class id 2; classes.txt names 2" in refused(scenes)


def test_names_of_classes_that_cannot_be_read(scenes: Path) -> None:
    """classes.txt is a text."""
    (scenes / "classes.txt").write_bytes(b"\xff\xfesky")
    assert "expected a text in UTF-8 in" in refused(scenes)


def test_images_without_masks(tmp_path: Path) -> None:
    """A folder of one half of the pairs is told from class folders."""
    picture(tmp_path / "images/1.png")
    assert "expected the folders `images` and `masks`" in refused(tmp_path)


def test_texts(tmp_path: Path) -> None:
    """Class folders of .txt files are texts; an empty one and one that is no UTF-8 are faults."""
    for name in ("ham", "spam"):
        for number in range(5):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / f"{number}.txt").write_text(f"{name} na\u00efve {number}\n", encoding="utf-8")
    data = load(str(tmp_path), seed=0)
    assert data.task.has_text
    assert data.task.classes == ("ham", "spam")
    assert all(_is_right(part) for part in (data.train, data.validation, data.test))
    (tmp_path / "ham/0.txt").write_text(" \n")
    (tmp_path / "ham/1.txt").write_bytes(b"\xff\xfe\x00")
    message = refused(tmp_path)
    assert f"{tmp_path / 'ham/0.txt'}: is empty" in message
    assert f"{tmp_path / 'ham/1.txt'}: is no text in UTF-8" in message


def _is_right(part: Rows) -> bool:
    inputs, labels = fetch_all(part)
    names = ["ham" if label == 0 else "spam" for label in labels]
    return all(text.startswith(f"{name} na\u00efve") for text, name in zip(inputs["text"], names, strict=True))
