from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from keraship.errors import TrainingError
from keraship.models.hard_mining import HardMining, probabilities, row_losses

LOSSES = arrays(np.float64, st.integers(1, 30), elements=st.floats(0, 1e30))


class Points:
    """Rows in memory."""

    def __init__(self, x: Any, y: Any) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.y)

    def fetch(self, indices: Any) -> tuple[dict[str, Any], Any]:
        return {"points": self.x[indices]}, self.y[indices]


class Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """Draws the rows of each epoch, each as likely as it was told, and counts them."""

    def __init__(self, rows: Points, *, workers: int = 1) -> None:
        super().__init__(workers=workers)
        self.rows, self.probabilities = rows, None
        self.drawn: list[Any] = []
        self.random = np.random.default_rng(0)
        self._draw()

    def set_probabilities(self, probabilities: Any) -> None:
        self.probabilities = probabilities

    def _draw(self) -> None:
        self.order = self.random.choice(len(self.rows), len(self.rows), p=self.probabilities)

    def on_epoch_begin(self) -> None:
        self._draw()
        self.drawn.append(np.bincount(self.order, minlength=len(self.rows)))

    def __len__(self) -> int:
        return len(self.rows) // 20

    def __getitem__(self, index: int) -> Any:
        inputs, targets = self.rows.fetch(self.order[index * 20 : (index + 1) * 20])
        return inputs["points"], targets


def some_rows(wrong: int = 0) -> Points:
    """400 points, two classes left and right of 0; the first `wrong` of them have the other's label."""
    x = np.random.default_rng(1).normal(size=(400, 2)).astype("float32")
    x[:, 0] += np.sign(x[:, 0])
    y = (x[:, 0] > 0).astype("int64")
    y[:wrong] = 1 - y[:wrong]
    return Points(x, y)


def some_model(loss: Any = "sparse_categorical_crossentropy", outputs: int = 2, activation: str = "softmax") -> Any:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((2,), name="points")
    hidden = keras.layers.Dropout(0.5)(keras.layers.BatchNormalization()(inputs))
    model = keras.Model(inputs, keras.layers.Dense(outputs, activation=activation, name="scores")(hidden))
    model.compile(keras.optimizers.SGD(0.1), loss=loss, jit_compile=False)
    return model


@given(losses=LOSSES, alpha=st.floats(0, 4), uniform=st.floats(0, 1))
def test_probabilities(losses: Any, alpha: float, uniform: float) -> None:
    """They sum to 1, rise with the loss, are nowhere below their uniform share, and are what numpy draws by."""
    result = probabilities(losses, alpha=alpha, uniform=uniform)
    assert result.sum() == pytest.approx(1, abs=1e-12)
    assert (result >= uniform / len(losses) * (1 - 1e-9)).all()
    assert (np.diff(result[np.argsort(losses)]) >= -1e-12).all()
    np.random.default_rng(0).choice(len(losses), p=result)


@given(losses=arrays(np.float64, st.integers(1, 30), elements=st.floats(0.01, 100)), alpha=st.floats(0, 4))
def test_formula(losses: Any, alpha: float) -> None:
    """They are the mixture of loss ** alpha and all alike."""
    expected = 0.7 * losses**alpha / (losses**alpha).sum() + 0.3 / len(losses)
    np.testing.assert_allclose(probabilities(losses, alpha=alpha, uniform=0.3), expected, rtol=1e-9)


def test_edges() -> None:
    """Without any loss all are alike; a loss below 0 is none; one row is always drawn."""
    assert probabilities(np.zeros(4)).tolist() == [0.25] * 4
    assert probabilities(np.array([-3.0, 1.0]), uniform=0).tolist() == [0, 1]
    assert probabilities(np.array([0.0])).tolist() == [1]
    with pytest.raises(TrainingError, match="3 rows; 2 have none"):
        probabilities(np.array([1, np.nan, np.inf]))
    with pytest.raises(TrainingError, match="one or more"):
        probabilities(np.array([]))
    for wrong in ({"alpha": -1}, {"uniform": 1.1}, {"alpha": np.nan}):
        with pytest.raises(TrainingError, match="alpha from 0 on"):
            probabilities(np.ones(2), **wrong)


@pytest.mark.parametrize("workers", [1, 2])
def test_hard_rows_are_drawn_more_often(workers: int) -> None:
    """Rows with a wrong label are drawn as others in the first epoch, and more than twice as often later.

    The counts are those that the probabilities promise.
    """
    rows = some_rows(wrong=40)
    batches = Batches(rows, workers=workers)
    mining = HardMining(batches, rows, uniform=0.2, batch_size=150)
    model = some_model()
    model.fit(batches, epochs=12, callbacks=[mining], verbose=0, shuffle=False)
    first, later = batches.drawn[0], np.mean(batches.drawn[3:], axis=0)
    assert first[:40].mean() < 1.5
    assert later[:40].mean() > 2 * later[40:].mean()
    assert (np.sum(batches.drawn, axis=0) > 0).all()
    share = batches.probabilities[:40].sum()
    assert later[:40].sum() / later.sum() == pytest.approx(share, abs=0.06)


