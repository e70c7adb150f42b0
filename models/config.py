"""What a training run is made of, checked before anything starts."""

from __future__ import annotations

import dataclasses
import math
import numbers
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keraship.bundle import is_model_name
from keraship.errors import TrainingError
from keraship.models.choice import choose
from keraship.models.data import ON_BAD, exists, unknown_data
from keraship.models.networks import NETWORKS
from keraship.models.schedules import read_schedule

OPTIMIZERS = ("adam", "sgd")
LOSSES = ("cross_entropy", "dice", "iou", "dice_and_cross_entropy")
PRECISIONS = ("float16", "bfloat16")
PIPELINES = ("tf.data", "PyDataset")
STRATEGIES = ("none", "mirrored", "multi_worker")

_Rule = tuple[str, Callable[[Any], bool]]


def _whole(low: int, high: float = math.inf) -> _Rule:
    upper = f"to {high}" if math.isfinite(high) else "on"
    return f"a whole number from {low} {upper}", lambda value: _is_whole(value) and low <= int(value) <= high


def _is_whole(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _one_of(names: tuple[str, ...]) -> _Rule:
    return f"one of {', '.join(names)}", lambda value: value in names


_POSITIVE: _Rule = ("a number above 0", lambda value: _is_number(value) and 0 < float(value) < math.inf)
_SHARE: _Rule = ("a number from 0 on, below 1", lambda value: _is_number(value) and 0 <= float(value) < 1)
_FACTOR: _Rule = ("a number above 0, 1 at most", lambda value: _is_number(value) and 0 < float(value) <= 1)
_SWITCH: _Rule = ("true or false", lambda value: isinstance(value, bool))
_TEXT: _Rule = ("text", lambda value: isinstance(value, str) and bool(value))
_TABLE: _Rule = (
    "a table of options",
    lambda value: isinstance(value, Mapping) and all(isinstance(key, str) for key in value),
)
_SIZE: _Rule = (
    "a height and a width in pixels",
    lambda value: isinstance(value, tuple) and len(value) == 2 and all(_is_whole(side) and side > 0 for side in value),
)
_WITHIN_1: _Rule = ("a number from 0 to 1", lambda value: _is_number(value) and 0 <= float(value) <= 1)
_FROM_0: _Rule = ("a number from 0 on", lambda value: _is_number(value) and 0 <= float(value) < math.inf)
_SEED_MAX = 2**32 - 1  # what numpy's and scikit-learn's generators take


MINING: dict[str, _Rule] = {"alpha": _FROM_0, "uniform": _WITHIN_1, "every": _whole(1)}
"""The options of hard mining, as HardMining describes them, and what each may be."""


def _option(default: Any, rule: _Rule, about: str) -> Any:
    """A field with its default (an empty table is a new one), what it may be, and its line in `--help`."""
    metadata = {"rule": rule, "about": about}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class TrainConfig:
    """One training run: in Python, as a TOML file (read_config) or as the flags of `keraship train`.

    network: a name out of networks.NETWORKS. out: the run's folder, made where it is missing. data: a name or a path,
    as data.load takes it. What the others are stands beside them. None leaves the choice to the run, as described.
    Raises TrainingError, naming every field that cannot be, and what does not go together.
    """

    network: str
    out: Path
    data: str = "digits"
    network_options: Mapping[str, Any] = _option({}, _TABLE, "the network's own, such as body=MobileNetV2")
    on_bad: str = _option("refuse", _one_of(ON_BAD), "what to do about files and rows that cannot be used")
    image_size: tuple[int, int] | None = _option(
        None, _SIZE, "height and width that image files are brought to; by default their own"
    )
    label_column: str | None = _option(None, _TEXT, "of a table; by default the one called label, else the last")
    augment: Mapping[str, Any] = _option({}, _TABLE, "random changes to training images: how strong by name, or true")
    epochs: int = _option(30, _whole(1), "passes over the data")
    batch_size: int = _option(32, _whole(1), "rows a step")
    optimizer: str = _option("adam", _one_of(OPTIMIZERS), "how weights follow their gradients")
    learning_rate: float = _option(1e-3, _POSITIVE, "what the schedule begins with, or rises to")
    momentum: float | None = _option(None, _SHARE, "sgd's, 0.9 by default")
    nesterov: bool = _option(False, _SWITCH, "Nesterov's momentum, for sgd")
    schedule: str = _option("cosine", _TEXT, "how the learning rate changes")
    schedule_options: Mapping[str, Any] = _option({}, _TABLE, "the schedule's own, such as warmup=2")
    loss: str | None = _option(None, _one_of(LOSSES), "cross_entropy by default, and for masks dice_and_cross_entropy")
    monitor: str | None = _option(
        None, _TEXT, "what the best epoch is told by; val_accuracy by default, for masks val_iou; of equals, val_loss"
    )
    early_stopping: int | None = _option(None, _whole(1), "end after so many epochs without a better one")
    hard_mining: bool = _option(False, _SWITCH, "draw rows more often that are still got wrong")
    hard_mining_options: Mapping[str, Any] = _option({}, _TABLE, f"out of {', '.join(MINING)}")
    precision_recall: bool = _option(False, _SWITCH, "curves of precision and recall after every epoch")
    mixed_precision: str | None = _option(
        None, _one_of(PRECISIONS), "compute in float16 (GPUs) or bfloat16 (CPUs, TPUs); weights stay float32"
    )
    xla: bool | None = _option(
        None, _SWITCH, "compile steps with XLA, which pays in long runs; by default with a GPU alone"
    )
    gradient_accumulation: int = _option(1, _whole(1), "batches whose gradients make one update")
    head_epochs: int | None = _option(
        None, _whole(1), "of finetune with weights: epochs before the body learns, too; half of them by default"
    )
    unfreeze_layers: int | None = _option(
        None, _whole(1), "how many of the body's top layers learn then; by default all"
    )
    unfreeze_rate: float = _option(0.1, _FACTOR, "what the learning rate is multiplied by then")
    pipeline: str | None = _option(
        None, _one_of(PIPELINES), "what feeds the training; tf.data by default, with hard mining PyDataset"
    )
    workers: int = _option(1, _whole(1), "threads of a PyDataset")
    distribute: str = _option(
        "none", _one_of(STRATEGIES), "tf.distribute: over devices here, or over TF_CONFIG's workers"
    )
    devices: int | None = _option(
        None, _whole(1), "how many, for mirrored: GPUs, by default all; without a GPU, parts of the CPU"
    )
    scale: bool = _option(
        True,
        _SWITCH,
        "each device gets batch_size rows a step and the rate grows by their number; else they share both",
    )
    seed: int = _option(0, _whole(0, _SEED_MAX), "decides all that is random")
    deterministic: bool = _option(False, _SWITCH, "only operations that give the same result every time; slower")
    tensorboard: bool = _option(False, _SWITCH, "logs for TensorBoard in the run's folder")
    overwrite: bool = _option(False, _SWITCH, "replace the run that the folder holds")
    export: str | None = _option(None, _TEXT, "a model repository that the best epoch is exported to")
    export_name: str | None = _option(None, _TEXT, "the model's name there; by default the data's")

    def __post_init__(self) -> None:
        object.__setattr__(self, "out", Path(self.out))
        choose("a network", self.network, NETWORKS)
        object.__setattr__(self, "data", str(self.data))
        if not exists(self.data):
            raise TrainingError(unknown_data(self.data))
        size, changes = _given(self, "image_size"), _given(self, "augment")
        if isinstance(size, list):  # TOML has no tuples
            object.__setattr__(self, "image_size", tuple(size))
        if isinstance(changes, list | tuple):  # names alone
            object.__setattr__(self, "augment", dict.fromkeys(map(str, changes), True))
        faults = [fault for option in OPTIONS.values() for fault in _faults(option, getattr(self, option.name))]
        if faults:
            raise TrainingError(f"expected {'; '.join(faults)}")
        _check_names(self)
        for holds, message in _TOGETHER:
            if not holds(self):
                raise TrainingError(f"expected {message}")

    @property
    def fed_by(self) -> str:
        """The pipeline that is meant where none is named."""
        return self.pipeline or ("PyDataset" if self.hard_mining else "tf.data")

    @property
    def model_name(self) -> str:
        """The name in a model repository, one that a model may have."""
        return self.export_name or _as_model_name(self.data)

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the weights, as JSON has it: a run can be resumed with the same alone."""
        return {name: value for name, value in as_plain(self).items() if name not in _WITHOUT_EFFECT}


@dataclass(frozen=True)
class Option:
    """One field of TrainConfig. expected: what it may be, in words; holds: whether a value is that."""

    name: str
    default: Any
    about: str
    expected: str
    holds: Callable[[Any], bool]

    @property
    def is_table(self) -> bool:
        return self.expected == _TABLE[0]

    @property
    def is_switch(self) -> bool:
        return self.expected == _SWITCH[0]


def _options() -> dict[str, Option]:
    found = {}
    for each in dataclasses.fields(TrainConfig):
        if each.metadata:
            default = {} if each.default is dataclasses.MISSING else each.default
            found[each.name] = Option(each.name, default, each.metadata["about"], *each.metadata["rule"])
    return found


OPTIONS = _options()
"""All fields but network, out and data, by name."""


def as_plain(config: TrainConfig) -> dict[str, Any]:
    """All fields in JSON's types, paths as text and tuples as lists."""
    fields = {each.name: getattr(config, each.name) for each in dataclasses.fields(config)}
    return {name: _plain(value) for name, value in fields.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value.item() if hasattr(value, "item") else value  # numpy's numbers as Python's


_WITHOUT_EFFECT = {"out", "overwrite", "export", "export_name", "workers", "tensorboard"}


def _given(config: TrainConfig, name: str) -> Any:
    """What was given for a field, of whatever type."""
    return getattr(config, name)


def _faults(option: Option, value: Any) -> list[str]:
    if value is None and option.default is None:
        return []
    return [] if option.holds(value) else [f"{option.name} to be {option.expected}, got {value!r}"]


def _check_names(config: TrainConfig) -> None:
    read_schedule(config.schedule, config.schedule_options)
    known = NETWORKS[config.network].options
    for name in config.network_options:
        if not known:
            raise TrainingError(f"expected no network_options, for {config.network} has none; got {name!r}")
        choose(f"an option of {config.network}", name, known)
    for name, value in config.hard_mining_options.items():
        expected, holds = choose("an option of hard mining", name, MINING)
        if not holds(value):
            raise TrainingError(f"expected {name} of hard mining to be {expected}, got {value!r}")
    if config.export_name is not None and not is_model_name(config.export_name):
        raise TrainingError(f"expected export_name of letters, digits, '_', '.' and '-'; got {config.export_name!r}")


def _as_model_name(data: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", Path(data).resolve().stem).lstrip(".-") or "model"


_TOGETHER: tuple[tuple[Callable[[TrainConfig], bool], str], ...] = (
    (
        lambda c: c.optimizer == "sgd" or (c.momentum is None and not c.nesterov),
        "optimizer to be sgd where there is momentum or nesterov",
    ),
    (
        lambda c: not c.hard_mining_options or c.hard_mining,
        "hard_mining to be on where it has options",
    ),
    (
        lambda c: not (c.hard_mining and c.fed_by == "tf.data"),
        "pipeline to be PyDataset with hard_mining: tf.data cannot draw rows more often",
    ),
    (
        lambda c: c.workers == 1 or c.fed_by == "PyDataset",
        "pipeline to be PyDataset where there are workers: tf.data has threads of its own",
    ),
    (
        lambda c: c.distribute == "none" or (c.fed_by == "tf.data" and not c.precision_recall),
        "distribute without hard_mining, precision_recall and PyDataset, which are for one device",
    ),
    (
        lambda c: c.devices is None or c.distribute == "mirrored",
        "distribute to be mirrored where devices are counted",
    ),
    (
        lambda c: not (c.overwrite and c.distribute == "multi_worker"),
        "another folder rather than overwrite with multi_worker: its workers read there while the first would clear it",
    ),
    (
        lambda c: (c.head_epochs is None and c.unfreeze_layers is None) or bool(c.network_options.get("weights")),
        "network_options to have weights with head_epochs or unfreeze_layers: without weights nothing is frozen",
    ),
    (
        lambda c: c.export_name is None or c.export is not None,
        "export, a model repository, where there is a name for the model in it",
    ),
)
"""What must hold of several fields together, and how to say it."""
