"""What the exporter asks of a runtime in a fresh process, and what that process answers: the words between the two."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import msgspec

from keraship.bundle import Quality
from keraship.signature import Signature


@dataclass(frozen=True)
class Request:
    """One artifact to be checked.

    version: the folder that holds it. cases: folders with golden samples, by number of rows. whole: the case whose
    rows are asked one by one and whose first rows are timed. batchable: whether the number of rows is free.
    evaluate: a data file with labels; None to leave quality out. answer: the file to write the Findings into.
    """

    version: str
    signature: Signature
    cases: dict[str, str]
    whole: str
    batchable: bool
    evaluate: str | None
    answer: str


@dataclass(frozen=True)
class Comparison:
    """One output of one batch: how far it was from the expected one.

    max_abs: the largest difference; infinite where shapes, dtypes or NaNs differ, or texts. magnitude: the largest
    of the expected values. agreement: the share of rows with the same top-1 class; None where there are no classes.
    """

    rows: int
    output: str
    shape: tuple[int, ...]
    max_abs: float
    magnitude: float
    agreement: float | None = None

    @property
    def max_rel(self) -> float:
        """max_abs over the magnitude; outputs that are all zero are measured against 1."""
        return self.max_abs / (self.magnitude or 1.0)


@dataclass(frozen=True)
class Findings:
    """What one artifact did in a fresh process.

    faults: what is wrong whatever the tolerance, a sentence each. repeat_error: how far two answers to one question
    were apart; row_error: how far a batch's answer was from its rows' answers, None where that can't be asked; both
    relative. latency_ms: the median of one call, by number of rows.
    """

    load_seconds: float
    faults: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    repeat_error: float
    row_error: float | None
    latency_ms: dict[str, float] = field(default_factory=dict)
    quality: Quality | None = None


def encode(message: Request | Findings) -> str:
    """One line of JSON; Python's own, for differences may be infinite."""
    return json.dumps(msgspec.to_builtins(asdict(message)))


def decode_request(line: str) -> Request:
    """The request in a line of JSON."""
    return msgspec.convert(json.loads(line), Request)


def read_findings(path: Path) -> Findings:
    """The findings that a child wrote."""
    return msgspec.convert(json.loads(path.read_text()), Findings)
