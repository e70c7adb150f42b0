"""What a model is compiled with."""

from __future__ import annotations

from pathlib import Path

import keras
import pytest
import tensorflow as tf

from keraship.models import TrainConfig
from keraship.models.compilation import compile_model
from keraship.models.schedules import Plan
from keraship.models.task import CLASSIFICATION, Task
from keraship.signature import TensorSpec

TASK = Task(CLASSIFICATION, (TensorSpec("x", "float32", (None,)),), ("a", "b"))


@pytest.mark.parametrize(
    ("asked", "used"), [(None, bool(tf.config.list_physical_devices("GPU"))), (True, True), (False, False)]
)
def test_xla_is_used_where_it_is_asked_for(asked: bool | None, used: bool) -> None:
    """By default with a GPU alone, for on a CPU it compiles longer than most runs gain."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2, activation="softmax")])
    compile_model(model, TrainConfig("tabular", out=Path("run"), xla=asked), TASK, plan=Plan(1e-3, 1, 1))
    assert model.jit_compile is used
