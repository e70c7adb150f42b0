"""Losses for segmentation that Keras does not bring; importing this file registers them, so that saved models load."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keraship.models.alignment import aligned, holds_ids, mask_of, paired

# Below it an overlap has nothing to divide by: the reciprocals of the smallest floats are infinite.
_NOTHING = 1e-30


class _OverlapLoss(keras.Loss):  # type: ignore[misc]  # keras has no types
    """1 - the overlap of targets and predictions, summed up for each sample and class, averaged over the classes."""

    _default_name = ""

    def __init__(
        self,
        smooth: float = 1.0,
        *,
        sparse: bool | None = None,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name or self._default_name, reduction=reduction, dtype=_precise(dtype))
        self.smooth = _number("smooth", smooth)
        self.sparse = sparse
        self.ignore_class = ignore_class

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        # Keras would multiply the weights and the mask of pixels with the losses of samples, where they belong into
        # the sums. So they go to `call` beside the predictions, which may be a structure.
        parts = {"y_pred": ops.convert_to_tensor(y_pred, dtype=self.dtype)}
        if mask_of(y_pred) is not None:
            parts["mask"] = mask_of(y_pred)
        if sample_weight is not None:
            weights = _without_last_one(ops.convert_to_tensor(sample_weight, dtype=self.dtype))
            of_samples = len(weights.shape) < 2
            # A sample of weight 0 may hold anything, padding and NaN too: its pixels count nothing either.
            parts["weights"] = ops.not_equal(weights, 0) if of_samples else weights
            sample_weight = weights if of_samples else None
        return super().__call__(ops.convert_to_tensor(y_true, dtype=self.dtype), parts, sample_weight)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        parts = y_pred if isinstance(y_pred, dict) else {"y_pred": y_pred}
        scores = parts["y_pred"]  # [n, ..., classes]
        targets, ids = self._targets(y_true, scores)  # [n, ..., classes] and [n, ..., 1]
        seen = self._seen(ids, scores, parts.get("mask"))  # [n, ..., 1]
        weights = ops.cast(seen, scores.dtype)
        if "weights" in parts:
            weights *= aligned(parts["weights"], scores)
        losses = 1 - self._class_mean(self._overlaps(targets, scores, weights))  # [n]
        if self.ignore_class is not None or "mask" in parts:
            # Keras's own way to tell its reduction which losses to leave out.
            losses._keras_mask = ops.any(seen, axis=tuple(range(1, len(seen.shape))))
        return losses

    def get_config(self) -> dict[str, Any]:
        own = {"smooth": self.smooth, "sparse": self.sparse, "ignore_class": self.ignore_class, "dtype": self.dtype}
        return {**super().get_config(), **own}

    def _fraction(self, both: Any, total: Any) -> tuple[Any, Any]:
        """The overlap's numerator and denominator, of sum(t * p) and sum(t + p), both [n, classes]."""
        raise NotImplementedError

    def _targets(self, y_true: Any, scores: Any) -> tuple[Any, Any]:
        """What `scores` should be, NaN where an id is no class; and the ids, with a last axis of 1."""
        if scores.shape[-1] == 1:
            ids = paired(y_true, scores)
            return ids, ids
        if not holds_ids(y_true, rank=len(scores.shape) - 1, sparse=self.sparse):
            targets = paired(y_true, scores)
            return targets, ops.expand_dims(ops.cast(ops.argmax(targets, axis=-1), targets.dtype), -1)
        ids = paired(y_true, scores[..., :1])
        one_hot = ops.equal(ids, ops.arange(ops.shape(scores)[-1], dtype=ids.dtype))
        is_class = ops.any(one_hot, axis=-1, keepdims=True)
        return ops.where(is_class, ops.cast(one_hot, scores.dtype), math.nan), ids

    def _seen(self, ids: Any, scores: Any, mask: Any) -> Any:
        """Which pixels are neither masked nor of the class to ignore."""
        seen = ops.ones_like(ids, dtype="bool")
        if self.ignore_class is not None:
            seen = ops.not_equal(ids, self.ignore_class)
        if mask is not None:
            seen = ops.logical_and(seen, aligned(ops.cast(mask, "bool"), scores))
        return seen

    def _overlaps(self, targets: Any, scores: Any, weights: Any) -> Any:
        """Of each sample and class, [n, classes]; 1 where there is nothing of a class."""
        counted = ops.not_equal(weights, 0)
        targets = ops.where(counted, targets, 0.0)
        scores = ops.where(counted, scores, 0.0)
        pixels = tuple(range(1, len(scores.shape) - 1))
        both, total = weights * targets * scores, weights * (targets + scores)
        if pixels:
            both, total = ops.sum(both, axis=pixels), ops.sum(total, axis=pixels)
        above, below = self._fraction(both, total)
        is_nothing = below < _NOTHING
        return ops.where(is_nothing, 1.0, above / ops.where(is_nothing, 1.0, below))

    def _class_mean(self, overlaps: Any) -> Any:
        if self.ignore_class is None or overlaps.shape[-1] == 1:
            return ops.mean(overlaps, axis=-1)
        keep = ops.cast(ops.not_equal(ops.arange(ops.shape(overlaps)[-1]), self.ignore_class), overlaps.dtype)
        return ops.sum(overlaps * keep, axis=-1) / ops.sum(keep)


