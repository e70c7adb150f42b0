"""Tensors on the wire: every type, encoding and shape there and back, and messages that are no tensors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import keraship.wire
from keraship import dtypes
from keraship.errors import InvalidArgument
from keraship.signature import Signature, TensorSpec
from keraship.wire import to_array, to_tensor
from keraship.wire.messages import SignatureDef, TensorProto
from keraship.wire.signatures import to_signature, to_signature_def, to_signature_def_map

NUMERIC = [dtype for dtype in dtypes.DTYPES if dtype is not dtypes.STRING]
ENCODINGS = ["tensor_content", "values", "compact"]
WIRE = Path(keraship.wire.__file__).parent


def bits(dtype: dtypes.DType, shape: tuple[int, ...], data: st.DataObject) -> np.ndarray:
    """An array of any bits that the type may have, NaNs of all kinds included."""
    if "int" in dtype.name and dtype.numpy.isbuiltin != 1:  # int4 and int2 use a part of their byte
        half = 2 ** (int(dtype.name[-1]) - 1)
        low = 0 if dtype.name.startswith("u") else -half
        return data.draw(hnp.arrays(np.int8, shape, elements=st.integers(low, low + 2 * half - 1))).astype(dtype.numpy)
    if dtype.numpy == np.bool_:
        return data.draw(hnp.arrays(np.bool_, shape))
    raw = data.draw(hnp.arrays(np.uint8, (*shape, dtype.numpy.itemsize)))
    return raw.view(dtype.numpy).reshape(shape)


@pytest.mark.parametrize("encoding", ENCODINGS)
@settings(max_examples=300, deadline=None)
@given(st.data())
def test_every_array_comes_back_bit_for_bit(encoding: str, data: st.DataObject) -> None:
    """Whatever the type, the shape, the encoding; scalars and empty arrays too, through real bytes."""
    dtype = data.draw(st.sampled_from(NUMERIC))
    array = bits(dtype, data.draw(hnp.array_shapes(min_dims=0, min_side=0, max_side=4)), data)
    tensor = TensorProto.FromString(to_tensor(array, dtype=dtype.name, encoding=encoding).SerializeToString())
    back = to_array(tensor)
    assert (tensor.dtype, back.dtype, back.shape) == (dtype.number, array.dtype, array.shape)
    quiet = dtype.name in {"float32", "complex64"} and encoding != "tensor_content"  # Python's floats quieten NaNs
    assert back.tobytes() == array.tobytes() or (quiet and np.array_equal(back, array, equal_nan=True))


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(hnp.arrays(object, hnp.array_shapes(min_dims=0, min_side=0, max_side=4), elements=st.binary() | st.text()))
def test_every_string_comes_back_as_bytes(encoding: str, array: np.ndarray) -> None:
    """NULs and all."""
    back = to_array(TensorProto.FromString(to_tensor(array, encoding=encoding).SerializeToString()))
    assert back.shape == array.shape
    assert back.ravel().tolist() == [item.encode() if isinstance(item, str) else item for item in array.ravel()]


@given(st.lists(st.binary(max_size=300), max_size=4))
def test_strings_in_tensor_content(strings: list[bytes]) -> None:
    """Lengths as varints, then the bytes; any cut, or any byte too many, is refused."""
    content = b"".join(varint(len(item)) for item in strings) + b"".join(strings)
    tensor = TensorProto(dtype=7, tensor_content=content)
    tensor.tensor_shape.dim.add().size = len(strings)
    assert to_array(tensor).tolist() == (strings if content else [b""] * len(strings))
    for broken in (content[:-1], content + b"x"):
        if broken:
            tensor.tensor_content = broken
            with pytest.raises(InvalidArgument):
                to_array(tensor)


def varint(value: int) -> bytes:
    head = bytes([value & 0x7F | (0x80 if value > 0x7F else 0)])
    return head + varint(value >> 7) if value > 0x7F else head


def test_values_are_filled_as_tensorflow_fills_them() -> None:
    """Too few repeat the last, none are zeros, too many are ignored."""
    for values, expected in (([1, 2], [1, 2, 2, 2]), ([], [0, 0, 0, 0]), ([1, 2, 3, 4, 5], [1, 2, 3, 4])):
        tensor = TensorProto(dtype=3, int_val=values)
        tensor.tensor_shape.dim.add().size = 4
        assert to_array(tensor).tolist() == expected
    strings = TensorProto(dtype=7)
    strings.tensor_shape.dim.add().size = 2
    assert to_array(strings).tolist() == [b"", b""]


def test_compact_leaves_repeated_values_out() -> None:
    """Only those at the end, only the very same bits."""
    assert list(to_tensor(np.float32([0, 1, 1, 1]), encoding="compact").float_val) == [0, 1]
    assert list(to_tensor(np.float32([0.0, -0.0]), encoding="compact").float_val) == [0.0, -0.0]
    assert len(to_tensor(np.float32([np.nan] * 5), encoding="compact").float_val) == 1
    assert list(to_tensor(["a", "a"], encoding="compact").string_val) == [b"a"]


def test_an_array_shares_the_messages_memory_unless_copied() -> None:
    """And is then read-only."""
    tensor = to_tensor(np.float32([1, 2]))
    assert not to_array(tensor).flags.writeable
    assert to_array(tensor, copy=True).flags.writeable


def test_what_no_tensor_can_hold_is_refused() -> None:
    """Dates, mixed lists, objects, lone surrogates; and a type that the array has not."""
    for value in (np.array(["2020"], "M8[D]"), [1, "a"], [object()], ["\ud800"], np.longdouble(1)):
        with pytest.raises(InvalidArgument):
            to_tensor(value)
    with pytest.raises(InvalidArgument, match="expected an array of int8 to write as qint8; got int16"):
        to_tensor(np.int16([1]), dtype="qint8")


@pytest.mark.parametrize(
    ("fields", "sizes", "message"),
    [
        ({"dtype": 1}, [-1], "sizes are 0 or more"),
        ({"dtype": 1}, [2**62, 2**62], "at most"),
        ({"dtype": 1}, [2**40], "at most"),
        ({"dtype": 1}, [0, 2**62], "shape that numpy has"),
        ({"dtype": 1}, [1] * 100, "shape that numpy has"),
        ({"dtype": 1, "tensor_content": b"abc"}, [1], "tensor_content of 4 bytes"),
        ({"dtype": 1, "tensor_content": b"abcd"}, [0], "tensor_content of 0 bytes"),
        ({"dtype": 7, "tensor_content": b"\xff" * 9}, [1], "lengths"),
        ({"dtype": 0}, [], "DT_INVALID"),
        ({"dtype": 20}, [], "DT_RESOURCE"),
        ({"dtype": 21}, [], "DT_VARIANT"),
        ({"dtype": 4711}, [], "4711"),
    ],
)
def test_messages_that_are_no_tensors_are_refused(fields: dict[str, object], sizes: list[int], message: str) -> None:
    """With what is wrong, and before any memory is taken."""
    tensor = TensorProto(**fields)
    for size in sizes:
        tensor.tensor_shape.dim.add().size = size
    with pytest.raises(InvalidArgument, match=message):
        to_array(tensor)


def test_unknown_rank_is_refused() -> None:
    """A tensor has a shape."""
    tensor = TensorProto(dtype=1)
    tensor.tensor_shape.unknown_rank = True
    with pytest.raises(InvalidArgument, match="unknown rank"):
        to_array(tensor)


def seeds() -> list[bytes]:
    arrays = [np.zeros((2, 3), dtype.numpy) for dtype in NUMERIC] + [np.array([b"ab", b""], object)]
    return [to_tensor(array, encoding=e).SerializeToString() for array in arrays for e in ENCODINGS]


@settings(max_examples=1000, deadline=None)
@given(st.sampled_from(seeds()), st.data())
def test_damaged_messages_are_refused_or_read_and_never_crash(seed: bytes, data: st.DataObject) -> None:
    """Any bytes that parse as a TensorProto are an array or an InvalidArgument."""
    damaged = bytearray(seed)
    for _ in range(data.draw(st.integers(0, 4))):
        if damaged:
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        tensor = TensorProto.FromString(bytes(damaged) + data.draw(st.binary(max_size=6)))
    except DecodeError:
        return
    sizes = [dim.size for dim in tensor.tensor_shape.dim]
    if any(size > 10_000 for size in sizes):  # true sizes, but gigabytes of zeros: nothing that this test needs
        return
    try:
        array = to_array(tensor)
    except InvalidArgument:
        return
    assert array.shape == tuple(sizes)


def test_signatures_come_back() -> None:
    """Names, dtypes, shapes (scalars, unknown sizes, unknown rank) and the tensors' names."""
    signature = Signature(
        (TensorSpec("a", "float32", (None, 3), "a:0"), TensorSpec("b", "string", None, "b:0")),
        (TensorSpec("c", "qint8", (), "c:0"),),
        "tensorflow/serving/predict",
    )
    assert to_signature(to_signature_def(signature)) == signature
    assert list(to_signature_def_map({"x": signature}).signature_def) == ["x"]


def test_signatures_without_plain_tensors_are_refused() -> None:
    """Sparse inputs, resources."""
    sparse, resource = SignatureDef(), SignatureDef()
    sparse.inputs["s"].dtype = 1
    sparse.inputs["s"].coo_sparse.values_tensor_name = "v"
    resource.inputs["r"].dtype = 20
    for message, says in ((sparse, "'s' to be a dense tensor"), (resource, "DT_RESOURCE")):
        with pytest.raises(InvalidArgument, match=says):
            to_signature(message)


def test_the_descriptor_set_is_what_the_proto_files_say(tmp_path: Path) -> None:
    """Compiled anew, it has the same messages, fields and enums."""
    from google.protobuf import descriptor_pb2

    fresh = tmp_path / "fresh.binpb"
    subprocess.run(
        [
            sys.executable, "-m", "grpc_tools.protoc", f"-I{WIRE}", "--include_imports",
            f"--descriptor_set_out={fresh}",
            "tensorflow.proto", "tensorflow_serving.proto",
        ],
        check=True,
    )  # fmt: skip
    ours, new = (
        {file.name: file for file in descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes()).file}
        for path in (WIRE / "descriptors.binpb", fresh)
    )
    assert ours == new
