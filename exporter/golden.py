"""Golden samples: the few inputs that every artifact must answer as the Keras model does."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from keraship import dtypes
from keraship.errors import DataError, ExportError, InvalidInput
from keraship.reasons import reason
from keraship.samples import Samples, named
from keraship.signature import Signature, TensorSpec, check_array, format_shape

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]
Answer = Callable[[Arrays], Arrays]
Blame = Callable[[Callable[[], Any]], list[str]]

ROWS = 8
BATCHES = (1, 2, 7)

_PART = 64  # rows asked at once: enough to be quick, few enough for any model to fit in memory
_SIZES = {4: 64, 3: 16, 2: 16}  # of an input's rank -> an open size: images, sequences of vectors, of tokens
_MOST_DRAWN = 1 << 29  # elements of an input; 4 GB as they are drawn
_INT_LIMITS = (1000, 100, 10, 2)  # integers mostly are indices into a vocabulary, which may be large or tiny
_WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy dog"]


def golden(
    signature: Signature, answer: Answer, data: Samples | None, *, blame: Blame = lambda _ask: []
) -> tuple[Arrays, Arrays]:
    """Sample inputs of 8 rows (or of the model's own fixed number), and the Keras model's answers.

    data: where its first rows come from; without it they are drawn at random, with a fixed seed.
    blame: the names of the layers that are random, given a function that has the model answer once.
    Raises ExportError where the model fails on them, or answers differently when asked twice.
    """
    candidates = iter([cycled(data.inputs, _rows(signature, ROWS))] if data is not None else _drawn(signature))
    inputs = next(candidates)
    while True:
        try:
            outputs = answer(inputs)
            break
        except Exception as error:  # a layer's code may raise anything
            inputs = next(candidates, {})
            if not inputs:
                raise ExportError(
                    f"the model fails on sample inputs {signature} ({type(error).__name__}: {reason(error)}); "
                    "give it rows that it can answer: --evaluate DATA"
                ) from error
    _check_repeats(outputs, answer(inputs), lambda: blame(lambda: answer(inputs)))
    return inputs, outputs


def more(signature: Signature, inputs: Arrays, *, seed: int, count: int) -> Arrays:
    """Other rows than `inputs`, drawn as those were; for models that nobody has data of."""
    whole = [array.max(initial=0) for array in inputs.values() if array.dtype.kind in "iu"]
    limit = min(limit for limit in _INT_LIMITS if limit > max(whole, default=0))
    random = np.random.default_rng(seed)
    return {spec.name: _draw(spec, _rows(signature, count), random, limit) for spec in signature.inputs}


def is_batchable(signature: Signature) -> bool:
    """Whether the number of rows is free."""
    return all(spec.shape and spec.shape[0] is None for spec in signature.inputs)


def fit(signature: Signature, data: Samples) -> Samples:
    """The data under the model's names, in its dtypes: floats are rounded to the model's, other kinds are refused.

    Raises DataError.
    """
    data = named(data, tuple(spec.name for spec in signature.inputs))
    try:
        inputs = {spec.name: _fit(spec, data.inputs[spec.name]) for spec in signature.inputs}
    except InvalidInput as error:
        raise DataError(f"the data does not fit the model: {error}") from error
    return Samples(inputs, data.labels)


def rows(arrays: Mapping[str, Array], start: int, stop: int) -> Arrays:
    """Some rows of each array."""
    return {name: array[start:stop] for name, array in arrays.items()}


def cycled(arrays: Mapping[str, Array], count: int) -> Arrays:
    """The first `count` rows of each array; from the start again where there are too few."""
    return {name: array[np.arange(count) % len(array)] for name, array in arrays.items()}


def in_parts(answer: Answer, inputs: Mapping[str, Array]) -> Arrays:
    """The answers to any number of rows, asked a few at a time."""
    count = len(next(iter(inputs.values())))
    parts = [answer(rows(inputs, start, start + _PART)) for start in range(0, count, _PART)]
    return {name: np.concatenate([np.atleast_1d(part[name]) for part in parts]) for name in parts[0]}


def _fit(spec: TensorSpec, array: Array) -> Array:
    want = dtypes.by_name(spec.dtype).numpy
    if array.dtype.kind == "f" and want.kind in "fV":
        array = array.astype(want)
    return check_array(spec, array)


def _drawn(signature: Signature) -> Iterator[Arrays]:
    for limit in _INT_LIMITS if any(_is_whole(spec) for spec in signature.inputs) else _INT_LIMITS[:1]:
        random = np.random.default_rng(0)
        yield {spec.name: _draw(spec, _rows(signature, ROWS), random, limit) for spec in signature.inputs}


def _is_whole(spec: TensorSpec) -> bool:
    return dtypes.by_name(spec.dtype).numpy.kind in "iu"


def _rows(signature: Signature, count: int) -> int:
    """The number that the model was built for; `count` where it is free."""
    fixed = [spec.shape[0] for spec in signature.inputs if spec.shape and spec.shape[0] is not None]
    return fixed[0] if fixed else count


def _draw(spec: TensorSpec, count: int, random: np.random.Generator, limit: int) -> Array:
    if spec.shape is None:
        raise ExportError(
            f"the input {spec.name!r} has {format_shape(None)}: no samples can be drawn; give some: --evaluate DATA"
        )
    shape = tuple(
        size if size is not None else count if axis == 0 else _SIZES.get(len(spec.shape), 8)
        for axis, size in enumerate(spec.shape)
    )
    if math.prod(shape) > _MOST_DRAWN:
        raise ExportError(
            f"the input {spec.name!r} has {format_shape(spec.shape)}, of which {count} rows fill the memory; "
            "build the model for smaller inputs, or give it some rows: --evaluate DATA"
        )
    dtype = dtypes.by_name(spec.dtype)
    if _is_whole(spec):
        limit = min(limit, int(np.iinfo(dtype.numpy).max) + 1)
    return _DRAW.get(dtype.numpy.kind, _draw_floats)(random, shape, limit).astype(dtype.numpy)


def _draw_floats(random: np.random.Generator, shape: tuple[int, ...], _limit: int) -> Array:
    return random.random(shape)  # of [0, 1): what scaled images hold, and what roots and logarithms can take


def _draw_integers(random: np.random.Generator, shape: tuple[int, ...], limit: int) -> Array:
    return random.integers(0, limit, shape)


def _draw_words(random: np.random.Generator, shape: tuple[int, ...], _limit: int) -> Array:
    words = np.array([word.encode() for word in _WORDS], object)
    return words[random.integers(0, len(words), shape)]


def _draw_flags(random: np.random.Generator, shape: tuple[int, ...], _limit: int) -> Array:
    return random.integers(0, 2, shape)


_DRAW = {"b": _draw_flags, "i": _draw_integers, "u": _draw_integers, "O": _draw_words}


def _check_repeats(first: Arrays, second: Arrays, random_layers: Callable[[], list[str]]) -> None:
    for name, array in first.items():
        if array.dtype.kind in "iubO":
            same = np.array_equal(array, second[name])
        else:
            same = np.allclose(
                array.astype(complex), second[name].astype(complex), rtol=1e-3, atol=1e-5, equal_nan=True
            )
        if not same:
            layers = " and ".join(map(repr, random_layers())) or "a layer"
            raise ExportError(
                f"the model's output {name!r} differs when it is asked twice: {layers} draws random numbers at "
                "inference too; call it without training=True, or leave it out, and save the model again"
            )
