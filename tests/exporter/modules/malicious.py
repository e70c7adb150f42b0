"""Model files that nobody should load: each made by a function of a folder, under the name of what is wrong with it."""

import base64
import io
import json
import marshal
import os
import pickle
import shutil
import struct
import types
import zipfile
from functools import partial
from pathlib import Path

import h5py
import numpy as np

CASES = {}
"""By name: the function that makes it, and the kind of the danger that a scan finds; "broken" is an error."""

FIRST = []
"""The first case of each maker."""

CANARY = "canary"
"""What the files create, in their folder, where their code is run."""


def case(kind, *names):
    """Register a maker, once for each name, which it is given after the folder and the whole files."""

    def register(make):
        FIRST.append((names or (make.__name__,))[0])
        for name in names or (make.__name__,):
            CASES[name] = (partial(make, name=name) if names else make), kind
        return make

    return register


class Whole:
    """Whole files to break: a .keras, an .h5, a saved_model.pb with its folder, an .onnx, a .tflite."""

    def __init__(self, keras, h5, saved_model, onnx, tflite):
        self.keras, self.h5, self.saved_model, self.onnx, self.tflite = keras, h5, saved_model, onnx, tflite

    def members(self):
        with zipfile.ZipFile(self.keras) as archive:
            return {name: archive.read(name) for name in archive.namelist()}


def make_all(folder, whole):
    """Every case in a folder of its own: its path by its name."""
    made = {}
    for name, (make, _) in CASES.items():
        (folder / name).mkdir()
        made[name] = make(folder / name, whole)
    return made


# ---- .keras: the archive ----


