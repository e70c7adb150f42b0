"""What the exporter asks of a runtime in a fresh process, and what that process answers: the words between the two."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import msgspec

from keraship.signature import Signature

READY, DONE = "ready", "done"
"""What a runtime's process says on lines of their own: once it is imported, and after each request."""


@dataclass(frozen=True)
class Request:
    """One artifact to be checked.

    version: the folder that holds it. cases: folders with golden samples, by number of rows. whole: the case whose
    rows are asked one by one and timed. batchable: whether the number of rows is free. timed: the numbers of rows to
    time. baseline: a version's folder with an artifact of the same format, to be timed beside this one. data: an .npz
    file of inputs whose answers go into the file `answers`. answer: the file to write the Findings into. others: the
    signatures that it must have besides, each with golden samples of its own in the version's folder.
    """

    version: str
    signature: Signature
    cases: dict[str, str]
    whole: str
    batchable: bool
    timed: tuple[int, ...]
    answer: str
    baseline: str | None = None
    data: str | None = None
    answers: str | None = None
    others: dict[str, Signature] = field(default_factory=dict)


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
class Ratio:
    """How long a call takes, over what the baseline takes for it: the median of pairs, with its 95 % interval."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Findings:
    """What one artifact did in a fresh process.

    faults: what is wrong whatever the tolerance, a sentence each. repeat_error: how far two answers to one question
    were apart; row_error: how far a batch's answer was from its rows' answers, None where that can't be asked; both
    relative. latency_ms: the median of one call, by number of rows; latency_ratio: against the baseline.
    """

    load_seconds: float
    faults: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    repeat_error: float
    row_error: float | None
    latency_ms: dict[str, float] = field(default_factory=dict)
    latency_ratio: dict[str, Ratio] = field(default_factory=dict)


def encode(message: Request | Findings) -> str:
    """One line of JSON; Python's own, for differences may be infinite."""
    return json.dumps(msgspec.to_builtins(asdict(message)))


def decode_request(line: str) -> Request:
    """The request in a line of JSON."""
    return msgspec.convert(json.loads(line), Request)


def read_findings(path: Path) -> Findings:
    """The findings that a child wrote."""
    return msgspec.convert(json.loads(path.read_text()), Findings)
