"""An export under way: what its steps have come to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from keraship import bundle
from keraship.errors import KerashipError
from keraship.exporter import golden
from keraship.exporter.fidelity import Fidelity, Reference
from keraship.exporter.findings import Findings
from keraship.exporter.formats import FORMATS, Material
from keraship.exporter.job import Job
from keraship.exporter.outcome import Curve, Distribution, Graph, Outcome
from keraship.exporter.verify import TOLERANCES, Checks
from keraship.samples import Samples

if TYPE_CHECKING:
    from keraship.exporter.freeze import Frozen
    from keraship.exporter.signatures import Additions
    from keraship.exporter.trace import Traced

Key = tuple[str, str]
"""An artifact: its scheme and its format."""


@dataclass
class Run:
    """An export under way: what the steps have come to, each field set by the step that is named behind it."""

    job: Job
    stagings: dict[str, bundle.Staging]
    checks: Checks
    model: Any = None  # load
    traced: Traced = None  # type: ignore[assignment]  # trace
    additions: Additions | None = None  # trace
    others: Mapping[str, tuple[golden.Arrays, golden.Arrays]] = field(default_factory=dict)  # sample
    samples: tuple[golden.Arrays, golden.Arrays] = ({}, {})  # sample
    data: Samples = None  # type: ignore[assignment]  # sample
    reference: Reference = None  # type: ignore[assignment]  # sample
    frozen: Frozen = None  # type: ignore[assignment]  # freeze, fold
    graph: Graph | None = None  # freeze
    material: Material = None  # type: ignore[assignment]  # write
    coverage: dict[Key, bundle.Coverage | None] = field(default_factory=dict)  # write
    found: dict[Key, Findings] = field(default_factory=dict)  # verify
    allowed: float = 0.0  # verify
    fidelity: dict[Key, Fidelity] = field(default_factory=dict)  # verify
    graphs: dict[Key, Graph | None] = field(default_factory=dict)  # write
    errors: dict[Key, tuple[Distribution, ...]] = field(default_factory=dict)  # verify
    curves: dict[Key, tuple[Curve, ...]] = field(default_factory=dict)  # verify
    refused: dict[Key, str] = field(default_factory=dict)  # write, verify, gate
    manifests: dict[str, bundle.Manifest] = field(default_factory=dict)  # publish
    outcome: Outcome = None  # type: ignore[assignment]  # publish

    @property
    def keys(self) -> list[Key]:
        """Every artifact that is asked for, the float ones first."""
        return [
            (scheme, format_)
            for scheme in self.job.schemes
            for format_ in self.job.formats
            if scheme in FORMATS[format_].schemes
        ]

    @property
    def made(self) -> list[Key]:
        """Those that were not refused so far."""
        return [key for key in self.keys if key not in self.refused]

    @property
    def tolerance(self) -> float:
        """The relative error that a float artifact may have."""
        base = max((TOLERANCES[dtype] for dtype in self.frozen.float_dtypes), default=TOLERANCES["float32"])
        return max(base, self.allowed)

    def latency(self, key: Key) -> float:
        """The time of the least batch that was timed, in milliseconds: what a caller waits for.

        Of a quantized artifact, the float one's times the ratio of the two, which were called in turns.
        """
        scheme, format_ = key
        size, time = next(iter(self.found["", format_].latency_ms.items()))
        return time * self.found[key].latency_ratio[size].median if scheme else time

    @contextlib.contextmanager
    def refusing(self, key: Key) -> Iterator[None]:
        """A quantized artifact that can't be made, or whose process dies, is refused; the float one ends the export."""
        try:
            yield
        except KerashipError as error:
            if not key[0]:
                raise
            self.refused[key] = str(error)
