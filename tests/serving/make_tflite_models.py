"""TFLite files in the form of TensorFlow Serving's own test data: with and without SignatureDefs in their metadata."""

import warnings
from pathlib import Path
from typing import Any

import tensorflow as tf
from flatbuffers import Builder, flexbuffers
from tensorflow.lite.python import schema_py_generated as schema

METADATA = b"signature_defs_metadata"


def save_plain(folder: Path) -> None:
    """y = x / 2 + 2; nothing in it says more than its tensors' names."""
    _write(folder, _half_plus_two())


def save_with_signatures(folder: Path) -> None:
    """The same, with a signature of its own name and one to regress, which takes floats and so can answer nobody."""
    _write(
        folder,
        with_metadata(
            _half_plus_two(),
            flexbuffers.Dumps(
                {
                    "serving_default": bytes(_signature("x", "y", "predict").SerializeToString()),
                    "regress": bytes(_signature("inputs", "outputs", "regress").SerializeToString()),
                }
            ),
        ),
    )


def save_strings(folder: Path) -> None:
    """Gives strings back, those and no others."""
    _write(folder, _convert(tf.identity, tf.TensorSpec([None], tf.string, name="s")))


def save_broken(folder: Path) -> None:
    """A signature that is none."""
    _write(folder, with_metadata(_half_plus_two(), flexbuffers.Dumps({"serving_default": b"\xff\xff"})))


def save_unknown_tensor(folder: Path) -> None:
    """A signature of a tensor that is not there."""
    signature = _signature("x", "y", "predict")
    signature.inputs["x"].name = "nowhere:0"
    _write(
        folder,
        with_metadata(_half_plus_two(), flexbuffers.Dumps({"serving_default": bytes(signature.SerializeToString())})),
    )


def with_metadata(model: bytes, data: bytes) -> bytes:
    """The file with SignatureDefs, as flexbuffers, in its metadata."""
    tree = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
    entry, buffer = schema.MetadataT(), schema.BufferT()
    buffer.data = list(data)
    entry.name, entry.buffer = METADATA, len(tree.buffers)
    tree.buffers.append(buffer)
    tree.metadata = [*(tree.metadata or []), entry]
    builder = Builder(1024)
    builder.Finish(tree.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _half_plus_two() -> bytes:
    return _convert(lambda x: x * 0.5 + 2.0, tf.TensorSpec([None, 1], tf.float32, name="x"))


def _convert(function: Any, spec: tf.TensorSpec) -> bytes:
    module = tf.Module()
    module.serve = tf.function(lambda value: {"y": function(value)}, input_signature=[spec], autograph=False)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.serve.get_concrete_function()], module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the converter's advice to its own developers
        return bytes(converter.convert())


def _signature(input_name: str, output_name: str, method: str) -> Any:
    """Its tensors are called as TensorFlow calls them, `x:0`, the file's own may lack the `:0`."""
    interpreter = tf.lite.Interpreter(model_content=_half_plus_two())
    (x,), (y,) = interpreter.get_input_details(), interpreter.get_output_details()
    message = tf.compat.v1.saved_model.signature_def_utils.build_signature_def({}, {}, f"tensorflow/serving/{method}")
    for side, name, detail in ((message.inputs, input_name, x), (message.outputs, output_name, y)):
        side[name].name = f"{detail['name'].partition(':')[0]}:0"
        side[name].dtype = 1
        for size in (-1, 1):
            side[name].tensor_shape.dim.add(size=size)
    return message


def _write(folder: Path, model: bytes) -> None:
    folder.mkdir(parents=True)
    (folder / "model.tflite").write_bytes(model)


MODELS = {
    "tflite": save_plain,
    "tflite_with_sigdef": save_with_signatures,
    "tflite_strings": save_strings,
    "tflite_broken": save_broken,
    "tflite_unknown": save_unknown_tensor,
}
