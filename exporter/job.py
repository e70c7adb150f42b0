"""What an export is asked for: the options, checked as far as they can be without TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keraship.errors import ExportError
from keraship.exporter.formats import CALIBRATED, FORMATS, SCHEMES
from keraship.exporter.wanted import Wanted
from keraship.samples import Samples, check_readable

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """What is asked for, checked as far as it can be without TensorFlow. The first scheme is "", the float model."""

    model: Any
    name: str
    formats: tuple[str, ...]
    schemes: tuple[str, ...]
    inputs: Sequence[str] | None
    outputs: Sequence[str] | None
    calibrate: Path | Samples | None
    evaluate: Path | Samples | None
    max_drop: float
    tune: bool
    keep_passing: bool
    timed: tuple[int, ...]
    imports: tuple[str, ...]
    trust: bool
    signature: str | None
    wanted: Wanted
    report: Progress


def chosen(what: str, asked: Sequence[str], known: Mapping[str, Any] | Sequence[str]) -> tuple[str, ...]:
    """The names asked for, each once; raises ExportError for one that is not known, or for none."""
    names = tuple(dict.fromkeys([asked] if isinstance(asked, str) else asked))
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ExportError(f"expected {what} out of {', '.join(known)}; got {', '.join(unknown) or 'none'}")
    return names


def schemes(formats: Sequence[str], asked: Sequence[str], *, calibrated: bool, tune: bool) -> tuple[str, ...]:
    """The schemes to make, the float model first."""
    formats = chosen("formats", formats, FORMATS)
    possible = {scheme for format_ in formats for scheme in FORMATS[format_].schemes}
    if tune:
        return "", *(name for name in SCHEMES if name in possible and (calibrated or name not in CALIBRATED))
    names = chosen("schemes to quantize by", asked, SCHEMES) if asked else CALIBRATED if calibrated else ()
    needing = [scheme for scheme in names if scheme in CALIBRATED]
    if needing and not calibrated:
        raise ExportError(
            f"{needing[0]} has to be calibrated on data like that which the model will be asked: --calibrate DATA"
        )
    for scheme in names:
        if scheme not in possible:
            raise ExportError(f"expected a scheme that {' or '.join(formats)} can hold; got {scheme}")
    return "", *names


def checked(data: Path | str | Samples | None) -> Path | Samples | None:
    """The data, or where it is; whatever is not there is said before TensorFlow is imported."""
    if data is None or isinstance(data, Samples):
        return data
    check_readable(Path(data))
    return Path(data)
