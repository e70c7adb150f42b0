"""Which versions a base path holds, and which of them a policy wants served."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from keraship.errors import NotFound

_LOG = logging.getLogger(__name__)

_NUMBER = re.compile(r"[+-]?\d+", re.ASCII)
_INT64 = range(-(2**63), 2**63)


class Policy(Protocol):
    """Which of the versions that are there shall be served."""

    def choose(self, found: list[int]) -> list[int]:
        """The versions wanted, out of `found`, which is in ascending order."""


@dataclass(frozen=True)
class Latest:
    """The `count` highest; at least one."""

    count: int = 1

    def choose(self, found: list[int]) -> list[int]:
        return found[-max(self.count, 1) :]


@dataclass(frozen=True)
class All:
    """Every version."""

    def choose(self, found: list[int]) -> list[int]:
        return found


@dataclass(frozen=True)
class Specific:
    """These versions, as far as they are there."""

    versions: frozenset[int]

    def choose(self, found: list[int]) -> list[int]:
        missing = sorted(self.versions.difference(found))
        if missing:
            _LOG.warning("Version %s was requested, but was not found", ", ".join(map(str, missing)))
        return [version for version in found if version in self.versions]


@dataclass(frozen=True)
class ModelConfig:
    """A model to be served: its name, the folder that holds its versions, and which of those are wanted."""

    name: str
    base_path: Path
    policy: Policy = Latest()


def aspired(config: ModelConfig) -> dict[int, Path]:
    """The versions of a model that shall be served now: number -> folder.

    Raises NotFound where the base path cannot be read.
    """
    found = _scan(config)
    if not found:
        _LOG.warning(
            "No versions of servable %s found under base path %s. "
            "Did you forget to name your leaf directory as a number (eg. '/1/')?",
            config.name,
            config.base_path,
        )
    return {version: found[version] for version in config.policy.choose(sorted(found))}


def _scan(config: ModelConfig) -> Mapping[int, Path]:
    """Every entry whose name is a number, files too: what is wrong with those, the loading says."""
    try:
        names = sorted(os.listdir(config.base_path))
    except OSError as error:
        raise NotFound(
            f"Could not find base path {config.base_path} for servable {config.name} with error {error.strerror}"
        ) from error
    found: dict[int, Path] = {}
    for name in names:
        if _NUMBER.fullmatch(name) and len(name) < 40 and int(name) in _INT64:
            if int(name) in found:
                _LOG.warning("Duplicate version directories detected. Version %s will be loaded, %s will not be loaded",
                             name, found[int(name)].name)  # fmt: skip
            found[int(name)] = config.base_path / name
    return found