def write_keras(path, members, *more, compression=zipfile.ZIP_STORED):
    """more: (ZipInfo or name, bytes) beside the members."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in [*members.items(), *more]:
            archive.writestr(name, content)
    return path


PATHS = {
    "path_parent": "../evil",
    "path_absolute": "/var/evil",
    "path_deep": "assets/../../evil",
    "path_backslash": "..\\evil",
    "path_drive": "C:evil",
}


@case("path", *PATHS)
def escaping(folder, whole, name):
    return write_keras(folder / "m.keras", whole.members(), (PATHS[name], b"evil"))


MODES = {"member_symlink": 0o120777, "member_pipe": 0o010644, "member_device": 0o060644}


@case("link", *MODES)
def odd_member(folder, whole, name):
    info = zipfile.ZipInfo("assets/link")
    info.external_attr = MODES[name] << 16
    return write_keras(folder / "m.keras", whole.members(), (info, b"/etc/passwd"))


@case("duplicate", "duplicate_config.json", "duplicate_model.weights.h5")
def duplicate(folder, whole, name):
    doubled = name.removeprefix("duplicate_")
    buffer = io.BytesIO()
    # under another name of the same length, for zipfile warns of doubles
    members = {**whole.members(), doubled[::-1]: whole.members()[doubled]}
    write_keras(buffer, members)
    (folder / "m.keras").write_bytes(buffer.getvalue().replace(doubled[::-1].encode(), doubled.encode()))
    return folder / "m.keras"


@case("encrypted")
def encrypted(folder, whole):
    raw = bytearray(whole.keras.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        position = -1
        while (position := raw.find(signature, position + 1)) >= 0:
            raw[position + offset] |= 1
    (folder / "m.keras").write_bytes(raw)
    return folder / "m.keras"


@case("bomb", "bomb_asset", "bomb_config", "bomb_weights")
def bomb(folder, whole, name):
    members = whole.members()
    inside = {"bomb_asset": "assets/a", "bomb_config": "config.json", "bomb_weights": "model.weights.h5"}[name]
    return write_keras(folder / "m.keras", {**members, inside: bytes(70 << 20)}, compression=zipfile.ZIP_DEFLATED)


@case("bomb")
def overlapping(folder, whole):
    """Members that are all the same bytes."""
    path = folder / "m.keras"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in whole.members().items():
            archive.writestr(name, content)
        weights = archive.getinfo("model.weights.h5")
        for index in range(3):
            twin = zipfile.ZipInfo(f"weights-{index}")
            for key in ("header_offset", "file_size", "compress_size", "CRC"):
                setattr(twin, key, getattr(weights, key))
            archive.filelist.append(twin)
            archive.NameToInfo[twin.filename] = twin
    return path


@case("pickle", "member_pickle_4", "member_pickle_0")
def pickled_member(folder, whole, name):
    return write_keras(folder / "m.keras", whole.members(), ("assets/state", evil_pickle(folder, int(name[-1]))))


@case("broken", "no_config.json", "no_model.weights.h5")
def missing_member(folder, whole, name):
    members = whole.members()
    del members[name.removeprefix("no_")]
    return write_keras(folder / "m.keras", members)


CONFIGS = {
    "config_deep": b'{"class_name": ' * 100_000,
    "config_deep_whole": b'{"class_name":"A","config":' * 50_000 + b"1" + b"}" * 50_000,
    "config_bytes": b"\xff\xfe\x00",
    "config_list": b"[1, 2]",
    "config_empty": b"",
    "config_number": b"1" * 10_000,
    "config_null": b"null",
}


@case("broken", *CONFIGS)
def odd_config(folder, whole, name):
    return write_keras(folder / "m.keras", {**whole.members(), "config.json": CONFIGS[name]})


@case("broken", "weights_text", "weights_empty")
def odd_weights(folder, whole, name):
    content = {"weights_text": b"no weights", "weights_empty": b""}[name]
    return write_keras(folder / "m.keras", {**whole.members(), "model.weights.h5": content})


# ---- .keras and .h5: the configuration ----


def bytecode(folder):
    """A function that creates the canary, as Keras stores a lambda."""
    code = compile(f"lambda x: __import__('os').mkdir({str(folder / CANARY)!r}) or x", "<lambda>", "eval")
    inner = next(item for item in code.co_consts if isinstance(item, types.CodeType))
    return as_text(marshal.dumps(inner))


def as_text(content):
    return base64.b64encode(content).decode()


def stored_lambda(folder):
    return {"class_name": "__lambda__", "config": {"code": bytecode(folder), "defaults": None, "closure": None}}


def layer(class_name, module="keras.layers", **config):
    return {"module": module, "class_name": class_name, "config": {"name": class_name.lower(), **config}}


def function(module, name):
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


def dense(**changed):
    return layer("Dense", **{"units": 2, "activation": "relu", **changed})


def sequential(*layers, shape=(None, 4), **more):
    first = layer("InputLayer", batch_shape=list(shape), dtype="float32")
    config = {"name": "model", "layers": [first, *layers]}
    return {"module": "keras", "class_name": "Sequential", "config": config, "registered_name": None, **more}


def lambda_layer(folder):
    return layer("Lambda", function=stored_lambda(folder), arguments={})


CODE = {
    "lambda_sequential": lambda f: sequential(lambda_layer(f)),
    "lambda_nested": lambda f: sequential(sequential(sequential(lambda_layer(f)))),
    "lambda_time_distributed": lambda f: sequential(
        layer("TimeDistributed", layer=lambda_layer(f)), shape=(None, 3, 4)
    ),
    "lambda_bidirectional": lambda f: sequential(layer("Bidirectional", layer=lambda_layer(f))),
    "lambda_custom_object": lambda f: sequential(layer("Doubling", "doubling", inner=[{"a": lambda_layer(f)}])),
    "lambda_in_a_string": lambda f: sequential(layer("Doubling", "doubling", inner=json.dumps(lambda_layer(f)))),
    "lambda_activation": lambda f: sequential(dense(activation=stored_lambda(f))),
    "lambda_initializer": lambda f: sequential(dense(kernel_initializer=stored_lambda(f))),
    "lambda_shape": lambda f: sequential(layer("Lambda", function="relu", output_shape=stored_lambda(f))),
    "lambda_old": lambda f: sequential(layer("Lambda", function=[bytecode(f), None, None], function_type="lambda")),
    "lambda_without_module": lambda f: sequential({"class_name": "Lambda", "config": lambda_layer(f)["config"]}),
    "lambda_build_config": lambda f: sequential({**dense(), "build_config": {"shape": lambda_layer(f)}}),
    "bytecode_text": lambda f: sequential(layer("Doubling", "doubling", code=bytecode(f))),
    "pickle_text": lambda f: sequential(layer("Doubling", "doubling", state=as_text(evil_pickle(f, 4)))),
}
GADGETS = {
    "gadget_os": lambda _f: function("os", "system"),
    "gadget_posix": lambda _f: function("posix", "system"),
    "gadget_subprocess": lambda _f: layer("Popen", "subprocess", args=["touch", "x"]),
    "gadget_shutil": lambda _f: function("shutil", "rmtree"),
    "gadget_pickle": lambda _f: function("pickle", "loads"),
    "gadget_importlib": lambda _f: function("importlib", "import_module"),
    "gadget_eval": lambda _f: function("builtins", "eval"),
    "gadget_import": lambda _f: function("builtins", "__import__"),
    "gadget_numpy": lambda _f: function("numpy", "load"),
    "gadget_tensorflow": lambda _f: function("tensorflow.io", "read_file"),
    "gadget_get_file": lambda _f: function("keras.utils", "get_file"),
    "gadget_load_model": lambda _f: function("keras.models", "load_model"),
    "gadget_saving": lambda _f: function("keras.saving", "load_model"),
    "gadget_unsafe": lambda _f: function("keras.config", "enable_unsafe_deserialization"),
    "gadget_deserialize": lambda _f: function("keras.layers", "deserialize"),
    "gadget_source": lambda _f: function("keras.src.utils.file_utils", "get_file"),
    "gadget_as_class": lambda _f: layer("get_file", "keras.utils", origin="http://nowhere.invalid"),
}
FILES = {
    "vocabulary_file": ("local-file", lambda: layer("StringLookup", vocabulary="/etc/passwd")),
    "text_vocabulary_file": ("local-file", lambda: layer("TextVectorization", vocabulary="/etc/passwd")),
    "other_saved_model": ("local-file", lambda: layer("TFSMLayer", filepath="/srv/other", call_endpoint="serve")),
    "torch_module": ("pickle", lambda: layer("TorchModuleWrapper", module={"class_name": "__bytes__", "config": {}})),
}
SIZES = {
    "huge_units": lambda: sequential(dense(units=10**12)),
    "huge_units_float": lambda: sequential(dense(units=1e12)),
    "huge_filters": lambda: sequential(layer("Conv1D", filters=10**12, kernel_size=3), shape=(None, 8, 4)),
    "huge_embedding": lambda: sequential(layer("Embedding", input_dim=10**12, output_dim=64)),
    "huge_nested": lambda: sequential(layer("TimeDistributed", layer=dense(units=10**12)), shape=(None, 8, 4)),
    "nan_units": lambda: sequential(dense(units=float("nan"))),
}
REFUSED_BY_KERAS = {
    "huge_input": lambda: sequential(dense(), shape=(None, 10**12)),
    "negative_units": lambda: sequential(dense(units=-3)),
    "text_units": lambda: sequential(dense(units="many")),
    "nan_rate": lambda: sequential(layer("Dropout", rate=float("nan"))),
    "unknown_class": lambda: sequential(layer("NoSuchLayer")),
    "unknown_custom": lambda: sequential(layer("Thing", "nobodys.module")),
    "no_layers": lambda: {"module": "keras", "class_name": "Sequential", "config": None},
    "no_model": lambda: layer("Adam", "keras.optimizers"),
    "other_weights": lambda: sequential(dense(units=7)),
}


def with_config(folder, whole, config):
    return write_keras(folder / "m.keras", {**whole.members(), "config.json": json.dumps(config).encode()})


@case("code", *CODE)
def code(folder, whole, name):
    return with_config(folder, whole, CODE[name](folder))


@case("gadget", *GADGETS)
def gadget(folder, whole, name):
    called = GADGETS[name](folder)
    config = layer("Lambda", function=called, arguments={"command": f"touch {folder / CANARY}"})
    return with_config(folder, whole, sequential(dense(activation=called), config))


@case("gadget")
def nested_compile(folder, whole):
    """What a nested model was compiled with is loaded even where the outer one is not compiled."""
    inner = sequential(dense(), compile_config={"loss": function("os", "system")})
    return with_config(folder, whole, sequential(inner))


@case("local-file", *(name for name, (kind, _) in FILES.items() if kind == "local-file"))
@case("pickle", *(name for name, (kind, _) in FILES.items() if kind == "pickle"))
def local_file(folder, whole, name):
    return with_config(folder, whole, sequential(FILES[name][1]()))


@case("oversize", *SIZES)
def oversize(folder, whole, name):
    return with_config(folder, whole, SIZES[name]())


@case("clean", *REFUSED_BY_KERAS)
def refused_by_keras(folder, whole, name):
    """Nothing that runs or reads; but no model either."""
    return with_config(folder, whole, REFUSED_BY_KERAS[name]())


# ---- HDF5 ----


def write_h5(folder, whole, change, name="m.h5"):
    shutil.copy(whole.h5, folder / name)
    with h5py.File(folder / name, "r+") as file:
        change(file)
    return folder / name


def huge(file):
    file.create_dataset("huge", (10**12,), "f4", chunks=(1024,))


def virtual(file):
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("/etc/other.h5", "x", (4,))
    file.create_virtual_dataset("virtual", layout)


def outside(file):
    file.create_dataset("x", (4,), "f4", external=[("/etc/passwd", 0, 16)])


def plugin(file):
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((4,))
    properties.set_filter(32004, h5py.h5z.FLAG_OPTIONAL, ())
    h5py.h5d.create(file.id, b"packed", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((4,)), properties)


HDF5 = {
    "h5_external_link": ("link", lambda file: file.__setitem__("link", h5py.ExternalLink("/etc/other.h5", "/x"))),
    "h5_external_link_inside": (
        "link",
        lambda file: file.__setitem__("a/b/c", h5py.ExternalLink("o", "/")),
    ),
    "h5_virtual": ("link", virtual),
    "h5_external_content": (
        "link",
        lambda file: file.create_dataset("x", (4,), "f4", external=[("/etc/passwd", 0, 16)]),
    ),
    "h5_huge": ("oversize", huge),
    "h5_plugin": ("plugin", plugin),
}


@case("link", *(name for name, (kind, _) in HDF5.items() if kind == "link"))
@case("oversize", *(name for name, (kind, _) in HDF5.items() if kind == "oversize"))
@case("plugin", *(name for name, (kind, _) in HDF5.items() if kind == "plugin"))
def odd_h5(folder, whole, name):
    return write_h5(folder, whole, HDF5[name][1])


@case("oversize")
def keras_weights_huge(folder, whole):
    """The same inside a .keras archive."""
    path = folder / "weights.h5"
    path.write_bytes(whole.members()["model.weights.h5"])
    with h5py.File(path, "r+") as file:
        huge(file)
    return write_keras(folder / "m.keras", {**whole.members(), "model.weights.h5": path.read_bytes()})


@case("link")
def keras_weights_link(folder, whole):
    path = folder / "weights.h5"
    path.write_bytes(whole.members()["model.weights.h5"])
    with h5py.File(path, "r+") as file:
        file["layers/elsewhere"] = h5py.ExternalLink("/etc/other.h5", "/x")
    return write_keras(folder / "m.keras", {**whole.members(), "model.weights.h5": path.read_bytes()})


def set_config(config):
    return lambda file: file.attrs.__setitem__("model_config", config)


H5_CODE = ("lambda_sequential", "lambda_nested", "lambda_old", "lambda_time_distributed")


@case("code", *(f"h5_{name}" for name in H5_CODE))
def h5_code(folder, whole, name):
    return write_h5(folder, whole, set_config(json.dumps(CODE[name.removeprefix("h5_")](folder))))


@case("gadget")
def h5_gadget(folder, whole):
    return write_h5(folder, whole, set_config(json.dumps(sequential(dense(activation=function("os", "system"))))))


@case("oversize")
def h5_huge_units(folder, whole):
    return write_h5(folder, whole, set_config(json.dumps(sequential(dense(units=10**12)))))


@case("broken", "h5_text_config", "h5_deep_config", "h5_number_config")
def h5_odd_config(folder, whole, name):
    odd = {"h5_text_config": "{", "h5_deep_config": "[" * 60_000, "h5_number_config": 7}
    return write_h5(folder, whole, set_config(odd[name]))


@case("clean")
def h5_weights_alone(folder, whole):
    return write_h5(folder, whole, lambda file: file.attrs.__delitem__("model_config"))


@case("code")
def h5_named_keras(folder, whole):
    return h5_code(folder, whole, "lambda_sequential").rename(folder / "m.keras")


# ---- pickles ----


class Evil:
    """Creates the canary when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def evil_pickle(folder, protocol):
    return pickle.dumps(Evil(folder / CANARY), protocol)