@keras.saving.register_keras_serializable(package="keraship")
class DiceLoss(_OverlapLoss):
    """Soft Dice loss: 1 - (2 * sum(t * p) + smooth) / (sum(t) + sum(p) + smooth), t the targets, p the predictions.

    The sums are over the pixels of one sample and one class. A sample's loss is the mean over its classes, and samples
    are independent: the batch's loss does not depend on how the samples were put together.

    smooth: a number from 0 on. A class that is in neither targets nor predictions is no loss, with any of them.
    sparse: whether targets are class ids; None takes it from their shape.
    ignore_class: the id of pixels that do not count ("void", often 255). If it is one of the network's classes, that
    class is left out of the mean.

    y_pred: probabilities [n, ..., classes], any number of axes between; with one class, a binary network's foreground.
    y_true: the same shape (one-hot, or soft), or class ids [n, ...] or [n, ..., 1]; for one class, 0 and 1.
    sample_weight: [n] or [n, 1] multiplies the samples' losses; with more axes, as [n, height, width], it says what
    each pixel counts in the sums. Pixels that a Keras mask hides do not count, nor do samples hidden altogether.

    Computed in float32 or better. An id that is no class makes the loss NaN, at which a training stops.
    Raises ValueError for arguments and shapes of any other form.

    >>> float(DiceLoss(smooth=0)([[[1.0], [1.0]]], [[[1.0], [0.0]]]))  # 1 - 2 * 1 / (2 + 1)
    0.3333333134651184
    """

    _default_name = "dice_loss"

    def _fraction(self, both: Any, total: Any) -> tuple[Any, Any]:
        return 2 * both + self.smooth, total + self.smooth


@keras.saving.register_keras_serializable(package="keraship")
class IoULoss(_OverlapLoss):
    """Soft Jaccard loss: 1 - (sum(t * p) + smooth) / (sum(t) + sum(p) - sum(t * p) + smooth).

    Arguments, shapes, weights and masks are those of DiceLoss.

    >>> float(IoULoss(smooth=0)([[[1.0], [1.0]]], [[[1.0], [0.0]]]))  # 1 - 1 / (2 + 1 - 1)
    0.5
    """

    _default_name = "iou_loss"

    def _fraction(self, both: Any, total: Any) -> tuple[Any, Any]:
        return both + self.smooth, total - both + self.smooth


@keras.saving.register_keras_serializable(package="keraship")
class CombinedLoss(keras.Loss):  # type: ignore[misc]  # keras has no types
    """A weighted sum of losses, such as CombinedLoss([DiceLoss(), keras.losses.CategoricalCrossentropy()], [1, 0.5]).

    losses: keras.Loss objects, each of which reduces a batch to one number. weights: a finite number for each; None
    takes 1.
    Each gets targets, predictions, mask and sample_weight. Weights [n] for predictions [n, height, width, classes],
    which Keras's own losses cannot take, are given to them as [n, height, width].
    Raises ValueError for arguments of any other form.
    """

    def __init__(
        self,
        losses: Sequence[keras.Loss],
        weights: Sequence[float] | None = None,
        *,
        name: str | None = "combined_loss",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=_precise(dtype))
        self.losses = [_reducing(loss) for loss in losses]
        self.weights = [_number("weights", weight) for weight in ([1.0] * len(losses) if weights is None else weights)]
        if not self.losses or len(self.losses) != len(self.weights):
            raise ValueError(
                f"expected at least one loss, and a weight for each; "
                f"got {len(self.losses)} losses and weights={weights!r}"
            )

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        total: Any = 0.0
        y_pred = ops.convert_to_tensor(y_pred)  # a tensor stays itself, and keeps its mask
        for loss, weight in zip(self.losses, self.weights, strict=True):
            own = _weights_for(loss, sample_weight, y_pred)
            total += weight * ops.cast(loss(y_true, y_pred, sample_weight=own), self.dtype)
        return total

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return self(y_true, y_pred)

    def get_config(self) -> dict[str, Any]:
        losses = [keras.saving.serialize_keras_object(loss) for loss in self.losses]
        return {"losses": losses, "weights": self.weights, "name": self.name, "dtype": self.dtype}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> CombinedLoss:
        losses = [keras.saving.deserialize_keras_object(loss) for loss in config["losses"]]
        return cls(**{**config, "losses": losses})


def _weights_for(loss: Any, sample_weight: Any, y_pred: Any) -> Any:
    """Weights as this loss takes them: ours those of samples, Keras's one for each of the losses that they sum up."""
    if sample_weight is None or isinstance(loss, _OverlapLoss | CombinedLoss):
        return sample_weight
    weights = _without_last_one(ops.convert_to_tensor(sample_weight))
    if len(weights.shape) > 1 or len(y_pred.shape) < 3:
        return sample_weight
    pixels = y_pred[..., 0]
    return ops.broadcast_to(aligned(weights, pixels), ops.shape(pixels))


def _without_last_one(weights: Any) -> Any:
    """Weights [n, 1] as [n]."""
    return ops.squeeze(weights, axis=-1) if len(weights.shape) == 2 and weights.shape[-1] == 1 else weights


def _precise(dtype: Any) -> str:
    """The dtype to compute in: that which was asked for, or Keras's own; half precision loses sums over an image."""
    chosen = keras.config.floatx() if dtype is None else keras.dtype_policies.get(dtype).compute_dtype
    return str(keras.backend.result_type(chosen, "float32"))


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool | str) or not 0 <= float(value) < math.inf:
        raise ValueError(f"expected {name} to be finite numbers from 0 on; got {value!r}")
    return float(value)


def _reducing(loss: Any) -> Any:
    if not isinstance(loss, keras.Loss):
        raise ValueError(f"expected losses to be keras.Loss objects; got {loss!r}")
    if loss.reduction in (None, "none"):
        raise ValueError(f"expected losses that reduce a batch to one number; {loss.name} has reduction=None")
    return loss
