"""Writes SavedModels into the folder given: `tf2` of today, `tf1` of TensorFlow 1, `identity` with every dtype.

And those of make_tf1_models (`half_plus_two`, `half_plus_three`, `counter`, `odd`, `tagged`) and of
make_tflite_models.
"""

import sys
from pathlib import Path

import make_tf1_models
import make_tflite_models
import tensorflow as tf

DTYPES = (
    "float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32",
    "uint64", "bool", "string", "complex64", "complex128",
)  # fmt: skip


class Linear(tf.Module):
    """y = x @ [[2],[3]] + 3, with variables, and a file of tokens to prove that assets are found."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = tf.Variable([[2.0], [3.0]])

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x @ self.weights + 3.0}


class Identity(tf.Module):
    """Gives each input back."""

    @tf.function(input_signature=[tf.TensorSpec([None], dtype, name=dtype) for dtype in DTYPES])
    def serve(self, *tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        return {f"{dtype}_out": tf.identity(tensor) for dtype, tensor in zip(DTYPES, tensors, strict=True)}


def save_tf1(folder: Path) -> None:
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 1], name="x")
        half = v1.get_variable("half", initializer=0.5)
        y = tf.identity(x * half + 2.0, name="y")
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(session, str(folder), {"x": x}, {"y": y})


def main() -> None:
    repository = Path(sys.argv[1])
    linear, identity = Linear(), Identity()
    tf.saved_model.save(linear, str(repository / "tf2" / "3"), {"serving_default": linear.serve})
    tf.saved_model.save(identity, str(repository / "identity" / "1"), {"serving_default": identity.serve})
    save_tf1(repository / "tf1" / "1")
    for name, save in (make_tf1_models.MODELS | make_tflite_models.MODELS).items():
        save(repository / name / "00000123")


if __name__ == "__main__":
    main()
