from __future__ import annotations

import json
import math
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keraship.errors import TrainingError
from keraship.models.monitor import KeepBest, Monitor, Watch, best_epoch

VALUES = st.lists(
    st.tuples(st.sampled_from([0.1, 0.5, 0.5000001, math.nan]), st.integers(0, 3)), min_size=1, max_size=8
)


class Scripted(keras.callbacks.Callback):  # type: ignore[misc]
    """Puts what each epoch is to give into its logs, ahead of those who read them."""

    def __init__(self, **values: list[float]) -> None:
        super().__init__()
        self.values = values

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        assert logs is not None
        logs.update({name: series[epoch] for name, series in self.values.items()})


class Numbered(keras.callbacks.Callback):  # type: ignore[misc]
    """Sets the weight to the epoch's number as the epoch ends."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.model.set_weights([np.full((1, 1), epoch)])


def fitted(*callbacks: Any, epochs: int, initial_epoch: int = 0) -> Any:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.compile("sgd", loss="mse", jit_compile=False)
    x = np.ones((2, 1), "float32")
    model.fit(x, x, epochs=epochs, initial_epoch=initial_epoch, callbacks=[Numbered(), *callbacks], verbose=0)
    return model


@given(VALUES)
def test_best_by_definition(values: list[tuple[float, int]]) -> None:
    """The best has no better one anywhere and no equal before it; NaN is worse than any number."""
    history = [{"val_iou": iou, "val_loss": float(loss)} for iou, loss in values]
    best = best_epoch([Monitor("val_iou", "max"), Monitor("val_loss", "min")], history)
    key = [(-math.inf if math.isnan(iou) else iou, -loss) for iou, loss in values]
    assert all(other <= key[best] for other in key)
    assert all(other < key[best] for other in key[:best])


@pytest.mark.parametrize(("mode", "kept"), [("min", [0, 1, 4]), ("max", [0, 3])])
def test_which_epochs_are_written(mode: Any, kept: list[int]) -> None:
    """The model is written at each epoch that beats all before it, with the weights of that epoch."""
    watch = Watch(Monitor("val_iou", mode))
    written: list[float] = []
    keep = KeepBest(watch, lambda model: written.append(float(model.get_weights()[0][0, 0])))
    fitted(Scripted(val_iou=[0.5, 0.3, 0.3, 0.9, 0.1]), watch, keep, epochs=5)
    assert written == kept
    assert watch.best == kept[-1]


def test_early_stopping() -> None:
    """Training stops when `patience` epochs in a row were no better, and the model keeps the last one's weights."""
    watch = Watch(Monitor("val_iou", "max"), patience=2)
    model = fitted(Scripted(val_iou=[0.1, 0.1, 0.2, 0.2, 0.1, 0.9]), watch, epochs=6)
    assert [logs["val_iou"] for logs in watch.history] == [0.1, 0.1, 0.2, 0.2, 0.1]
    assert watch.is_over
    assert watch.best == 2
    assert model.get_weights()[0] == 4


def test_resumed_at_any_epoch() -> None:
    """A run that goes on after any of its epochs stops at the same one, with the same best, as one without a break."""
    values = [0.1, 0.3, 0.2, 0.25, 0.1, 0.9, 0.9]
    for over in range(1, 5):
        watch = Watch(Monitor("val_iou", "max"), patience=3, past=[{"val_iou": value} for value in values[:over]])
        assert not watch.is_over
        fitted(Scripted(val_iou=values), watch, epochs=7, initial_epoch=over)
        assert (len(watch.history), watch.best, watch.is_over) == (5, 1, True)
    assert Watch(Monitor("val_iou", "max"), patience=3, past=watch.history).is_over


def test_killed_before_the_best_was_written() -> None:
    """A run that goes on after an epoch that is the best writes it first; after any other it doesn't."""
    for past, expected in (([0.1, 0.2], [7.0]), ([0.2, 0.1], [])):
        watch = Watch(Monitor("val_iou", "max"), past=[{"val_iou": value} for value in past])
        written: list[float] = []
        keep = KeepBest(watch, lambda model: written.append(float(model.get_weights()[0][0, 0])))  # noqa: B023  # called in this turn
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
        model.compile("sgd", loss="mse", jit_compile=False)
        model.set_weights([np.full((1, 1), 7)])
        x = np.ones((2, 1), "float32")
        model.fit(x, x, epochs=2, initial_epoch=2, callbacks=[watch, keep], verbose=0)
        assert written == expected


def test_history() -> None:
    """The history has every value of every epoch, as plain numbers that JSON takes."""
    watch = Watch(Monitor("loss", "min"))
    fitted(Scripted(val_iou=[0.1, 0.2]), watch, epochs=2)
    assert [set(logs) for logs in watch.history] == [{"loss", "val_iou"}] * 2
    assert json.loads(json.dumps(watch.history)) == watch.history


def test_a_value_that_is_not_there() -> None:
    """A monitor of a value that no epoch gives ends the training after the first, and lists what there is."""
    with pytest.raises(TrainingError, match=r"out of loss, val_iou; got 'val_accuracy'"):
        fitted(Scripted(val_iou=[1]), Watch(Monitor("val_accuracy", "max"), patience=1), epochs=1)


def test_wrong_arguments() -> None:
    """Modes, monitors and patience that cannot be are refused."""
    with pytest.raises(TrainingError, match="min or max; got 'auto'"):
        Monitor("loss", "auto")  # type: ignore[arg-type]  # the mistake that is tested
    with pytest.raises(TrainingError, match="one monitor or more"):
        Watch()
    with pytest.raises(TrainingError, match="patience=0"):
        Watch(Monitor("loss", "min"), patience=0)
    with pytest.raises(TrainingError, match="none yet"):
        _ = Watch(Monitor("loss", "min")).best
