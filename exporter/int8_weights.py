"""Weights to 8 bits, a scale for each output channel."""

from __future__ import annotations

import numpy as np

from keraship.exporter.graph import Array

LEVELS = 127
"""The largest magnitude that is stored: -128 is left out, so that both signs are alike."""

_PAIR = 128
"""What two neighbours of one sign may come to.

CPUs without VNNI add two products of 8 bits in 16: 255 * (a + b) must not pass 32767. On an AVX2 CPU, weights of
127 beside 127 under activations of 255 gave half of the right sum. With neighbours kept to 128 an artifact answers
alike everywhere; it costs a bit at most.
"""


def quantized_weights(weights: Array, outputs: tuple[int, ...], inputs: tuple[int, ...]) -> tuple[Array, Array]:
    """int8 weights of the same shape, and the magnitude that LEVELS stands for in each output channel.

    outputs, inputs: the axes of channels. A channel of zeros gets a magnitude that is none to speak of.
    """
    others = tuple(axis for axis in range(weights.ndim) if axis not in outputs)
    largest = np.abs(weights).max(axis=others, keepdims=True)
    pairs = _pairs(weights, inputs, outputs).max(axis=others, keepdims=True)
    magnitude = np.maximum(np.maximum(largest, pairs * (LEVELS / (_PAIR - 1))), 1e-8).astype(np.float32)
    levels = np.clip(np.rint(weights / magnitude * LEVELS), -LEVELS, LEVELS).astype(np.int8)
    return levels, magnitude.reshape(-1)


def _pairs(weights: Array, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> Array:
    """What input channels 2i and 2i + 1 come to, where they have the same sign, in the place of each; else 0."""
    (axis,) = inputs
    if axis in outputs or weights.shape[axis] < 2:  # a channel of its own is summed over places, in 32 bits
        return np.zeros_like(weights)
    even = np.moveaxis(weights, axis, 0)
    left, right = even[0 : len(even) // 2 * 2 : 2], even[1::2]
    summed = np.where(np.sign(left) == np.sign(right), np.abs(left + right), 0)
    result = np.zeros_like(even)
    result[: len(summed)] = summed
    return np.moveaxis(result, 0, axis)
