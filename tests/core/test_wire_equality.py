"""What goes over the wire against tensorflow-serving-api's own classes, over random types, shapes, names and encodings.

`make test` tries some hundred examples; `make thorough` more than 10,000.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tensorflow.core.framework import tensor_pb2
from tensorflow.python.framework import tensor_util
from tensorflow_serving.apis import classification_pb2, inference_pb2, predict_pb2, regression_pb2

from keraship import dtypes
from keraship.client import messages
from keraship.client.examples import read_example
from keraship.client.results import Target

EXAMPLES = int(os.environ.get("KERASHIP_EXAMPLES", "300"))

# TensorFlow's Python has a number for these, and neither reads nor writes them.
UNKNOWN = {"float8_e4m3fnuz", "float8_e4m3b11fnuz", "float8_e5m2fnuz"}
KNOWN = [dtype for dtype in dtypes.DTYPES if dtype.name not in UNKNOWN]
WRITABLE = [dtype for dtype in KNOWN if dtype.name[:2] not in ("qi", "qu")]  # it writes no quantized ones
SHAPES = hnp.array_shapes(min_dims=0, min_side=0, max_dims=5, max_side=5)
NAMES = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=30)
TARGETS = st.builds(Target, NAMES, version=st.none() | st.integers(0, 2**63 - 1)) | st.builds(
    Target, NAMES, version_label=NAMES
)


def draw_array(draw: Any, kinds: list[dtypes.DType]) -> tuple[dtypes.DType, np.ndarray]:
    """Any bits of the type, from a seed (to draw each element takes ten times as long); small integers in theirs."""
    dtype, shape = draw(st.sampled_from(kinds)), draw(SHAPES)
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    few = draw(st.booleans())  # of two values only, so that there is something to leave out in compact values
    count = int(np.prod(shape))
    if dtype is dtypes.STRING:
        strings = np.empty(count, object)
        strings[:] = [random.bytes(int(size)) for size in random.integers(0, 2 if few else 40, count)]
        return dtype, strings.reshape(shape)
    if dtype.numpy == np.bool_ or (dtype.numpy.isbuiltin != 1 and "int" in dtype.name):
        return dtype, random.integers(0, 2, shape).astype(dtype.numpy)
    raw = random.integers(0, 256, (count, dtype.numpy.itemsize)).astype(np.uint8)
    if few and count:
        raw = raw[:2][random.integers(0, min(count, 2), count)]
    return dtype, np.ascontiguousarray(raw).view(dtype.numpy).reshape(shape)


@st.composite
def named_arrays(draw: Any) -> dict[str, tuple[dtypes.DType, np.ndarray]]:
    return {name: draw_array(draw, KNOWN) for name in draw(st.lists(NAMES, max_size=3, unique=True))}


def layout(array: np.ndarray, how: str) -> np.ndarray:
    """The same values in another memory."""
    if how == "fortran":
        return np.asfortranarray(array) if array.ndim else array
    if how == "strided":
        return np.repeat(array, 2, axis=-1)[..., ::2] if array.ndim else array
    if how == "big-endian" and array.dtype.kind in "iufc":
        return array.astype(array.dtype.newbyteorder(">"))
    return array


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Bit for bit; where TensorFlow goes through Python's floats, one NaN may have become another."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one.dtype == object:
        return bool(one.ravel().tolist() == other.ravel().tolist())
    if one.tobytes() == other.tobytes():
        return True
    with np.errstate(invalid="ignore"):  # signaling NaNs
        as_numbers = [each.astype(np.complex128) if each.dtype.kind in "fcV" else each for each in (one, other)]
    return bool(np.array_equal(*as_numbers, equal_nan=True))


def plain(array: np.ndarray) -> np.ndarray:
    """TensorFlow's arrays of quantized types have one nameless field."""
    return array.view(array.dtype[0]) if array.dtype.names else array


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    TARGETS, named_arrays(), NAMES, st.lists(NAMES, max_size=2),
    st.sampled_from(["plain", "fortran", "strided", "big-endian"]),
)  # fmt: skip
def test_their_reader_reads_our_requests(
    target: Target, inputs: dict[str, Any], signature_name: str, output_filter: list[str], how: str
) -> None:
    """Every field, and each array by make_ndarray."""
    from keraship.signature import TensorSpec

    arrays = {name: layout(array, how) for name, (_, array) in inputs.items()}
    specs = [TensorSpec(name, kind.name, None) for name, (kind, _) in inputs.items()]
    call = messages.predict_call(
        target, arrays, signature_name=signature_name, output_filter=output_filter, specs=specs
    )
    request = predict_pb2.PredictRequest.FromString(call.body)
    spec = request.model_spec
    assert (spec.name, spec.signature_name) == (target.name, signature_name)
    assert (spec.version.value if spec.HasField("version") else None) == target.version
    assert (spec.version_label or None) == target.version_label
    assert list(request.output_filter) == output_filter
    assert request.inputs.keys() == inputs.keys()
    for name, (kind, array) in inputs.items():
        assert request.inputs[name].dtype == kind.number
        assert same(plain(tf.make_ndarray(request.inputs[name])), array)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.data(), st.sampled_from(["make_tensor_proto", "values", "compact"]), st.booleans())
