"""What an HDF5 file holds, read by a process of its own: a file that crashes HDF5's library harms nobody else."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from keraship import check_hdf5
from keraship.danger import Finding

_PROGRAM = "keraship.check_hdf5"
_TIMEOUT = 2 * check_hdf5.SECONDS  # of waiting, which a slow disk may need


@dataclass(frozen=True)
class Hdf5:
    """What was found; a whole model's attributes, as text; the size in bytes of all arrays but the optimizer's."""

    findings: tuple[Finding, ...]
    attributes: dict[str, str]
    weights_bytes: int


def read_hdf5(path: Path, *, start: int = 0, size: int | None = None, where: str = "") -> Hdf5:
    """Read the HDF5 file at `path`, or the one that is `size` bytes from `start` on.

    where: what findings call it. Raises ValueError where it is damaged.
    """
    length = path.stat().st_size - start if size is None else size
    command = [sys.executable, "-m", _PROGRAM, str(path), str(start), str(length), where]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT, check=False)
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"HDF5's reader came to no end in {_TIMEOUT} s") from error
    if done.returncode:
        raise ValueError(f"HDF5's reader {_ending(done.returncode, done.stderr)}")
    found = json.loads(done.stdout)
    if "error" in found:
        raise ValueError(found["error"])
    findings = tuple(Finding(**finding) for finding in found["findings"])
    return Hdf5(findings, found["attributes"], found["weights_bytes"])


def _ending(code: int, said: bytes) -> str:
    if code < 0:
        return f"was ended by signal {-code}"
    last = said.decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
    return f"failed: {last[0]:.200}"
