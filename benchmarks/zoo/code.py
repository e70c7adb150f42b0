"""Models that are code: layers of one's own, subclassed models, loops and branches, operations of keras.ops."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from zoo.table import model

register = keras.saving.register_keras_serializable("zoo")


@register
class Gated(layers.Layer):
    """A gate with weights of its own, one of which is not trained."""

    def build(self, shape: Any) -> None:
        self.gate = self.add_weight(shape=(shape[-1],), initializer="random_normal", name="gate")
        self.count = self.add_weight(shape=(), initializer="ones", trainable=False, name="count")

    def call(self, inputs: Any) -> Any:
        return inputs * ops.sigmoid(self.gate) + self.count


@model
def custom_layer() -> Any:
    x = keras.Input((6,), name="x")
    return keras.Model(x, layers.Dense(3)(Gated()(layers.Dense(5)(x))))


@model
def lambda_layer() -> Any:
    x = keras.Input((6,), name="x")
    return keras.Model(x, layers.Lambda(lambda value: ops.sin(value) * 2)(layers.Dense(4)(x)))


@register
class TwoTowers(keras.Model):
    """A dict in, a dict out, nothing but code."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.left, self.right = layers.Dense(64, activation="relu"), layers.Dense(64, activation="relu")
        self.norm, self.head = layers.BatchNormalization(), layers.Dense(8)

    def call(self, inputs: Any, training: bool = False) -> Any:
        both = self.norm(self.left(inputs["user"]) + self.right(inputs["item"]), training=training)
        return {"score": self.head(both), "both": both}


@model
def subclassed_dicts() -> Any:
    built = TwoTowers()
    built({"user": np.ones((2, 4), np.float32), "item": np.ones((2, 3), np.float32)})
    return built


@register
class Plain(keras.Model):
    """A list of two arrays in, a tuple out."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.dense, self.drop = layers.Dense(64), layers.Dropout(0.5)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        first, second = inputs
        hidden = self.drop(self.dense(ops.concatenate([first, second], axis=-1)), training=training)
        return hidden, ops.softmax(hidden)


@model
def subclassed_lists() -> Any:
    built = Plain()
    built([np.ones((2, 4), np.float32), np.ones((2, 3), np.float32)])
    return built


@register
class TokensIn(keras.Model):
    """Takes integers, though its own dtype is float32."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.embedding, self.head = layers.Embedding(10, 32), layers.Dense(16)

    def call(self, tokens: Any) -> Any:
        return self.head(ops.mean(self.embedding(tokens), axis=1))


@model
def subclassed_tokens() -> Any:
    built = TokensIn()
    built(np.ones((2, 6), np.int32))
    return built


@register
class Loop(layers.Layer):
    """Newton's square root, until it is close."""

    def call(self, inputs: Any) -> Any:
        def goes_on(step: Any, root: Any) -> Any:
            return ops.logical_and(step < 30, ops.max(ops.abs(root * root - inputs)) > 1e-7)

        def better(step: Any, root: Any) -> Any:
            return step + 1, (root + inputs / root) / 2

        return ops.while_loop(goes_on, better, (0, ops.ones_like(inputs)))[1]


@model
def while_loop() -> Any:
    x = keras.Input((4,), name="x")
    return keras.Model(x, Loop()(ops.abs(layers.Dense(3)(x)) + 0.5))


@register
class Branch(layers.Layer):
    """One of two ways for the whole batch."""

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(shape=(shape[-1], 3), name="kernel")

    def call(self, inputs: Any) -> Any:
        return ops.cond(
            ops.max(inputs) > 0.25,  # far from where rounding decides
            lambda: ops.matmul(inputs, self.kernel),
            lambda: ops.matmul(-inputs, self.kernel) + 1,
        )


@model
def branches() -> Any:
    x = keras.Input((4,), name="x")
    return keras.Model(x, Branch()(Branch()(x)))


@register
class Scans(layers.Layer):
    """Loops that keras.ops writes itself."""

    def call(self, inputs: Any) -> Any:
        def step(carry: Any, row: Any) -> Any:
            carry = carry * 0.5 + row
            return carry, ops.tanh(carry)

        by_time = ops.transpose(inputs, (1, 0, 2))
        last, every = ops.scan(step, ops.zeros_like(by_time[0]), by_time)
        return last, ops.transpose(every, (1, 0, 2))


@model
def scans() -> Any:
    x = keras.Input((5, 3), name="x")
    return keras.Model(x, list(Scans()(x)))


@register
class Repeats(layers.Layer):
    """A loop of a known number of steps, and one over the rows."""

    def call(self, inputs: Any) -> Any:
        power = ops.fori_loop(0, 5, lambda _, value: value * 0.9 + 0.1, inputs)
        return power, ops.map(lambda row: ops.sort(row, axis=0), inputs)


@model
def repeats() -> Any:
    x = keras.Input((5, 3), name="x")
    return keras.Model(x, list(Repeats()(x)))


