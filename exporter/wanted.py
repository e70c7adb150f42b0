"""Which signatures are wanted beside the model's own, checked as far as that goes without TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from keraship.errors import ExportError

CLASSIFY, REGRESS, PREDICT_IMAGES = "classify", "regress", "predict_images"

SCALES: dict[str, tuple[float, float]] = {
    "none": (1.0, 0.0),
    "0..1": (1 / 255, 0.0),
    "1/255": (1 / 255, 0.0),
    "-1..1": (1 / 127.5, -1.0),
}
"""What a model that doesn't scale its pixels was trained on: name -> (factor, offset) for pixels of 0 to 255."""


@dataclass(frozen=True)
class Wanted:
    """The signatures to add.

    classify, regress: those of tf.Example. labels: the classes' names, in the order of the scores; their numbers where
    it is empty. image_input: the input that images are for; "" for the only one that can be; None for no such
    signature. image_scale: out of SCALES.
    """

    classify: bool = False
    regress: bool = False
    labels: tuple[str, ...] = ()
    image_input: str | None = None
    image_scale: str = "none"

    def __post_init__(self) -> None:
        if self.labels and not self.classify:
            raise ExportError("labels are what the signature classify answers with: ask for it too (--classify)")
        if self.image_scale not in SCALES:
            raise ExportError(f"expected an image scale out of {', '.join(SCALES)}; got {self.image_scale}")
        if self.image_scale != "none" and self.image_input is None:
            raise ExportError("an image scale is of use with the signature predict_images: ask for it (--image-input)")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of these signatures."""
        asked = {CLASSIFY: self.classify, REGRESS: self.regress, PREDICT_IMAGES: self.image_input is not None}
        return tuple(name for name, is_asked in asked.items() if is_asked)


def want(
    formats: Sequence[str],
    *,
    classify: bool,
    regress: bool,
    labels: Sequence[str] | Path | str | None,
    image_input: bool | str,
    image_scale: str,
) -> Wanted:
    """What the arguments of `export` ask for; raises ExportError where they contradict each other."""
    image = None if image_input is False else "" if image_input is True else image_input
    wanted = Wanted(classify, regress, read_labels(labels), image, image_scale)
    if wanted.names and "saved_model" not in formats:
        raise ExportError(
            f"only a SavedModel can have the signature {' and '.join(wanted.names)}: add saved_model to the formats"
        )
    return wanted


def read_labels(labels: Sequence[str] | Path | str | None) -> tuple[str, ...]:
    """Labels as people give them: a list, a file with one a line, or a text with commas between them.

    Raises ExportError for a file that cannot be read, a label that is empty, and one given twice.
    """
    if labels is None:
        return ()
    if isinstance(labels, Path) or (isinstance(labels, str) and Path(labels).is_file()):
        found = _lines(Path(labels))
    else:
        found = [part.strip() for part in labels.split(",")] if isinstance(labels, str) else list(labels)
    if not all(found):
        raise ExportError(f"expected a name for every label; number {found.index('')} is empty")
    twice = next((label for label in found if found.count(label) > 1), None)
    if twice is not None:
        raise ExportError(f"expected a different name for each label; {twice!r} is given twice")
    return tuple(found)


def _lines(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(f"expected a text file with a label a line at {path}: {error}") from error
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise ExportError(f"expected a label a line in {path}; it is empty")
    return lines