PICKLES = ("pickle.keras", "pickle.h5", "pickle.pb", "pickle.onnx", "pickle.npz", "pickle.tflite", "pickle.pkl")


@case("pickle", *PICKLES)
def renamed_pickle(folder, _whole, name):
    (folder / f"m{name.removeprefix('pickle')}").write_bytes(evil_pickle(folder, 4))
    return folder / f"m{name.removeprefix('pickle')}"


@case("pickle", "pickle_0", "pickle_2", "pickle_5")
def other_protocol(folder, _whole, name):
    (folder / "m.keras").write_bytes(evil_pickle(folder, int(name[-1])))
    return folder / "m.keras"


@case("pickle", "pickled_array.npz", "pickled_array.npy")
def pickled_array(folder, _whole, name):
    array = np.array([Evil(folder / CANARY)], object)
    path = folder / name
    np.savez(path, x=array) if name.endswith("z") else np.save(path, array)
    return path


@case("pickle")
def torch_archive(folder, _whole):
    return write_keras(folder / "m.pt", {"archive/data.pkl": evil_pickle(folder, 2), "archive/version": b"3"})


@case("oversize")
def npy_huge(folder, _whole):
    with (folder / "m.npy").open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (10**12,)}
        np.lib.format.write_array_header_1_0(file, header)
    return folder / "m.npy"


