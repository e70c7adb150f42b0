"""Which versions a base path holds, and which of them a policy wants served.

Source: tensorflow_serving/sources/storage_path/file_system_storage_path_source.cc.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from keraship.errors import InvalidArgument

_LOG = logging.getLogger(__name__)

_NUMBER = re.compile(r"[+-]?\d+", re.ASCII)
_INT64 = range(-(2**63), 2**63)


class Policy(Protocol):
    """Which of the versions that are there shall be served."""

    def choose(self, model: str, found: list[int]) -> list[int]:
        """The versions wanted, out of `found`, which is in ascending order. model: its name, for the log."""


@dataclass(frozen=True)
class Latest:
    """The `count` highest; at least one."""

    count: int = 1

    def choose(self, model: str, found: list[int]) -> list[int]:
        return found[-max(self.count, 1) :]


@dataclass(frozen=True)
class All:
    """Every version."""

    def choose(self, model: str, found: list[int]) -> list[int]:
        return found


@dataclass(frozen=True)
class Specific:
    """These versions, as far as they are there."""

    versions: frozenset[int]

    def choose(self, model: str, found: list[int]) -> list[int]:
        for version in sorted(self.versions.difference(found)):
            _LOG.warning(
                "Version %d of servable %s, which was requested to be served as a 'specific' version in the "
                "servable's version policy, was not found in the file system",
                version,
                model,
            )
        return [version for version in found if version in self.versions]


@dataclass(frozen=True)
class ModelConfig:
    """A model to be served: its name, the folder that holds its versions, which of those are wanted, and labels."""

    name: str
    base_path: Path
    policy: Policy = Latest()
    labels: Mapping[str, int] = field(default_factory=dict)


def aspired(config: ModelConfig) -> dict[int, Path]:
    """The versions of a model that shall be served now: number -> folder.

    Raises InvalidArgument where the base path cannot be read.
    """
    found = _scan(config)
    chosen = config.policy.choose(config.name, sorted(found))
    if not chosen:
        _LOG.warning(
            "No versions of servable %s found under base path %s. "
            "Did you forget to name your leaf directory as a number (eg. '/1/')?",
            config.name,
            config.base_path,
        )
    return {version: found[version] for version in chosen}


def _scan(config: ModelConfig) -> Mapping[int, Path]:
    """Every entry whose name is a number, files too: what is wrong with those, the loading says."""
    found: dict[int, Path] = {}
    for name in sorted(_list(config)):
        if _NUMBER.fullmatch(name) and len(name) < 40 and int(name) in _INT64:
            if int(name) in found:
                _LOG.warning(
                    "Duplicate version directories detected. Version %d will be loaded from %s, %s will be ignored.",
                    int(name),
                    name,
                    found[int(name)].name,
                )
            found[int(name)] = config.base_path / name
    return found


def _list(config: ModelConfig) -> list[str]:
    try:
        return os.listdir(config.base_path)
    except FileNotFoundError as error:
        raise InvalidArgument(
            f"Could not find base path {config.base_path} for servable {config.name} "
            f"with error NOT_FOUND: {config.base_path} not found"
        ) from error
    except OSError as error:
        raise InvalidArgument(f"{config.base_path}; {error.strerror}") from error
