"""Hard negative mining: rows that the model still gets wrong are drawn more often."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from keraship.errors import TrainingError
from keraship.models.rows import Rows
from keraship.models.scoring import scored

Array = np.ndarray[Any, Any]
Score = Callable[[Any, Any], Any]


class Draws(Protocol):
    """What draws the rows of each epoch: a keras.utils.PyDataset, say."""

    def set_probabilities(self, probabilities: Array | None, /) -> None:
        """From the next epoch on, draw row i with probability i, float64 [rows] of sum 1; None: each row once."""


class HardMining(keras.callbacks.Callback):  # type: ignore[misc]  # keras has no types
    """Scores every training row before an epoch, and has rows of a high loss drawn more often in it.

    draws: what the model is fitted on. rows: the rows it draws from, in the same order, unaugmented.
    alpha, uniform: see `probabilities`.
    every: the scores are renewed after so many epochs; the first epoch draws as it would without.
    batch_size: how many rows are scored at once; it changes nothing but the memory that is needed.
    losses: after an epoch has begun, float64 [rows], the last scores; None before the first.

    A row's loss is that of the compiled loss for the row alone, in inference. Scoring costs about a third of an epoch.
    Raises TrainingError where a row's loss is NaN or infinite, and where `every` or `batch_size` is below 1.
    """

    def __init__(
        self,
        draws: Draws,
        rows: Rows,
        *,
        alpha: float = 1.0,
        uniform: float = 0.2,
        every: int = 1,
        batch_size: int = 256,
    ) -> None:
        super().__init__()
        _check_mixture(alpha, uniform)
        if every < 1 or batch_size < 1:
            raise TrainingError(
                f"expected whole numbers from 1 on for hard mining; got every={every!r}, batch_size={batch_size!r}"
            )
        self.losses: Array | None = None
        self._draws, self._rows = draws, rows
        self._alpha, self._uniform, self._every, self._batch_size = alpha, uniform, every, batch_size

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._score = _scorer(self.model)  # once a training, for it is traced

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        # Ahead of an epoch rather than behind one: the last needs none, and a resumed run begins with scores.
        if epoch and (self.losses is None or epoch % self._every == 0):
            self.losses = _row_losses(self.model, self._rows, self._score, batch_size=self._batch_size)
            self._draws.set_probabilities(probabilities(self.losses, alpha=self._alpha, uniform=self._uniform))


def probabilities(losses: Array, *, alpha: float = 1.0, uniform: float = 0.2) -> Array:
    """How likely each row is drawn: (1 - uniform) * loss ** alpha / sum(loss ** alpha) + uniform / rows.

    losses: [rows]; what is below 0 counts as 0. alpha: from 0 on; 0 draws all alike, the greater the harder.
    uniform: from 0 to 1, the share that is drawn alike, so that no row is forgotten.
    Gives float64 [rows] of sum 1; all alike where no row has a loss.
    Raises TrainingError for no rows, and for values that cannot be.
    """
    _check_mixture(alpha, uniform)
    if losses.ndim != 1 or not losses.size:
        raise TrainingError(f"expected the loss of each row, one or more; got losses of shape {losses.shape}")
    bad = int(losses.size - np.isfinite(losses).sum())
    if bad:
        raise TrainingError(
            f"expected a finite loss for each of {losses.size} rows; {bad} have none: "
            "look for NaN in the data, or take a lower --learning-rate"
        )
    alike = np.full(len(losses), 1 / len(losses))
    above = np.maximum(losses.astype(np.float64), 0)
    if not above.any():
        return alike
    weights = (above / above.max()) ** alpha  # of at most 1, so that no power overflows
    mixed = (1 - uniform) * weights / weights.sum() + uniform * alike
    return np.asarray(mixed / mixed.sum())


def row_losses(model: keras.Model, rows: Rows, *, batch_size: int = 256) -> Array:
    """The loss of each row alone, float64 [rows], of a compiled model in inference."""
    return _row_losses(model, rows, _scorer(model), batch_size=batch_size)


def _row_losses(model: keras.Model, rows: Rows, score: Score, *, batch_size: int) -> Array:
    parts = [
        score(tf.convert_to_tensor(targets), tf.convert_to_tensor(scores)).numpy()
        for targets, scores in scored(model, rows, batch_size=batch_size)
    ]
    return np.asarray(np.concatenate(parts), np.float64)


def _scorer(model: keras.Model) -> Score:
    """Targets and scores of some rows to the loss of each."""
    loss = _loss(model.loss)

    # Row by row, for a loss may take the mean over the batch, as Dice does, before it is one.
    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]  # tensorflow has no types
    def score(targets: Any, scores: Any) -> Any:
        return tf.map_fn(
            lambda row: tf.cast(loss(row[0][tf.newaxis], row[1][tf.newaxis]), tf.float32),
            (targets, scores),
            fn_output_signature=tf.TensorSpec((), tf.float32),
        )

    return score  # type: ignore[no-any-return]  # tensorflow has no types


def _loss(compiled: Any) -> Callable[[Any, Any], Any]:
    """The loss, whatever it was compiled as: an object, a function or a name."""
    loss = keras.losses.get(compiled)
    if isinstance(loss, keras.losses.Loss):
        return loss  # type: ignore[no-any-return]  # keras has no types
    if callable(loss):
        return lambda targets, scores: keras.ops.mean(keras.ops.cast(loss(targets, scores), "float32"))
    raise TrainingError(f"expected one loss, for one output, to find hard rows by; got {compiled!r}")


def _check_mixture(alpha: float, uniform: float) -> None:
    if not (0 <= alpha < np.inf and 0 <= uniform <= 1):
        raise TrainingError(
            f"expected, for hard mining, alpha from 0 on and uniform from 0 to 1; got {alpha!r} and {uniform!r}"
        )
