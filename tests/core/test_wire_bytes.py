"""Requests written and responses read without message objects: always what protobuf makes of the same bytes."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keraship import dtypes
from keraship.errors import InvalidArgument
from keraship.wire import to_array, to_tensor, write
from keraship.wire.messages import ModelSpec, PredictRequest, PredictResponse, TensorProto
from keraship.wire.read import read_predict_request, read_predict_response

EXAMPLES = int(os.environ.get("KERASHIP_EXAMPLES", "400"))
NUMERIC = [dtype for dtype in dtypes.DTYPES if dtype is not dtypes.STRING]
SHAPES = hnp.array_shapes(min_dims=0, min_side=0, max_dims=4, max_side=4)
NAMES = st.text(st.characters(exclude_categories=("Cs",)), max_size=200)
SPEC = ModelSpec(name="m", signature_name="serving_default")
ENCODINGS = ("tensor_content", "values", "compact")


@st.composite
def arrays(draw: Any) -> tuple[dtypes.DType, np.ndarray]:
    """Any bits of any type in any shape; strings too."""
    dtype = draw(st.sampled_from(dtypes.DTYPES))
    shape = draw(SHAPES)
    if dtype is dtypes.STRING:
        return dtype, draw(hnp.arrays(object, shape, elements=st.binary(max_size=150)))
    if dtype.numpy == np.bool_:
        return dtype, draw(hnp.arrays(np.bool_, shape))
    if dtype.numpy.itemsize == 1 and "int" in dtype.name and dtype.numpy.isbuiltin != 1:
        return dtype, draw(hnp.arrays(np.int8, shape, elements=st.integers(0, 1))).astype(dtype.numpy)
    raw = draw(hnp.arrays(np.uint8, (*shape, dtype.numpy.itemsize)))
    return dtype, raw.view(dtype.numpy).reshape(shape)


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Bit for bit, save that protobuf's Python floats may change one NaN into another."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one.dtype == object:
        return bool(one.ravel().tolist() == other.ravel().tolist())
    if one.tobytes() == other.tobytes():
        return True
    return one.dtype.kind in "fc" and np.array_equal(one, other, equal_nan=True)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.dictionaries(NAMES, arrays(), max_size=3), st.lists(NAMES, max_size=2), st.booleans())
def test_a_request_is_the_one_that_protobuf_writes(
    inputs: dict[str, tuple[dtypes.DType, np.ndarray]], output_filter: list[str], turned: bool
) -> None:
    """Every type, shape, name and memory layout: parsed, it equals the message that is made field by field."""
    message = PredictRequest(model_spec=SPEC, output_filter=output_filter)
    tensors = []
    for name, (kind, values) in inputs.items():
        array = values.T if turned else values
        to_tensor(array, dtype=kind.name, into=message.inputs[name])
        tensors.append((name, kind, array))
    head = write.predict_head(SPEC.SerializeToString(), output_filter)
    assert PredictRequest.FromString(write.join_predict_request(head, tensors)) == message


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.dictionaries(NAMES, arrays(), min_size=1, max_size=3), st.sampled_from(["same", "T", ">", "strided", "more"]))
def test_a_request_from_a_template_is_the_one_that_would_be_made(
    inputs: dict[str, tuple[dtypes.DType, np.ndarray]], how: str
) -> None:
    """For other values of the same dtypes and shapes; anything else is left to be made anew."""
    head = write.predict_head(SPEC.SerializeToString())
    tensors = [(name, kind, array) for name, (kind, array) in inputs.items()]
    body = write.join_predict_request(head, tensors)
    template = write.Template.of(body, {name: array for name, _, array in tensors})
    if template is None:
        return
    other = {name: array[..., ::-1].copy() if array.ndim else array for name, _, array in tensors}
    expected = write.join_predict_request(head, [(name, kind, other[name]) for name, kind, _ in tensors])
    assert template.fill(dict(reversed(other.items()))) == expected
    name, array = next(iter(other.items()))
    changed = {
        "same": array,
        "T": array.T,
        ">": array.astype(array.dtype.newbyteorder(">")),
        "strided": np.repeat(array, 2, axis=-1)[..., ::2] if array.ndim else array,
        "more": np.stack([array, array]),
    }[how]
    filled = template.fill({**other, name: changed})
    alike = changed.dtype == array.dtype and changed.shape == array.shape and changed.flags.c_contiguous
    assert (filled is not None) == alike
    assert template.fill({}) is None


def test_a_request_beyond_two_gigabytes_is_refused() -> None:
    """Before a byte of it is copied."""
    huge = np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), (2**29 + 1,), (0,), writeable=False)
    fake = np.zeros(0, np.float32)
    with pytest.raises(InvalidArgument, match="less than 2 GiB"):
        write.join_predict_request(b"x" * 10, [("x", dtypes.by_name("float32"), _Claims(huge.nbytes, fake))])  # type: ignore[list-item]


class _Claims:
    """An array that says it is large."""

    def __init__(self, nbytes: int, array: np.ndarray) -> None:
        self.nbytes, self._array, self.shape = nbytes, array, (nbytes // 4,)

    flags = np.zeros(1).flags
    dtype = np.dtype("V1")

    def reshape(self, _size: int) -> _Claims:
        return self

    def view(self, _dtype: object) -> np.ndarray:
        return np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (self.nbytes,), (0,), writeable=False)


@st.composite
def responses(draw: Any) -> bytes:
    """What servers write, and what they might: compact values, packed fields in pieces, fields nobody knows."""
    parts = []
    for name, (kind, array) in draw(st.dictionaries(NAMES, arrays(), max_size=3)).items():
        tensor = to_tensor(array, dtype=kind.name, encoding=draw(st.sampled_from(ENCODINGS))).SerializeToString()
        if draw(st.integers(0, 4)) == 0:  # a second piece of values, or of the shape
            again, _ = draw(st.sampled_from([(to_tensor(array, dtype=kind.name, encoding="values"), 0)]))
            tensor += again.SerializeToString()
        if draw(st.integers(0, 6)) == 0:
            tensor += draw(st.sampled_from([b"\x18\x01", b"\x7a\x01x", b"\xfa\x01\x00", b"\x2d\0\0\0\0", b"\x12\x00"]))
        entry = PredictResponse.OutputsEntry(key=name, value=TensorProto.FromString(tensor)).SerializeToString()
        if draw(st.booleans()):  # as they are, not as protobuf would merge and order them
            entry = write._field(b"\x0a", name.encode()) + write._field(b"\x12", tensor)
        parts.append(write._field(b"\x0a", entry))
    parts.append(write._field(b"\x12", SPEC.SerializeToString()))
    if draw(st.integers(0, 6)) == 0:
        parts.append(draw(st.sampled_from([b"\x1a\x01x", b"\x12\x02\x0a\x00", b"\x0a\x00", b"\xa2\x06\x00"])))
    return b"".join(draw(st.permutations(parts)))


def check_reading(data: bytes) -> bool:
    """Whether `data` was read by hand; then protobuf reads it too, and the same."""
    read = read_predict_response(data)
    if read is None:
        return False
    message = PredictResponse.FromString(data)
    outputs, spec = read
    assert outputs.keys() == set(message.outputs)
    for name, array in outputs.items():
        assert same(array, to_array(message.outputs[name])), name
    assert ModelSpec.FromString(spec) == message.model_spec
    return True


@settings(max_examples=EXAMPLES, deadline=None)
@given(responses())
def test_a_response_is_read_as_protobuf_reads_it(data: bytes) -> None:
    """Or left to protobuf."""
    check_reading(data)


@settings(max_examples=EXAMPLES, deadline=None)
@given(responses(), st.data())
def test_damaged_responses_are_never_read_wrongly(data: bytes, how: st.DataObject) -> None:
    """Cut anywhere, with bytes changed, put in and taken out: what is read by hand is what protobuf reads."""
    damaged = bytearray(data)
    for _ in range(how.draw(st.integers(0, 3))):
        at = how.draw(st.integers(0, max(len(damaged) - 1, 0)))
        kind = how.draw(st.sampled_from(["set", "insert", "delete", "cut"]))
        if kind == "set" and damaged:
            damaged[at] = how.draw(st.integers(0, 255))
        elif kind == "insert":
            damaged[at:at] = how.draw(st.binary(max_size=4))
        elif kind == "delete":
            del damaged[at : at + 1]
        elif kind == "cut":
            del damaged[at:]
    try:
        check_reading(bytes(damaged))
    except DecodeError:
        # ModelSpec's bytes are handed on unread: whoever reads them finds out.
        outside = read_predict_response(bytes(damaged))
        assert outside is not None
        with pytest.raises(DecodeError):
            ModelSpec.FromString(outside[1])
    except InvalidArgument as error:
        pytest.fail(f"read by hand what is no tensor: {error}")


@settings(max_examples=EXAMPLES, deadline=None)
@given(responses(), st.lists(st.text(max_size=3), max_size=2), st.integers(-1, 300), st.integers(0, 255))
def test_a_request_is_read_as_protobuf_reads_it(data: bytes, names: list[str], at: int, byte: int) -> None:
    """Whole or with a byte changed; or left to protobuf. A request's fields are a response's with other numbers."""
    try:
        response = PredictResponse.FromString(data)
    except DecodeError:
        return
    request = PredictRequest(model_spec=response.model_spec, output_filter=names)
    for name, tensor in response.outputs.items():
        request.inputs[name].CopyFrom(tensor)
    raw = bytearray(request.SerializeToString())
    if 0 <= at < len(raw):
        raw[at] = byte
    read = read_predict_request(bytes(raw))
    if read is None:
        return
    inputs, spec, asked = read
    try:
        message = PredictRequest.FromString(bytes(raw))
    except DecodeError:  # as above: in the ModelSpec's bytes
        with pytest.raises(DecodeError):
            ModelSpec.FromString(spec)
        return
    assert inputs.keys() == set(message.inputs)
    for name, array in inputs.items():
        assert same(array, to_array(message.inputs[name])), name
    assert ModelSpec.FromString(spec) == message.model_spec
    assert asked == list(message.output_filter)


def test_a_usual_request_is_read_by_hand() -> None:
    """With the array as a view of its bytes."""
    request = PredictRequest(model_spec=SPEC, output_filter=["y"])
    to_tensor(np.float32([[1, 2]]), into=request.inputs["x"])
    read = read_predict_request(request.SerializeToString())
    assert read is not None
    assert read[0]["x"].tolist() == [[1, 2]]
    assert not read[0]["x"].flags.owndata
    assert read[2] == ["y"]


@pytest.mark.parametrize("encoding", ["tensor_content", "values"])
@pytest.mark.parametrize("dtype", dtypes.DTYPES, ids=str)
def test_what_servers_write_is_read_by_hand(dtype: dtypes.DType, encoding: str) -> None:
    """Every type in both encodings: the fast way is the way that is taken; floats and contents are not copied."""
    text = np.array([b"a", b"", b"\0"], object)
    array = text if dtype is dtypes.STRING else (np.arange(3) % 2).astype(dtype.numpy)
    message = PredictResponse(model_spec=SPEC)
    to_tensor(array, dtype=dtype.name, encoding=encoding, into=message.outputs["y"])  # type: ignore[arg-type]
    data = message.SerializeToString()
    assert check_reading(data)
    read = read_predict_response(data)
    assert read is not None
    assert same(read[0]["y"], array)
    if dtype is not dtypes.STRING and (encoding == "tensor_content" or dtype.field in ("float_val", "double_val")):
        assert not read[0]["y"].flags.owndata
        assert not read[0]["y"].flags.writeable


def test_a_message_that_is_nearly_the_last_one_is_read_for_itself() -> None:
    """Layouts are remembered: any other byte, anywhere in a message of the same length, is still seen."""
    message = PredictResponse(model_spec=SPEC)
    to_tensor(np.float32([[1, 2]]), encoding="values", into=message.outputs["y"])
    to_tensor(np.int64([3, 4]), into=message.outputs["z"])
    data = message.SerializeToString(deterministic=True)
    for at in range(len(data)):
        for value in (0, 1, 2, 4, 8, 10, 18, 34, 127, 128, 255, data[at] ^ 1):
            changed = data[:at] + bytes([value]) + data[at + 1 :]
            assert check_reading(data)
            try:
                check_reading(changed)
            except (DecodeError, InvalidArgument):
                read = read_predict_response(changed)
                assert read is not None
                with pytest.raises(DecodeError):
                    ModelSpec.FromString(read[1])


@pytest.mark.parametrize("value", [0, 1, 127, 128, 2**31 - 1, -1, -(2**31), 2**62, -(2**63)])
def test_integers_of_every_length(value: int) -> None:
    """Varints of one to ten bytes, mixed."""
    for name in ("int32", "int64"):
        dtype = dtypes.by_name(name)
        if not np.iinfo(dtype.numpy).min <= value <= np.iinfo(dtype.numpy).max:
            continue
        message = PredictResponse()
        to_tensor(np.array([0, value, 300], dtype.numpy), encoding="values", into=message.outputs["y"])
        assert check_reading(message.SerializeToString())
