"""What an export came to: every artifact with its verdict, and what pictures of it need. Stored beside the manifest.

The exporter makes an Outcome, `report` and `table` show it. All of it is plain values, so that a page can be made again
from the file that `write_outcome` writes, without the model, its data or any runtime.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from keraship.bundle import Artifact, Manifest, Source
from keraship.errors import BundleError, VerificationError
from keraship.signature import Signature

OUTCOME = "keraship/report.json"

Verdict = Literal["BEST", "OK", "REFUSED"]


@dataclass(frozen=True)
class Distribution:
    """How the absolute errors of one output are spread, on a log scale.

    edges: ascending, one more than counts; a bin holds what is from its left edge on and below its right one.
    equal: how many elements do not differ at all. not_finite: how many differ by no number (infinities, NaN on one
    side).
    """

    output: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    equal: int = 0
    not_finite: int = 0

    @property
    def total(self) -> int:
        """The number of elements."""
        return sum(self.counts) + self.equal + self.not_finite


@dataclass(frozen=True)
class Curve:
    """The precision-recall curve of one class; average_precision is the area under it, in steps."""

    name: str
    positives: int
    average_precision: float
    recall: tuple[float, ...]
    precision: tuple[float, ...]


@dataclass(frozen=True)
class Block:
    """Ops of a graph that follow one another without a branch, drawn as one box.

    name: the layers that they come from, empty where the graph does not tell. ops: in their order. weights: the number
    of elements of their constants, by dtype. inputs: the indices of the blocks that it reads, all below its own.
    """

    name: str
    ops: tuple[str, ...]
    weights: dict[str, int]
    inputs: tuple[int, ...]


@dataclass(frozen=True)
class Graph:
    """A graph in short. ops: how many there are by type. blocks: what is drawn of it, in an order to compute them."""

    ops: dict[str, int]
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Row:
    """What became of one artifact.

    scheme: how it is quantized, empty for the float model. artifact: what was measured; None where it was refused
    before it could be. reason: why it was refused, or is the best. errors: of each output, against the Keras model.
    curves: of each class, on the data that it was evaluated on. graph: as it was written.
    """

    model_name: str
    scheme: str
    format: str
    artifact: Artifact | None
    verdict: Verdict
    reason: str = ""
    errors: tuple[Distribution, ...] = ()
    curves: tuple[Curve, ...] = ()
    graph: Graph | None = None


@dataclass(frozen=True)
class Outcome:
    """One export, as people look at it.

    name: the float model's in the repository. curves, graph: of the Keras model. max_drop: the percentage points of
    accuracy that a quantized artifact was allowed to lose. notes: what the exporter did to the model, a sentence each.
    machine: what the latencies were measured on.
    """

    name: str
    source: Source
    signatures: dict[str, Signature]
    rows: tuple[Row, ...]
    tools: dict[str, str] = field(default_factory=dict)
    curves: tuple[Curve, ...] = ()
    graph: Graph | None = None
    max_drop: float | None = None
    notes: tuple[str, ...] = ()
    machine: str = ""

    @property
    def best(self) -> Row | None:
        """The artifact that is to be preferred."""
        return next((row for row in self.rows if row.verdict == "BEST"), None)


class RefusedError(VerificationError):
    """A quantized artifact may not be published, and so nothing was; `outcome` tells what was measured of each."""

    def __init__(self, message: str, outcome: Outcome) -> None:
        super().__init__(message)
        self.outcome = outcome


def from_manifest(name: str, manifest: Manifest) -> Outcome:
    """What a manifest alone tells: the artifacts of one version, without pictures of their errors, curves, graphs."""
    return Outcome(
        name=name,
        source=manifest.source,
        signatures=manifest.signatures,
        rows=tuple(Row(name, manifest.scheme, artifact.format, artifact, "OK") for artifact in manifest.artifacts),
        tools=manifest.tools,
    )


def write_outcome(folder: Path, outcome: Outcome) -> None:
    """Write the outcome into a version that is being made; the same outcome gives the same bytes."""
    path = folder / OUTCOME
    path.parent.mkdir(exist_ok=True)
    # Python's own JSON, for a refused artifact's error may be infinite
    path.write_text(json.dumps(msgspec.to_builtins(outcome), indent=1) + "\n")


def read_outcome(folder: Path) -> Outcome | None:
    """The outcome that a version was published with; None for one that was published without.

    Raises BundleError where it is broken.
    """
    path = folder / OUTCOME
    try:
        return msgspec.convert(json.loads(path.read_text()), Outcome)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"expected a report as keraship export writes it at {path}: {error}") from error
