"""ModelServerConfig: which models a server shall have, and what tensorflow_model_server refuses of it, in its words.

Source: tensorflow_serving/model_servers/server_core.cc.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from keraship.errors import FailedPrecondition, InvalidArgument
from keraship.serving.versions import All, Latest, ModelConfig, Policy, Specific

_PLATFORM = "tensorflow"
_LIST = "model_config_list"
_FILE_URI = "file://"
_MODEL_TYPES = {1: _PLATFORM}  # the deprecated field's TENSORFLOW


def read_config(message: Any, current: Sequence[ModelConfig] | None = None) -> list[ModelConfig] | None:
    """The models of a ModelServerConfig; None where it says nothing of models.

    current: the models that it is to replace; None where no list was there before.
    Raises FailedPrecondition for a configuration of another kind than the current one, InvalidArgument for models that
    cannot be.
    """
    kind = message.WhichOneof("config")
    if current is not None and kind != _LIST:
        raise FailedPrecondition(
            "Cannot transition to requested config. It is only legal to transition from one ModelConfigList to another."
        )
    if kind is None:
        return None
    if kind != _LIST:  # where tensorflow_model_server crashes, with these words
        raise InvalidArgument("ModelServer does not yet support custom model config.")
    entries = message.model_config_list.config
    _check_names(entries)
    for entry in entries:
        _check_path(entry.name, entry.base_path)
    for entry in entries:
        _check_platform(entry, {model.name for model in current or ()})
    for entry in entries:
        if entry.HasField("logging_config"):
            raise InvalidArgument("No request-logger-creator provided.")
    return [_read_model(entry) for entry in entries]


def single_model(name: str, base_path: str) -> ModelConfig:
    """The model that flags name; raises InvalidArgument for a path that is not absolute."""
    _check_path(name, base_path)
    return ModelConfig(name, _path(base_path))


def _check_names(entries: Any) -> None:
    names: set[str] = set()
    for entry in entries:
        if entry.name in names:
            raise InvalidArgument(f"Illegal to list model {entry.name} multiple times in config list")
        names.add(entry.name)


def _check_path(name: str, base_path: str) -> None:
    if not Path(base_path).is_absolute() and "://" not in base_path:
        raise InvalidArgument(f"Expected model {name} to have an absolute path or URI; got base_path()={base_path}")


def _check_platform(entry: Any, current: Collection[str]) -> None:
    if entry.model_type and entry.model_platform:
        raise InvalidArgument(
            "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform, "
            f"model name is {entry.name}"
        )
    if entry.model_type and entry.model_type not in _MODEL_TYPES:
        raise InvalidArgument(f"ModelServerConfig::model_type choice {entry.model_type} not supported.")
    platform = entry.model_platform or _MODEL_TYPES.get(entry.model_type, "")
    if not platform:
        raise InvalidArgument(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform, "
            f"model name is {entry.name}"
        )
    if platform != _PLATFORM and entry.name in current:
        raise InvalidArgument(
            f"Illegal to change a model's platform. For model {entry.name} platform was {_PLATFORM} "
            f"and new platform requested is {platform}"
        )
    if platform != _PLATFORM:
        raise InvalidArgument(f"Model {entry.name} requests unsupported platform {platform}")


def _read_model(entry: Any) -> ModelConfig:
    policy, labels = _read_policy(entry.model_version_policy), dict(entry.version_labels)
    return ModelConfig(entry.name, _path(entry.base_path), policy, labels)


def _read_policy(policy: Any) -> Policy:
    choice = policy.WhichOneof("policy_choice")
    if choice == "specific":
        return Specific(frozenset(policy.specific.versions))
    return All() if choice == "all" else Latest(policy.latest.num_versions)


def _path(base_path: str) -> Path:
    return Path(base_path.removeprefix(_FILE_URI))