@model
def arithmetic() -> Any:
    x = keras.Input((6,), name="x")
    a, b = layers.Dense(5)(x), ops.tanh(layers.Dense(5)(x)) + 1.5  # what is divided by is not near 0
    unary = (
        "abs arctan arcsinh cbrt ceil cos cosh deg2rad erf exp exp2 expm1 floor isfinite log1p logical_not negative "
        "relu round rsqrt sigmoid sign sin sinc sinh sqrt square tanh trunc"
    )
    positive = {"rsqrt", "sqrt", "cbrt", "log1p"}
    binary = (
        "add subtract multiply divide maximum minimum arctan2 floor_divide mod power equal greater less_equal "
        "not_equal logaddexp hypot divide_no_nan logical_and logical_xor"
    )
    outputs = {name: getattr(ops, name)(ops.abs(a) + 0.5 if name in positive else a) for name in unary.split()}
    outputs["tan"] = ops.tan(ops.tanh(a))  # not near its poles
    bases = {"power": ops.abs(a) + 0.5}
    flags = {"logical_and", "logical_xor"}
    for name in binary.split():
        left, right = (a > 0, b > 1.5) if name in flags else (bases.get(name, a), b)
        outputs[name] = getattr(ops, name)(left, right)
    return keras.Model(x, outputs)


@model
def reductions() -> Any:
    x = keras.Input((5, 4), name="x")
    hidden = layers.Dense(3)(x)
    names = (
        "all amax amin any argmax argmin count_nonzero cumprod cumsum logsumexp max mean median min prod std sum var"
    )
    outputs = {name: getattr(ops, name)(hidden, axis=1) for name in names.split()}
    outputs["norm"] = ops.norm(hidden, axis=-1)
    outputs["quantile"] = ops.quantile(hidden, 0.3, axis=1)
    outputs["moments"] = ops.moments(hidden, axes=[1])[1]
    return keras.Model(x, outputs)


@model
def rearrangements() -> Any:
    x = keras.Input((4, 6), name="x")
    outputs = {
        "concatenate": ops.concatenate([x, x * 2], axis=1),
        "stack": ops.stack([x, x + 1], axis=2),
        "split": ops.split(x, 3, axis=2)[1],
        "slice": x[:, 1:3, ::2],
        "last": x[..., -1],
        "pad": ops.pad(x, ((0, 0), (1, 2), (0, 1))),
        "reflect": ops.pad(x, ((0, 0), (1, 1), (2, 2)), mode="reflect"),
        "repeat": ops.repeat(x, 2, axis=1),
        "tile": ops.tile(x, (1, 2, 1)),
        "roll": ops.roll(x, 2, axis=2),
        "flip": ops.flip(x, axis=1),
        "swap": ops.swapaxes(x, 1, 2),
        "expand": ops.expand_dims(x, 2),
        "triangle": ops.tril(ops.matmul(x, ops.swapaxes(x, 1, 2))),
        "diagonal": ops.diagonal(x, axis1=1, axis2=2),
        "unfolded": ops.reshape(x, (-1, 8, 3)),
    }
    return keras.Model(x, outputs)


@model
def selections() -> Any:
    x, index = keras.Input((6,), name="x"), keras.Input((2,), dtype="int32", name="index")
    small = ops.mod(index, 6)
    values, places = ops.top_k(x, 3)
    outputs = {
        "take": ops.take(ops.convert_to_tensor(np.arange(12.0, dtype=np.float32)), small),
        "along": ops.take_along_axis(x, small, axis=1),
        "one_hot": ops.one_hot(small, 6),
        "where": ops.where(x > 0.5, x, -x),
        "sort": ops.sort(x, axis=1),
        "argsort": ops.argsort(x, axis=1),
        "values": values,
        "places": places,
        "searched": ops.searchsorted(ops.convert_to_tensor(np.float32([0.2, 0.5, 0.8])), x[:, 0]),
        "in_top": ops.in_top_k(small[:, 0], x, 2),
        "digits": ops.digitize(x, np.float32([0.25, 0.5])),
        "nan": ops.nan_to_num(ops.log(x - 0.5), nan=-1.0, posinf=2.0, neginf=3.0),
    }
    return keras.Model([x, index], outputs)


@model
def scattering() -> Any:
    x = keras.Input((6,), name="x")
    segments = np.array([0, 0, 1, 1, 2, 2])
    outputs = {
        "summed": ops.segment_sum(ops.transpose(x), segments, num_segments=3),
        "updated": ops.scatter_update(ops.zeros((4, 2)), [[0], [3]], ops.reshape(x[0, :4], (2, 2))),
        "slice": ops.slice_update(x, (0, 1), ops.ones_like(x[:, :2])),
    }
    return keras.Model(x, outputs)


@model
def products() -> Any:
    x = keras.Input((4, 4), name="x")
    outputs = {
        "einsum": ops.einsum("bij,bkj->bik", x, x),
        "tensordot": ops.tensordot(x, ops.ones((4, 3)), axes=[[2], [0]]),
        "dot": ops.dot(x, ops.ones((4, 2))),
        "outer": ops.einsum("bi,bj->bij", x[:, 0], x[:, 1]),
    }
    return keras.Model(x, outputs)