# ---- SavedModels ----


def write_saved_model(folder, whole, change, *, function=False):
    """change: given the graph's nodes, or those of a function that the signature does not name."""
    from tensorflow.core.protobuf import saved_model_pb2

    target = folder / "saved_model"
    shutil.copytree(whole.saved_model, target)
    message = saved_model_pb2.SavedModel.FromString((target / "saved_model.pb").read_bytes())
    meta = message.meta_graphs[0]
    if function:
        added = meta.graph_def.library.function.add()
        added.signature.name = "hidden"
        change(meta, added.node_def)
    else:
        change(meta, meta.graph_def.node)
    (target / "saved_model.pb").write_bytes(message.SerializeToString())
    return target


OPERATIONS = (
    "ReadFile",
    "WriteFile",
    "PyFunc",
    "EagerPyFunc",
    "ImmutableConst",
    "TFRecordDataset",
    "RestoreV2",
    "SaveV2",
)


@case("op", *(f"saved_model_{op}" for op in OPERATIONS))
def operation(folder, whole, name):
    op = name.removeprefix("saved_model_")
    return write_saved_model(folder, whole, lambda _meta, nodes: nodes.add(name="odd", op=op))


@case("op", *(f"function_{op}" for op in OPERATIONS))
def hidden_operation(folder, whole, name):
    op = name.removeprefix("function_")
    return write_saved_model(folder, whole, lambda _meta, nodes: nodes.add(name="odd", op=op), function=True)


