"""Every family of Keras' layers that compute with numbers."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from zoo.table import model


def chain(shape: tuple[int | None, ...], *chained: Any) -> Any:
    """A Functional model of layers one behind the other."""
    x = hidden = keras.Input(shape, name="x")
    for layer in chained:
        hidden = layer(hidden)
    return keras.Model(x, hidden)


@model
def dense_stack() -> Any:
    return chain(
        (16,),
        layers.Dense(32, activation="relu"),
        layers.Dropout(0.3),
        layers.EinsumDense("ab,bc->ac", output_shape=24, bias_axes="c"),
        layers.ActivityRegularization(l2=0.01),
        layers.Identity(),
        layers.Dense(5, use_bias=False),
    )


@model
def sequential_never_called() -> Any:
    return keras.Sequential([layers.Input((8,)), layers.Dense(64, activation="tanh"), layers.Dense(5)])


@model
def conv_1d() -> Any:
    return chain(
        (24, 4),
        layers.Conv1D(8, 3, padding="causal", activation="relu"),
        layers.SeparableConv1D(8, 3, padding="same"),
        layers.BatchNormalization(),
        layers.DepthwiseConv1D(3, padding="same", depth_multiplier=2),
        layers.Conv1D(6, 3, dilation_rate=2),
        layers.Conv1DTranspose(4, 4, strides=2, padding="same"),
    )


@model
def conv_2d() -> Any:
    return chain(
        (16, 16, 3),
        layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.DepthwiseConv2D(3, padding="same", use_bias=False),
        layers.BatchNormalization(),
        layers.ReLU(6.0),
        layers.SeparableConv2D(12, 3, dilation_rate=2, padding="same"),
        layers.Conv2D(12, 3, groups=4, padding="same"),
        layers.Conv2DTranspose(4, 3, strides=2, padding="same"),
        layers.Conv2DTranspose(4, 3, strides=2, padding="valid", output_padding=1),
    )


@model
def conv_3d() -> Any:
    return chain(
        (8, 8, 8, 2),
        layers.Conv3D(6, 3, padding="same", activation="relu"),
        layers.BatchNormalization(),
        layers.MaxPooling3D(2),
        layers.Conv3D(4, 2, strides=2),
        layers.Conv3DTranspose(3, 3, strides=2, padding="same"),
    )


@model
def residual_network() -> Any:
    """Batch normalisation before, behind and between convolutions, and an addition of two of them."""
    x = keras.Input((16, 16, 3), name="images")
    hidden = layers.Conv2D(8, 3, padding="same", use_bias=False)(x)
    for _ in range(2):
        inner = layers.ReLU()(layers.BatchNormalization()(hidden))
        inner = layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same")(inner))
        hidden = layers.Add()([hidden, layers.Activation("relu")(inner)])
    return keras.Model(x, layers.Dense(10)(layers.GlobalAveragePooling2D()(hidden)))


@model
def pooling_1d() -> Any:
    x = keras.Input((12, 3), name="x")
    kinds = [
        layers.MaxPooling1D(2),
        layers.AveragePooling1D(3, strides=2, padding="same"),
        layers.GlobalMaxPooling1D(),
        layers.GlobalAveragePooling1D(),
        layers.AdaptiveAveragePooling1D(5),
        layers.AdaptiveMaxPooling1D(4),
    ]
    return keras.Model(x, [kind(x) for kind in kinds])


@model
def pooling_2d() -> Any:
    x = keras.Input((12, 10, 3), name="x")
    kinds = [
        layers.MaxPooling2D(2, padding="same"),
        layers.AveragePooling2D(3, strides=2, padding="same"),
        layers.GlobalMaxPooling2D(),
        layers.GlobalAveragePooling2D(keepdims=True),
        layers.AdaptiveAveragePooling2D((5, 4)),
        layers.AdaptiveMaxPooling2D(3),
    ]
    return keras.Model(x, [kind(x) for kind in kinds])


@model
def pooling_3d() -> Any:
    x = keras.Input((8, 6, 4, 2), name="x")
    kinds = [
        layers.MaxPooling3D(2),
        layers.AveragePooling3D(2, padding="same"),
        layers.GlobalMaxPooling3D(),
        layers.GlobalAveragePooling3D(),
        layers.AdaptiveAveragePooling3D(3),
        layers.AdaptiveMaxPooling3D(2),
    ]
    return keras.Model(x, [kind(x) for kind in kinds])


@model
def normalisations() -> Any:
    return chain(
        (6, 6, 8),
        layers.Conv2D(8, 3, padding="same"),
        layers.BatchNormalization(scale=False),
        layers.LayerNormalization(),
        layers.GroupNormalization(4),
        layers.RMSNormalization(),
        layers.UnitNormalization(),
        layers.SpectralNormalization(layers.Conv2D(4, 1)),
        layers.BatchNormalization(center=False),
        layers.Flatten(),
        layers.Dense(7),
        layers.BatchNormalization(),
    )


@model
def regularisers() -> Any:
    """All of them do nothing at inference."""
    return chain(
        (8, 8, 3),
        layers.GaussianNoise(0.5),
        layers.GaussianDropout(0.5),
        layers.SpatialDropout2D(0.5),
        layers.Conv2D(4, 3, kernel_regularizer="l2"),
        layers.AlphaDropout(0.5),
        layers.Reshape((-1, 4)),
        layers.SpatialDropout1D(0.5),
        layers.Reshape((6, 3, 2, 4)),
        layers.SpatialDropout3D(0.5),
        layers.Flatten(),
        layers.Dense(3),
    )


@model
def reshaping() -> Any:
    x = keras.Input((6, 8, 4), name="x")
    flat = layers.Flatten()(x)
    rows = layers.Reshape((6, 32))(x)
    boxes = layers.Reshape((2, 3, 8, 4))(x)
    outputs = [
        layers.Permute((3, 1, 2))(x),
        layers.RepeatVector(3)(flat),
        layers.Cropping1D((1, 2))(rows),
        layers.ZeroPadding1D(2)(rows),
        layers.UpSampling1D(3)(rows),
        layers.Cropping2D(((1, 2), (0, 1)))(x),
        layers.ZeroPadding2D((1, 2))(x),
        layers.UpSampling2D(2)(x),
        layers.UpSampling2D(2, interpolation="bilinear")(x),
        layers.UpSampling2D((2, 3), interpolation="bicubic")(x),
        layers.Cropping3D(((0, 1), (1, 0), (2, 1)))(boxes),
        layers.ZeroPadding3D(1)(boxes),
        layers.UpSampling3D(2)(boxes),
    ]
    return keras.Model(x, outputs)


@model
def merging() -> Any:
    a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b")
    kinds = [
        layers.Add(),
        layers.Subtract(),
        layers.Multiply(),
        layers.Average(),
        layers.Maximum(),
        layers.Minimum(),
        layers.Concatenate(),
        layers.Dot(1),
        layers.Dot(1, normalize=True),
    ]
    return keras.Model([a, b], [kind([a, b]) for kind in kinds])


@model
def activation_layers() -> Any:
    x = keras.Input((10,), name="x")
    wide = layers.Dense(12)(x)
    kinds = [layers.ELU(), layers.LeakyReLU(), layers.PReLU(), layers.ReLU(6, 0.1, 0.2), layers.Softmax()]
    return keras.Model(x, [kind(wide) for kind in kinds])


@model
def activation_functions() -> Any:
    names = (
        "celu elu exponential gelu hard_shrink hard_sigmoid hard_silu hard_tanh leaky_relu log_sigmoid log_softmax "
        "mish relu relu6 selu sigmoid silu soft_shrink softmax softplus softsign sparse_plus sparse_sigmoid sparsemax "
        "squareplus tanh tanh_shrink threshold"
    )
    x = keras.Input((10,), name="x")
    wide = layers.Dense(12)(x)
    options = {"threshold": lambda value: keras.activations.threshold(value, 0.1, 0.0)}
    outputs = {name: layers.Activation(options.get(name, name))(wide) for name in names.split()}
    outputs["glu"] = layers.Activation(keras.activations.glu)(wide)
    outputs["gelu_tanh"] = layers.Activation(lambda value: keras.activations.gelu(value, approximate=True))(wide)
    return keras.Model(x, outputs)


@model
def spectrograms() -> Any:
    x = keras.Input((256,), name="audio")
    mel = layers.MelSpectrogram(fft_length=64, sequence_stride=32, num_mel_bins=8, sampling_rate=8000, max_freq=4000)
    short = layers.STFTSpectrogram(mode="magnitude", frame_length=32, frame_step=16, fft_length=32)
    return keras.Model(x, [mel(x), short(layers.Reshape((256, 1))(x))])
