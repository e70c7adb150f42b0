"""How targets, sample weights and Keras masks line up with the predictions that they belong to.

Axes are matched from the front: weights [n] are one for each sample of predictions [n, height, width, classes], and
weights [n, height, width] one for each pixel.
"""

from __future__ import annotations

from typing import Any

from keras import ops


def mask_of(y_pred: Any) -> Any:
    """The Keras mask that predictions carry, bool over their first axes; None where they carry none.

    Has to be asked before the predictions are cast: the mask stays behind.
    """
    return getattr(y_pred, "_keras_mask", None)


def paired(y_true: Any, elements: Any) -> Any:
    """Targets with the rank of `elements`, which they must equal in shape, but for an axis of 1 at the end.

    Raises ValueError where they do not, as far as sizes are known.
    """
    rank = len(elements.shape)
    targets = y_true
    if len(y_true.shape) == rank + 1 and y_true.shape[-1] == 1:
        targets = ops.squeeze(y_true, axis=-1)
    elif len(y_true.shape) == rank - 1 and elements.shape[-1] == 1:
        targets = ops.expand_dims(y_true, -1)
    if len(targets.shape) != rank or not _fits(targets, elements, broadcast=False):
        raise ValueError(f"expected targets of shape {tuple(elements.shape)}; got shape {tuple(y_true.shape)}")
    return targets


def aligned(values: Any, elements: Any) -> Any:
    """Weights or a mask with the rank of `elements`, to be broadcast: axes of 1 are added, or one is taken, at the end.

    Raises ValueError where they cannot be broadcast, as far as sizes are known.
    """
    rank = len(elements.shape)
    result = values
    if len(values.shape) == rank + 1 and values.shape[-1] == 1:
        result = ops.squeeze(values, axis=-1)
    if len(result.shape) > rank or not _fits(result, elements, broadcast=True):
        raise ValueError(
            f"expected weights or a mask that fit {tuple(elements.shape)} from the first axis on; "
            f"got shape {tuple(values.shape)}"
        )
    for _ in range(rank - len(result.shape)):
        result = ops.expand_dims(result, -1)
    return result


def element_weights(elements: Any, *, sample_weight: Any, mask: Any) -> Any:
    """What each element counts, float64 of the shape of `elements`: 1, times its weight, 0 where the mask is False."""
    weights = ops.ones(ops.shape(elements), "float64")
    if sample_weight is not None:
        weights *= ops.cast(aligned(ops.convert_to_tensor(sample_weight), elements), "float64")
    if mask is not None:
        weights = ops.where(aligned(ops.cast(mask, "bool"), elements), weights, ops.zeros_like(weights))
    return weights


def holds_ids(y_true: Any, *, rank: int, sparse: bool | None) -> bool:
    """Whether targets are class ids, rather than one number for each class.

    rank: that of the predictions without their classes. sparse: the answer, where the caller was told; None asks the
    shape: ids have that rank, or one axis of 1 more.
    Raises ValueError where the shape does not tell, and where it is another than the caller was told.
    """
    shape = tuple(y_true.shape)
    if len(shape) == rank + 1 and shape[-1] is None:
        if sparse is None:
            raise ValueError(
                f"the shape of the targets, {shape}, does not tell what they are; give sparse=True or False"
            )
        return sparse
    ids = len(shape) == rank or (len(shape) == rank + 1 and shape[-1] == 1)
    if sparse not in (None, ids):
        expected = "class ids, as sparse=True says" if sparse else "one-hot targets, as sparse=False says"
        raise ValueError(f"expected {expected}; got targets of shape {shape}")
    return ids


def _fits(values: Any, elements: Any, *, broadcast: bool) -> bool:
    allowed = (1, None) if broadcast else (None,)
    pairs = zip(values.shape, elements.shape, strict=False)
    return all(size is None or own == size or own in allowed for own, size in pairs)