@case("op")
def saved_model_print(folder, whole):
    def add(_meta, nodes):
        nodes.add(name="odd", op="PrintV2").attr["output_stream"].s = b"file:///tmp/written"

    return write_saved_model(folder, whole, add)


@case("op")
def saved_model_table(folder, whole):
    def add(_meta, nodes):
        nodes.add(name="path", op="Const")
        nodes.add(name="odd", op="InitializeTableFromTextFileV2", input=["table", "path"])

    return write_saved_model(folder, whole, add)


@case("op")
def saved_model_restores_on_call(folder, whole):
    """The loader's own operation, made to run for the signature's answer."""

    def add(meta, nodes):
        output = next(iter(meta.signature_def["serving_default"].outputs.values()))
        called = next(node for node in nodes if node.name == output.name.partition(":")[0])
        called.input.append(f"^{meta.saver_def.restore_op_name}")

    return write_saved_model(folder, whole, add)


@case("path", "asset_parent", "asset_absolute")
def asset(folder, whole, name):
    file = {"asset_parent": "../../secret", "asset_absolute": "/etc/passwd"}[name]
    return write_saved_model(folder, whole, lambda meta, _nodes: meta.asset_file_def.add(filename=file))


@case("oversize")
def saved_model_constant(folder, whole):
    def add(_meta, nodes):
        tensor = nodes.add(name="odd", op="Const").attr["value"].tensor
        tensor.dtype = 1
        tensor.tensor_shape.dim.add(size=10**12)
        tensor.float_val.append(1)

    return write_saved_model(folder, whole, add)