def test_we_read_what_they_write(data: st.DataObject, encoding: str, copy: bool) -> None:
    """make_tensor_proto's messages, its single values, and those with the repeated ones at the end left out."""
    response = predict_pb2.PredictResponse()
    response.model_spec.name = "m"
    response.model_spec.version.value = data.draw(st.integers(0, 2**63 - 1))
    arrays = {}
    for name in data.draw(st.lists(NAMES, max_size=3, unique=True)):
        kind, array = draw_array(data.draw, WRITABLE)
        write(response.outputs[name], kind, array, encoding)
        arrays[name] = array
    prediction = messages.read_prediction(response.SerializeToString(), copy=copy)
    assert list(prediction) == sorted(arrays)
    assert prediction.model_spec.version == response.model_spec.version.value
    for name, array in arrays.items():
        assert same(prediction[name], array)
        assert prediction[name].flags.writeable is copy


def write(into: tensor_pb2.TensorProto, kind: dtypes.DType, array: np.ndarray, encoding: str) -> None:
    theirs = tf.make_tensor_proto(array, kind.number, shape=array.shape)
    if encoding == "make_tensor_proto":
        into.CopyFrom(theirs)
        return
    into.dtype = kind.number
    into.tensor_shape.CopyFrom(theirs.tensor_shape)
    flat = array.ravel()
    if encoding == "compact":
        while flat.size > 1 and flat[-1:].tolist() == flat[-2:-1].tolist():
            flat = flat[:-1]
    if kind is dtypes.STRING:
        into.string_val.extend(flat.tolist())
    elif flat.size:
        tensor_util.GetNumpyAppendFn(array.dtype)(into, flat)


FEATURES = st.dictionaries(
    NAMES,
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3)
    | st.lists(st.floats(width=32), max_size=3)
    | st.lists(st.binary(max_size=10), max_size=3)
    | st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=5), max_size=3),
    max_size=3,
)


@settings(max_examples=max(EXAMPLES // 3, 100), deadline=None)
@given(TARGETS, st.lists(FEATURES, max_size=3), st.none() | FEATURES)
def test_their_reader_reads_our_examples(target: Target, examples: list[Any], context: Any) -> None:
    """As tf.train.Example of the kind that its values have, in all three requests that have examples."""
    features = [read_example(example) for example in examples]
    shared = None if context is None else read_example(context)
    inputs = [
        classification_pb2.ClassificationRequest.FromString(
            messages.classify_call(target, features, shared, "s").body
        ).input,
        regression_pb2.RegressionRequest.FromString(messages.regress_call(target, features, shared, "s").body).input,
        inference_pb2.MultiInferenceRequest.FromString(
            messages.multi_inference_call(target, features, shared, {"s": "classify"}).body
        ).input,
    ]
    for message in inputs:
        listed = message.example_list if context is None else message.example_list_with_context
        assert [theirs(example) for example in listed.examples] == [expected(example) for example in examples]
        if context is not None:
            assert theirs(listed.context) == expected(context)


def theirs(example: Any) -> dict[str, str]:
    found = {}
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        found[name] = repr(list(getattr(feature, kind).value)) if kind else "[]"
    return found


def expected(example: dict[str, list[Any]]) -> dict[str, str]:
    return {
        name: repr([item.encode() if isinstance(item, str) else item for item in values])
        for name, values in example.items()
    }
