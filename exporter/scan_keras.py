"""What is dangerous in a .keras archive or an .h5 file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from keraship.danger import Finding
from keraship.errors import ModelError
from keraship.hdf5_file import read_hdf5
from keraship.keras_read import read_keras
from keraship.reasons import reason


def scan_keras(path: Path) -> Iterator[Finding]:
    """The model's configuration, its weights, the archive around them; raises ModelError where it is not whole."""
    file = read_keras(path)
    yield from file.findings
    known = {(found.kind, found.where) for found in file.findings}
    for found in file.of_training:
        if (found.kind, found.where) not in known:
            yield replace(found, where=f"compile_config{f'/{found.where}' if found.where else ''}")


def scan_hdf5(path: Path) -> Iterator[Finding]:
    """A whole model, or weights alone; raises ModelError where it is not whole."""
    try:
        file = read_hdf5(path)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is not a whole .h5 file ({reason(error)}); save the model again") from error
    yield from scan_keras(path) if "model_config" in file.attributes else file.findings