def test_how_often_rows_are_scored() -> None:
    """Every second epoch means ahead of the third, the fifth and so on; a resumed run scores ahead of its first."""

    class Counting(Batches):
        count = 0

        def set_probabilities(self, probabilities: Any) -> None:
            self.count += 1

    rows = some_rows()
    for initial_epoch, expected in ((0, 3), (3, 3)):  # epochs 2, 4 and the first scores at 1; 3 (resumed), 4 and 6
        batches = Counting(rows)
        epochs = {0: 6, 3: 7}[initial_epoch]
        mining = HardMining(batches, rows, every=2)
        some_model().fit(
            batches, epochs=epochs, initial_epoch=initial_epoch, callbacks=[mining], verbose=0, shuffle=False
        )
        assert batches.count == expected


LOSSES_BY_NAME = {
    "name": ("sparse_categorical_crossentropy", 2, "softmax"),
    "object": (keras.losses.SparseCategoricalCrossentropy(), 2, "softmax"),
    "sum": (keras.losses.SparseCategoricalCrossentropy(reduction="sum"), 2, "softmax"),
    "function": (keras.losses.sparse_categorical_crossentropy, 2, "softmax"),
    "binary": ("binary_crossentropy", 1, "sigmoid"),
    "squares": (keras.losses.MeanSquaredError(), 1, "linear"),
}


@pytest.mark.parametrize("name", LOSSES_BY_NAME)
def test_row_losses(name: str) -> None:
    """A row's loss is what Keras's evaluation gives for that row alone, whatever the loss and the batch."""
    loss, outputs, activation = LOSSES_BY_NAME[name]
    model, rows = some_model(loss, outputs, activation), some_rows(wrong=5)
    few = Points(rows.x[:7], rows.y[:7].reshape(-1, 1) if outputs == 1 else rows.y[:7])
    expected = [model.evaluate(few.x[i : i + 1], few.y[i : i + 1], verbose=0) for i in range(7)]
    np.testing.assert_allclose(row_losses(model, few, batch_size=3), expected, rtol=1e-5)


def test_masks() -> None:
    """Of images with a class for each pixel, it is the mean over the pixels, for a loss over whole batches too."""

    class Dice(keras.losses.Loss):  # type: ignore[misc]
        def call(self, y_true: Any, y_pred: Any) -> Any:
            truth = keras.ops.one_hot(keras.ops.cast(y_true, "int32"), 3)
            both = keras.ops.sum(truth * y_pred, axis=(0, 1, 2))
            return 1 - 2 * both / keras.ops.sum(truth + y_pred, axis=(0, 1, 2))

    random = np.random.default_rng(0)
    rows = Points(random.normal(size=(5, 4, 4, 1)).astype("float32"), random.integers(0, 3, (5, 4, 4)))
    for loss in ("sparse_categorical_crossentropy", Dice()):
        inputs = keras.Input((None, None, 1), name="points")
        model = keras.Model(inputs, keras.layers.Conv2D(3, 3, padding="same", activation="softmax")(inputs))
        model.compile("sgd", loss=loss, jit_compile=False)
        expected = [model.evaluate(rows.x[i : i + 1], rows.y[i : i + 1], verbose=0) for i in range(5)]
        np.testing.assert_allclose(row_losses(model, rows, batch_size=2), expected, rtol=1e-5)


def test_text() -> None:
    """Rows of text are scored as rows of numbers are."""
    vectorize = keras.layers.TextVectorization(output_mode="multi_hot")
    vectorize.adapt(["good day", "bad day"])
    inputs = keras.Input((), dtype="string", name="points")
    model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(vectorize(inputs)))
    model.compile("sgd", loss="sparse_categorical_crossentropy", jit_compile=False)
    words = np.array(["good", "bad", "good bad day"], object)
    losses = row_losses(model, Points(words, np.array([0, 1, 0])), batch_size=2)
    assert losses.shape == (3,)
    assert np.isfinite(losses).all()


def test_wrong_arguments() -> None:
    """What cannot be is refused before any training."""
    rows = some_rows()
    for wrong in ({"every": 0}, {"batch_size": 0}, {"alpha": -1}):
        with pytest.raises(TrainingError, match="hard mining"):
            HardMining(Batches(rows), rows, **wrong)
