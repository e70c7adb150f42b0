"""The wire against TensorFlow itself: the same bytes, the same arrays, the same field numbers, in one process."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.example import example_pb2
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.core.protobuf import error_codes_pb2, meta_graph_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    prediction_log_pb2,
    regression_pb2,
)

from keraship import dtypes
from keraship.wire import messages, to_array, to_tensor

# TensorFlow's Python has numbers for these and nothing else.
UNKNOWN = {"float8_e4m3fnuz", "float8_e4m3b11fnuz", "float8_e5m2fnuz"}
KNOWN = [dtype for dtype in dtypes.DTYPES if dtype.name not in UNKNOWN]
WRITABLE = [dtype for dtype in KNOWN if dtype.name[:2] not in ("qi", "qu")]  # not the quantized ones
SMALL = ("float8", "int4", "uint4", "int2", "uint2")  # its C++ has no kernel that serializes them
SHAPES: list[tuple[int, ...]] = [(), (1,), (4,), (0,), (2, 0), (2, 3), (1, 2, 1, 3)]
ROOTS = [
    example_pb2.Example, meta_graph_pb2.SignatureDef, tensor_pb2.TensorProto, prediction_log_pb2.PredictionLog,
    predict_pb2.PredictRequest, predict_pb2.PredictResponse, inference_pb2.MultiInferenceRequest,
    inference_pb2.MultiInferenceResponse, classification_pb2.ClassificationResponse, regression_pb2.RegressionResponse,
    get_model_metadata_pb2.GetModelMetadataRequest, get_model_metadata_pb2.GetModelMetadataResponse,
    get_model_metadata_pb2.SignatureDefMap, get_model_status_pb2.GetModelStatusRequest,
    get_model_status_pb2.GetModelStatusResponse, model_management_pb2.ReloadConfigRequest,
    model_management_pb2.ReloadConfigResponse,
]  # fmt: skip


def sample(dtype: dtypes.DType, shape: tuple[int, ...]) -> np.ndarray:
    count = int(np.prod(shape))
    if dtype is dtypes.STRING:
        flat = np.empty(count, object)
        flat[:] = [b"\x00" * i + b"s" for i in range(count)]
        return flat.reshape(shape)
    flat = np.arange(count) % (2 if dtype.name.endswith("int2") else 7)
    return flat.reshape(shape).astype(dtype.numpy)


def plain(array: np.ndarray) -> np.ndarray:
    """TensorFlow's arrays of quantized types have one nameless field."""
    return array.view(array.dtype[0]) if array.dtype.names else array


@pytest.mark.parametrize("encoding", ["tensor_content", "values", "compact"])
@pytest.mark.parametrize("dtype", KNOWN, ids=str)
def test_tensorflow_reads_what_we_write(dtype: dtypes.DType, encoding: str) -> None:
    """Its C++ reader and its Python one, each array as it was."""
    for shape in SHAPES:
        array = sample(dtype, shape)
        if array.size > 1:
            array.reshape(-1)[-2] = array.reshape(-1)[-1]
        ours = to_tensor(array, dtype=dtype.name, encoding=encoding)
        theirs = tensor_pb2.TensorProto.FromString(ours.SerializeToString())
        read = plain(tf.make_ndarray(theirs))
        assert read.shape == shape
        assert read.tolist() == array.tolist()
        if not tf.dtypes.as_dtype(dtype.number).is_quantized and "int2" not in dtype.name:
            parsed = tf.io.parse_tensor(theirs.SerializeToString(), dtype.number).numpy()
            assert np.asarray(parsed).tolist() == array.tolist()


@pytest.mark.parametrize("dtype", WRITABLE, ids=str)
def test_we_read_what_tensorflow_writes(dtype: dtypes.DType) -> None:
    """make_tensor_proto, and the C++ writer behind serialize_tensor."""
    for shape in SHAPES:
        array = sample(dtype, shape)
        theirs = [tf.make_tensor_proto(array, dtype.number, shape=shape)]
        if not dtype.name.startswith(SMALL):
            serialized = tf.io.serialize_tensor(tf.constant(array, dtype.number, shape=shape)).numpy()
            theirs.append(tensor_pb2.TensorProto.FromString(serialized))
        for message in theirs:
            back = to_array(messages.TensorProto.FromString(message.SerializeToString()))
            assert (back.dtype, back.shape) == (array.dtype, shape)
            assert back.tolist() == array.tolist()


@pytest.mark.parametrize("dtype", [d for d in WRITABLE if d is not dtypes.STRING], ids=str)
def test_the_bytes_are_tensorflows(dtype: dtypes.DType) -> None:
    """Where make_tensor_proto uses tensor_content, ours is the very same message."""
    array = sample(dtype, (2, 3))
    theirs = tf.make_tensor_proto(array, dtype.number)
    if theirs.tensor_content:
        assert to_tensor(array).SerializeToString(deterministic=True) == theirs.SerializeToString(deterministic=True)


def test_filling_is_tensorflows() -> None:
    """Too few values, none, and too many are read as its C++ reads them."""
    for values in ([], [1.5], [1.5, 2.5], [1.5] * 9):
        theirs = tensor_pb2.TensorProto(dtype=1, float_val=values)
        theirs.tensor_shape.dim.add().size = 4
        data = theirs.SerializeToString()
        expected = tf.io.parse_tensor(data, tf.float32).numpy().tolist()
        assert to_array(messages.TensorProto.FromString(data)).tolist() == expected


def test_every_dtype_has_tensorflows_number_and_name() -> None:
    """By the enum, and by the name that its own dtypes have."""
    for dtype in dtypes.DTYPES:
        assert types_pb2.DataType.Name(dtype.number) == f"DT_{dtype.tf_name.upper()}"
    for dtype in KNOWN:
        assert tf.dtypes.as_dtype(dtype.number).name == dtype.name


@pytest.mark.parametrize("theirs", ROOTS, ids=lambda message: message.DESCRIPTOR.name)
def test_field_numbers_are_tensorflows(theirs: Any) -> None:
    """Each field of ours, and of the messages in it, has the number, type and label of theirs."""
    pool = messages.TensorProto.DESCRIPTOR.file.pool
    compared = compare(pool.FindMessageTypeByName(theirs.DESCRIPTOR.full_name), theirs.DESCRIPTOR, set())
    assert compared > 0


def compare(ours: Any, theirs: Any, seen: set[str]) -> int:
    if ours.full_name in seen:
        return 0
    seen.add(ours.full_name)
    for field in ours.fields:
        twin = theirs.fields_by_name[field.name]
        assert (field.number, field.type, field.is_repeated) == (twin.number, twin.type, twin.is_repeated), (
            field.full_name
        )
        one, other = field.containing_oneof, twin.containing_oneof
        assert (one and one.name) == (other and other.name), field.full_name
        if field.enum_type:
            numbers = {value.name: value.number for value in field.enum_type.values}
            twins = {value.name: value.number for value in twin.enum_type.values}
            assert numbers.items() <= twins.items(), field.full_name
    inner = [(f.message_type, theirs.fields_by_name[f.name].message_type) for f in ours.fields if f.message_type]
    return len(ours.fields) + sum(compare(a, b, seen) for a, b in inner)


def test_error_codes_are_tensorflows() -> None:
    """Ours stand in another file, with the same numbers."""
    pool = messages.TensorProto.DESCRIPTOR.file.pool
    ours = pool.FindEnumTypeByName("tensorflow.serving.ErrorCode").values
    assert all(error_codes_pb2.Code.Value(value.name) == value.number for value in ours)
