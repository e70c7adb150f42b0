"""Models of every kind, small, without training: what an exporter has to get right. `build(name)` makes one.

Their weights are random and the same in every process; moving statistics, scales and biases are moved away from what
hides errors. "Right" therefore means: as the Keras model answers. How accurate a trained model stays is not seen here.
"""

from __future__ import annotations

from zoo import applications, augmentation, code, features, layer_kinds, networks, precision, sequences, shapes  # noqa: F401
from zoo.table import MODELS, build

__all__ = ["APPLICATIONS", "MODELS", "ODD", "all_names", "build"]

APPLICATIONS = applications.smallest()
"""One member of each family of keras.applications."""

ODD = [name for name in MODELS if not any(name in members for members in applications.FAMILIES.values())]
"""The models of our own."""


def all_names(*, all_members: bool = False) -> list[str]:
    """The models in the order in which they run: the small ones first. all_members: every member of each family."""
    members = [name for names in applications.FAMILIES.values() for name in names] if all_members else APPLICATIONS
    return [*ODD, *members]
