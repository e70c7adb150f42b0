"""The networks that can be trained, by name, what each is made for, and the loss that a task is trained with.

Preprocessing is part of each network's graph, so serving can't differ from training.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from keraship.errors import TrainingError
from keraship.models.choice import choose
from keraship.models.rows import Rows
from keraship.models.task import CLASSIFICATION, IMAGES, SEGMENTATION, TEXT, Task

if TYPE_CHECKING:
    import keras

COLUMNS = "columns"


@dataclass(frozen=True)
class Network:
    """What a network is for.

    kind: of task. inputs: "images", "text" or "columns" of a table. needs_rows: whether its preprocessing is taken from
    the training rows. open_sizes: whether a task may leave its images' height and width open. options: what can be
    chosen, with a line about each.
    """

    kind: str
    inputs: str
    about: str
    needs_rows: bool = False
    open_sizes: bool = False
    options: Mapping[str, str] = field(default_factory=dict)

    def fits(self, task: Task) -> bool:
        """Whether it can learn this task."""
        return self.kind == task.kind and self.inputs == inputs_of(task)


def build(name: str, task: Task, *, rows: Rows | None = None, **options: Any) -> keras.Model:
    """A new network with random weights: a task's raw inputs to its `scores`, float32, of sum 1.

    rows: the training rows, for networks whose preprocessing (a vocabulary, the columns' statistics) comes from them.
    options: those of the network, as NETWORKS has them.
    Raises TrainingError for a name that NETWORKS does not have, a task that the network is not made for, rows that it
    needs and are not given, and options that it does not have or that cannot be.
    """
    network = choose("a network", name, NETWORKS)
    _check_task(name, network, task)
    for option in options:
        _check_option(name, network, option)
    if network.needs_rows:
        if rows is None or not len(rows):
            raise TrainingError(f"expected training rows, which {name} takes its preprocessing from; got none")
        options["rows"] = rows
    # Each is imported when it is built: they import Keras, which the command's --help can do without.
    return importlib.import_module(f"keraship.models.network_{name}").build(task, **options)


def names_for(task: Task) -> tuple[str, ...]:
    """The networks that can learn a task, or none."""
    return tuple(name for name, network in NETWORKS.items() if network.fits(task))


def loss_for(task: Task) -> keras.Loss:
    """What to minimise: cross-entropy, and of pixels also their overlap, for most of them are background."""
    import keras

    entropy = keras.losses.SparseCategoricalCrossentropy()
    if task.kind == CLASSIFICATION:
        return entropy
    from keraship.models.losses import CombinedLoss, DiceLoss

    return CombinedLoss([DiceLoss(sparse=True), entropy])


def inputs_of(task: Task) -> str:
    """Whether a task's inputs are "images", "text", or "columns" of a table."""
    if task.has_images and len(task.inputs[0].shape or ()) == 4:
        return IMAGES
    return TEXT if task.has_text else COLUMNS


def _check_task(name: str, network: Network, task: Task) -> None:
    if not network.fits(task):
        fitting = ", ".join(names_for(task))
        advice = f"train {fitting} on these" if fitting else "no network is made for these"
        raise TrainingError(f"{name} is made for {network.kind} of {network.inputs}; got {_describe(task)}: {advice}")
    if len(task.classes) < 2:
        raise TrainingError(f"expected two classes or more; got {', '.join(task.classes) or 'none'}")
    if network.inputs == IMAGES:
        _check_images(name, network, task)


def _check_images(name: str, network: Network, task: Task) -> None:
    if not task.maximum or not 0 < task.maximum < math.inf:
        raise TrainingError(f"expected the images' brightest value, Task.maximum, to be above 0; got {task.maximum}")
    _, height, width, channels = task.inputs[0].shape or ()
    if channels is None or (None in (height, width) and not network.open_sizes):
        raise TrainingError(f"expected images of known size and channels for {name}; got {task.inputs[0]}")


def _describe(task: Task) -> str:
    shown = ", ".join(f"{spec.name} {spec}" for spec in task.inputs[:3])
    more = f" and {len(task.inputs) - 3} more" if len(task.inputs) > 3 else ""
    return f"{task.kind} of {inputs_of(task)} ({shown}{more})"


def _check_option(name: str, network: Network, option: str) -> None:
    if not network.options:
        raise TrainingError(f"the network {name} has no options; got {option!r}")
    choose(f"an option of {name}", option, network.options)


NETWORKS: dict[str, Network] = {
    "cnn": Network(CLASSIFICATION, IMAGES, "convolutions one after another, and two dense layers"),
    "resnet": Network(CLASSIFICATION, IMAGES, "residual blocks, identity and projection", open_sizes=True),
    "finetune": Network(
        CLASSIFICATION,
        IMAGES,
        "a body of keras.applications with a new head",
        options={
            "body": "its name in keras.applications, MobileNetV2 by default",
            "weights": "a file of the body's weights (.weights.h5, .h5), or imagenet; none by default",
            "image_size": "the shorter side of the images that the body sees, its least by default",
        },
    ),
    "segmentation": Network(SEGMENTATION, IMAGES, "an encoder and a decoder, joined at every size", open_sizes=True),
    "text": Network(
        CLASSIFICATION,
        TEXT,
        "words in their order, and those that are there at all",
        needs_rows=True,
        options={
            "encoder": "gru (by default) or attention",
            "words": "how many of the most frequent words have a meaning, 20000 by default",
            "length": "how many words of a text are read, by default as many as 19 of 20 training texts have",
        },
    ),
    "tabular": Network(CLASSIFICATION, COLUMNS, "columns of numbers and of strings", needs_rows=True),
}
"""Every network by name; `network_NAME.py` builds it."""
