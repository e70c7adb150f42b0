"""What a model learns by: its optimizer, its loss, its metrics, and what its best epoch is told by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from keraship.errors import TrainingError
from keraship.models.config import TrainConfig
from keraship.models.losses import CombinedLoss, DiceLoss, IoULoss
from keraship.models.metrics import IoU
from keraship.models.monitor import Monitor
from keraship.models.networks import loss_for
from keraship.models.schedules import Plan, read_schedule
from keraship.models.task import SEGMENTATION, Task

_MOMENTUM = 0.9


def compile_model(model: Any, config: TrainConfig, task: Task, *, plan: Plan) -> None:
    """Give a model its optimizer, its loss and its metrics. Raises TrainingError for a schedule that does not fit."""
    rate = learning_rate(config, plan)
    model.compile(_optimizer(config, rate), loss=_loss(config, task), metrics=_metrics(task), jit_compile=_jit(config))


def learning_rate(config: TrainConfig, plan: Plan) -> Any:
    """The rate by the configuration's schedule: a number, or a Keras schedule."""
    return read_schedule(config.schedule, config.schedule_options).rate(plan)


def monitors(config: TrainConfig, task: Task) -> tuple[Monitor, ...]:
    """What the best epoch is told by, and of equals, the lower val_loss.

    Raises TrainingError for a value that the epochs of such a run do not have.
    """
    known = _known_values(config, task)
    name = config.monitor or ("val_iou" if task.kind == SEGMENTATION else "val_accuracy")
    if name not in known:
        raise TrainingError(f"expected a value to monitor out of {', '.join(known)}; got {name!r}")
    return Monitor(name, "min" if name.endswith("loss") else "max"), Monitor("val_loss", "min")


def _known_values(config: TrainConfig, task: Task) -> list[str]:
    own = ["loss", "accuracy", *(["iou"] if task.kind == SEGMENTATION else [])]
    curves = ["val_macro_ap", "val_micro_ap"] if config.precision_recall else []
    return [*(f"val_{name}" for name in own), *curves, *own]


def _optimizer(config: TrainConfig, rate: Any) -> Any:
    steps = config.gradient_accumulation if config.gradient_accumulation > 1 else None
    if config.optimizer == "adam":
        return keras.optimizers.Adam(rate, gradient_accumulation_steps=steps)
    momentum = _MOMENTUM if config.momentum is None else float(config.momentum)
    return keras.optimizers.SGD(rate, momentum=momentum, nesterov=config.nesterov, gradient_accumulation_steps=steps)


def _jit(config: TrainConfig) -> Any:
    """What Keras takes. Its own choice with a GPU; on a CPU, XLA takes longer to compile than most runs gain by it."""
    if config.xla is not None:
        return config.xla
    import tensorflow as tf

    return "auto" if tf.config.list_physical_devices("GPU") else False


def _loss(config: TrainConfig, task: Task) -> Any:
    return _LOSSES[config.loss]() if config.loss else loss_for(task)


def _entropy() -> Any:
    return keras.losses.SparseCategoricalCrossentropy()


_LOSSES: dict[str, Callable[[], Any]] = {
    "cross_entropy": _entropy,
    "dice": lambda: DiceLoss(sparse=True),
    "iou": lambda: IoULoss(sparse=True),
    "dice_and_cross_entropy": lambda: CombinedLoss([DiceLoss(sparse=True), _entropy()]),
}


def _metrics(task: Task) -> list[Any]:
    overlap = [IoU(len(task.classes), sparse=True, name="iou")] if task.kind == SEGMENTATION else []
    return ["accuracy", *overlap]
