"""The parsers behind `keraship scan` survive whatever bytes they are given: findings, or a ModelError."""

import json
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keraship.check_config import check_config, check_sizes, foreign_modules
from keraship.check_pickle import check_pickle
from keraship.errors import ModelError
from keraship.exporter import inspection, protobuf_walk, tensorflow_ops
from keraship.exporter.scan import scan
from keraship.quiet import import_tensorflow

QUICK = settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))

SUFFIXES = (".pb", ".onnx", ".tflite", ".npy", ".npz", ".keras", ".h5")
HEADS = {
    ".tflite": b"\x1c\x00\x00\x00TFL3",
    ".npy": b"\x93NUMPY\x01\x00",
    ".h5": b"\x89HDF\r\n\x1a\n",
    ".npz": b"PK\x03\x04",
}


def scanned(path):
    """What a scan says: any number of findings, or that the file is broken."""
    try:
        return [str(found) for found in scan(path).findings]
    except ModelError as error:
        return [str(error)]


@QUICK
@given(content=st.binary(max_size=400), suffix=st.sampled_from(SUFFIXES), headed=st.booleans())
def test_any_bytes_are_scanned(tmp_path_factory, content, suffix, headed):
    """Of every format, with the magic number or without."""
    path = tmp_path_factory.mktemp("any") / f"m{suffix}"
    path.write_bytes(HEADS.get(suffix, b"") * headed + content)
    assert all("\n" not in said for said in scanned(path))


@pytest.mark.parametrize("file", ["saved_model.pb", "model.onnx"])
@QUICK
@given(data=st.data())
def test_changed_bytes_are_scanned(cnn, tmp_path_factory, file, data):
    """A whole artifact with some bytes changed, taken away or put in."""
    content = bytearray((cnn / file).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content) - 1))
        content[start : start + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
    path = tmp_path_factory.mktemp("changed") / file
    path.write_bytes(content)
    scanned(path)


@QUICK
@given(message=st.binary(max_size=200))
def test_fields_cover_a_message_or_raise(message):
    """The walker gives what lies inside of the message, or ValueError."""
    try:
        found = list(protobuf_walk.fields(memoryview(message)))
    except ValueError:
        return
    assert sum(len(value) for _, value in found if isinstance(value, memoryview)) <= len(message)


def test_fields_agree_with_protobuf():
    """Every kind of field of a real message, against protobuf's own parser."""
    import_tensorflow()
    from tensorflow.core.framework import tensor_pb2

    tensor = tensor_pb2.TensorProto(dtype=1, tensor_content=b"abcd", float_val=[1, 2], int64_val=[3, -4])
    tensor.tensor_shape.dim.add(size=-1, name="batch")
    walked = memoryview(tensor.SerializeToString())
    assert protobuf_walk.integers(walked, 10) == [3, -4]
    assert protobuf_walk.text(walked, 4) == "abcd"
    (size,) = protobuf_walk.path(walked, 2, 2)
    assert (protobuf_walk.integer(size, 1), protobuf_walk.text(size, 2)) == (-1, "batch")


@QUICK
@given(head=st.binary(max_size=200))
def test_any_bytes_are_asked_whether_they_are_a_pickle(head):
    """One finding at the most."""
    assert len(list(check_pickle(head))) <= 1


KEYS = ["class_name", "config", "module", "name", "layers", "registered_name", "units", "vocabulary", "function"]
KEYS += ["batch_shape", "dtype", "compile_config", "inbound_nodes"]
WORDS = ["Lambda", "__lambda__", "function", "os", "keras.layers", "InputLayer", "Dense", "[{", "nan"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(WORDS) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=20,
)


@QUICK
@given(config=st.dictionaries(st.sampled_from(KEYS), JSON))
def test_any_configuration_is_checked(config):
    """Whatever JSON stands where a layer should."""
    assert all(str(found) for found in [*check_config(config), *check_sizes(config, 0)])
    assert all(isinstance(module, str) for module in foreign_modules(config))


@QUICK
@given(config=st.dictionaries(st.sampled_from(KEYS), JSON))
def test_any_configuration_is_inspected(models, tmp_path_factory, config):
    """An archive with that configuration: what it holds, or a ModelError."""
    path = tmp_path_factory.mktemp("config") / "m.keras"
    with zipfile.ZipFile(models / "cnn.keras") as whole, zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.weights.h5", whole.read("model.weights.h5"))
        archive.writestr("config.json", json.dumps({"class_name": "Sequential", **config}))
    try:
        found = inspection.look(path)
    except ModelError:
        return
    assert found.path == path


@pytest.mark.parametrize("shape", [3, "ab", {"a": 1}, [[1], "b", None], None])
def test_an_input_of_any_shape_is_inspected(models, tmp_path, shape):
    """What is no size is shown as an open one."""
    layer = {"class_name": "InputLayer", "config": {"batch_shape": shape, "dtype": [1]}}
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(models / "cnn.keras") as whole, zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.weights.h5", whole.read("model.weights.h5"))
        archive.writestr("config.json", json.dumps({"class_name": "Sequential", "config": {"layers": [layer]}}))
    assert len(inspection.look(path).inputs) == 1


def test_every_operation_is_tensorflows():
    """The names in the tables are registered operations: a typing error would hide a danger."""
    import_tensorflow()
    from tensorflow.core.framework import op_def_pb2
    from tensorflow.python.client import pywrap_tf_session

    registered = op_def_pb2.OpList.FromString(pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList()))
    names = {op.name for op in registered.op}
    tables = (tensorflow_ops.DANGEROUS, tensorflow_ops.OF_CHECKPOINTS, tensorflow_ops.OF_TABLES)
    assert {op for table in (*tables, tensorflow_ops.BY_ATTRIBUTE) for op in table} <= names


def test_what_the_exporter_writes_is_clean(cnn, lstm):
    """A published version has no findings; a folder is scanned with all its files."""
    assert [scan(version).findings for version in (cnn, lstm)] == [(), ()]


def test_a_folder_of_too_many_files_is_refused(tmp_path, monkeypatch):
    """A scan ends; here after ten files."""
    monkeypatch.setattr("keraship.exporter.scan.MOST_FILES", 10)
    for index in range(11):
        (tmp_path / str(index)).mkdir()
        (tmp_path / str(index) / "file").touch()
    with pytest.raises(ModelError, match="more than 10 files"):
        scan(tmp_path)