@case("link")
def saved_model_link(folder, whole):
    shutil.copytree(whole.saved_model, folder / "m")
    (folder / "m" / "assets").mkdir(exist_ok=True)
    (folder / "m" / "assets" / "words.txt").symlink_to("/etc/passwd")
    return folder / "m"


@case("broken", "saved_model_garbage", "saved_model_empty", "saved_model_other")
def odd_saved_model(folder, _whole, name):
    content = {"saved_model_garbage": os.urandom(999), "saved_model_empty": b"", "saved_model_other": b"\x08\x01"}
    (folder / "saved_model.pb").write_bytes(content[name])
    return folder


@case("broken")
def empty_folder(folder, _whole):
    return folder


# ---- ONNX, TFLite ----


def write_onnx(folder, whole, change):
    import onnx

    model = onnx.load(whole.onnx)
    change(model)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    return folder / "m.onnx"


def external(location, **more):
    def change(model):
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = 1
        for key, value in {"location": location, **more}.items():
            tensor.external_data.add(key=key, value=value)

    return change


EXTERNAL = {
    "onnx_parent": ("path", "../weights", {}),
    "onnx_absolute": ("path", "/etc/passwd", {}),
    "onnx_no_location": ("path", "", {}),
    "onnx_symlink": ("link", "link", {}),
    "onnx_missing": ("missing", "nowhere", {}),
    "onnx_pipe": ("missing", "pipe", {}),
    "onnx_beyond": ("oversize", "data", {"offset": "4", "length": "1000000"}),
    "onnx_odd_offset": ("oversize", "data", {"offset": "-1"}),
}


@case("path", *(name for name in EXTERNAL if EXTERNAL[name][0] == "path"))
@case("link", *(name for name in EXTERNAL if EXTERNAL[name][0] == "link"))
@case("missing", *(name for name in EXTERNAL if EXTERNAL[name][0] == "missing"))
@case("oversize", *(name for name in EXTERNAL if EXTERNAL[name][0] == "oversize"))
def onnx_external(folder, whole, name):
    (folder / "link").symlink_to("/etc/passwd")
    (folder / "data").write_bytes(bytes(64))
    os.mkfifo(folder / "pipe")
    return write_onnx(folder, whole, external(EXTERNAL[name][1], **EXTERNAL[name][2]))


@case("oversize", "onnx_huge", "onnx_negative")
def onnx_shape(folder, whole, name):
    size = {"onnx_huge": 10**12, "onnx_negative": -4}[name]
    return write_onnx(folder, whole, lambda model: model.graph.initializer[0].dims.append(size))