@model
def factorisations() -> Any:
    x = keras.Input((4, 4), name="x")
    symmetric = ops.matmul(x, ops.swapaxes(x, 1, 2)) + 2 * ops.eye(4)
    lower = ops.cholesky(symmetric)
    outputs = {
        "cholesky": lower,
        "solve": ops.solve(symmetric, x),
        "inverse": ops.inv(symmetric),
        "determinant": ops.det(symmetric),
        "triangular": ops.solve_triangular(lower, x, lower=True),
        "cross": ops.cross(x[:, 0, :3], x[:, 1, :3]),
    }
    return keras.Model(x, outputs)


@model
def signals() -> Any:
    x = keras.Input((32,), name="x")
    real, imaginary = ops.rfft(x)
    outputs = {
        "real": real,
        "imaginary": imaginary,
        "back": ops.irfft((real, imaginary)),
        "frames": ops.extract_sequences(x, 8, 4),
    }
    return keras.Model(x, outputs)


@model
def image_operations() -> Any:
    x = keras.Input((8, 8, 3), name="x")
    image = ops.image
    outputs = {
        "resize": image.resize(x, (5, 6), antialias=True),
        "patches": image.extract_patches(x, (3, 3), strides=2),
        "grey": image.rgb_to_grayscale(x),
        "blur": image.gaussian_blur(x),
        "crop": image.crop_images(x, 1, 1, 1, 1),
        "pad": image.pad_images(x, 1, 2, 1, 2),
        "depth": ops.space_to_depth(x, 2),
    }
    return keras.Model(x, outputs)


@model
def image_warps() -> Any:
    x = keras.Input((8, 8, 3), name="x")
    turned = ops.image.affine_transform(x, np.float32([[1, 0.1, 0, 0.1, 1, 0, 0, 0]]))
    return keras.Model(x, {"affine": turned, "hsv": ops.image.rgb_to_hsv(x)})


@register
class Counter(layers.Layer):
    """Counts its calls in training, and holds a generator of random numbers."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.generator = keras.random.SeedGenerator(1)

    def build(self, shape: Any) -> None:
        self.calls = self.add_weight(shape=(), dtype="int32", initializer="zeros", trainable=False, name="calls")

    def call(self, inputs: Any, training: bool = False) -> Any:
        if training:
            self.calls.assign_add(1)
            return inputs + keras.random.normal(ops.shape(inputs), seed=self.generator)
        return inputs + ops.cast(self.calls, inputs.dtype)


@model
def counter_and_generator() -> Any:
    x = keras.Input((4,), name="x")
    return keras.Model(x, Counter()(layers.Dense(3)(x)))


@model
def tensorflow_code() -> Any:
    """Calls TensorFlow itself, ragged tensors and all."""
    import tensorflow as tf

    @register
    class Ragged(layers.Layer):
        def call(self, inputs: Any) -> Any:
            ragged = tf.RaggedTensor.from_tensor(inputs, padding=0)
            return tf.reduce_sum(ragged, axis=1), ragged.to_tensor(-1)

        def compute_output_spec(self, inputs: Any) -> Any:
            return keras.KerasTensor(inputs.shape[:1], inputs.dtype), keras.KerasTensor(
                (inputs.shape[0], None), inputs.dtype
            )

    tokens = keras.Input((None,), dtype="int32", name="tokens")
    return keras.Model(tokens, list(Ragged()(tokens)))


@model
def tensorflow_strings() -> Any:
    import tensorflow as tf

    @register
    class Words(layers.Layer):
        def call(self, inputs: Any) -> Any:
            parts = tf.strings.split(tf.strings.lower(inputs), " ")
            return tf.strings.length(inputs), parts.row_lengths(), tf.strings.join([inputs, "!"])

        def compute_output_spec(self, inputs: Any) -> Any:
            return (
                keras.KerasTensor(inputs.shape, "int32"),
                keras.KerasTensor(inputs.shape, "int64"),
                keras.KerasTensor(inputs.shape, "string"),
            )

    text = keras.Input((), dtype="string", name="text")
    return keras.Model(text, list(Words()(text)))


@model
def saved_model_inside() -> Any:
    """A SavedModel of another program as a layer."""
    import tempfile

    import tensorflow as tf

    module = tf.Module()
    module.weight = tf.Variable(tf.random.stateless_normal([4, 3], [0, 1]))
    module.serve = tf.function(
        lambda x: {"out": tf.matmul(x, module.weight)}, input_signature=[tf.TensorSpec([None, 4], name="x")]
    )
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=module.serve)
        inner = layers.TFSMLayer(folder, call_endpoint="serving_default")
    x = keras.Input((4,), name="x")
    return keras.Model(x, layers.Dense(2)(inner(x)["out"]))
