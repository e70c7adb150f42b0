"""A run's configuration as a TOML file."""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keraship.errors import TrainingError
from keraship.models.config import TrainConfig, as_plain

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def read_config(path: Path, **changes: Any) -> TrainConfig:
    """The configuration in a TOML file: the fields of TrainConfig by their names; `network` and `out` are needed.

    changes: fields that win over those of the file; of the tables, entry by entry.
    Raises TrainingError for a file that cannot be read, options that there are not, and what TrainConfig refuses.
    """
    return make_config({**read_options(path), **changes})


def read_options(path: Path) -> dict[str, Any]:
    """The options in a TOML file, by name, all of them known. Raises TrainingError, as read_config does."""
    try:
        with path.open("rb") as file:
            options = tomllib.load(file)
    except (OSError, ValueError) as error:  # not UTF-8, or no TOML
        raise TrainingError(f"expected a TOML file of options in {path}; it cannot be read: {error}") from error
    names = [field.name for field in dataclasses.fields(TrainConfig)]
    unknown = [_guess(name, names) for name in options if name not in names]
    if unknown:
        raise TrainingError(
            f"expected the options of a training run in {path}, as keraship train --help lists them; "
            f"got {'; '.join(unknown)}"
        )
    return options


def make_config(options: Mapping[str, Any]) -> TrainConfig:
    """The configuration of these options; raises TrainingError where network or out is not among them."""
    missing = [name for name in ("network", "out") if name not in options]
    if missing:
        raise TrainingError(
            f"expected {' and '.join(missing)} among the options of a training run; got {', '.join(options) or 'none'}"
        )
    for name in ("network", "out", "data"):
        if not isinstance(options.get(name, ""), str | Path):
            raise TrainingError(f"expected {name} to be text, got {options[name]!r}")
    return TrainConfig(**options)


def parse_value(text: str) -> Any:
    """A value as TOML has it, such as 0.1, true or [1, 2]; any other text is itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def as_toml(config: TrainConfig) -> str:
    """What read_config reads as this configuration; fields that are None are left out, as TOML has no such value."""
    plain = {name: value for name, value in as_plain(config).items() if value is not None}
    lines = [f"{name} = {_value(value)}" for name, value in plain.items() if not isinstance(value, dict)]
    tables = {name: value for name, value in plain.items() if isinstance(value, dict) and value}
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{_key(key)} = {_value(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def _guess(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return f"{name!r}, did you mean {near[0]!r}?" if near else repr(name)


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else json.dumps(key)


def _value(value: Any) -> str:
    """JSON's text and lists are TOML's as well, but for the one control character that JSON lets through."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