@case("op", "onnx_python", "onnx_python_inside")
def onnx_python(folder, whole, name):
    import onnx

    def add(model):
        graph = model.graph
        if name == "onnx_python_inside":
            graph = graph.node.add(op_type="If", name="if").attribute.add(name="then_branch", type=5).g
        graph.node.append(onnx.helper.make_node("PyOp", ["x"], ["y"], name="odd", domain="ai.onnx.contrib"))

    return write_onnx(folder, whole, add)


@case("path")
def onnx_external_inside(folder, whole):
    """In a constant of a branch."""

    def add(model):
        branch = model.graph.node.add(op_type="If", name="if").attribute.add(name="then_branch", type=5).g
        tensor = branch.node.add(op_type="Constant").attribute.add(name="value", type=4).t
        tensor.data_location = 1
        tensor.external_data.add(key="location", value="../../secret")

    return write_onnx(folder, whole, add)


def write_tflite(folder, whole, change):
    import flatbuffers
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(whole.tflite.read_bytes()))
    change(model)
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    (folder / "m.tflite").write_bytes(builder.Output())
    return folder / "m.tflite"


@case("op")
def tflite_flex(folder, whole):
    def change(model):
        code = model.operatorCodes[0]
        code.builtinCode, code.deprecatedBuiltinCode, code.customCode = 32, 32, b"FlexWriteFile"

    return write_tflite(folder, whole, change)


@case("oversize")
def tflite_shape(folder, whole):
    def change(model):
        for tensor in model.subgraphs[0].tensors:
            if model.buffers[tensor.buffer].data is not None:
                tensor.shape = [10**9, 10**3]

    return write_tflite(folder, whole, change)


@case("broken")
def tflite_garbage(folder, _whole):
    (folder / "m.tflite").write_bytes(struct.pack("<I4s", 8, b"TFL3") + os.urandom(400))
    return folder / "m.tflite"


# ---- what is no model at all ----


@case("broken", "empty.keras", "empty.h5", "empty.pb", "empty.onnx", "empty.tflite", "empty.npz")
def empty(folder, _whole, name):
    (folder / name).touch()
    return folder / name


@case("broken", "text.keras", "text.h5", "text.onnx", "text.pb")
def text(folder, _whole, name):
    (folder / name).write_text("This is no model.\n" * 40)
    return folder / name


@case("broken")
def pipe(folder, _whole):
    os.mkfifo(folder / "m.keras")
    return folder / "m.keras"


@case("broken")
def pipe_in_a_saved_model(folder, _whole):
    os.mkfifo(folder / "saved_model.pb")
    return folder


@case("broken")
def device(folder, _whole):
    (folder / "m.keras").symlink_to("/dev/zero")
    return folder / "m.keras"


@case("broken")
def dangling_link(folder, _whole):
    (folder / "m.keras").symlink_to("nowhere")
    return folder / "m.keras"


@case("broken")
def link_loop(folder, _whole):
    (folder / "m.keras").symlink_to("m.keras")
    return folder / "m.keras"


@case("broken")
def nowhere(folder, _whole):
    return folder / "nowhere.keras"


@case("broken")
def long_name(folder, _whole):
    return folder / ("x" * 300 + ".keras")


def truncate(folder, whole):
    """Each format cut at every tenth of its length: paths by name."""
    made = {}
    sources = {"keras": whole.keras, "h5": whole.h5, "onnx": whole.onnx, "pb": whole.saved_model / "saved_model.pb"}
    for format_, source in sources.items():
        content = Path(source).read_bytes()
        for tenth in range(10):
            name = f"cut_{format_}_{tenth}"
            target = folder / name / ("saved_model.pb" if format_ == "pb" else f"m.{format_}")
            target.parent.mkdir()
            target.write_bytes(content[: len(content) * tenth // 10])
            made[name] = target.parent if format_ == "pb" else target
    return made


CUTS = [f"cut_{format_}_{tenth}" for format_ in ("keras", "h5", "onnx", "pb") for tenth in range(10)]
FIRST += CUTS[4::10]
