"""Layers for images: those that prepare them, and those that only training may see."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from keraship.models.layers import BilinearUpSampling2D
from zoo.layer_kinds import chain
from zoo.table import model


@model
def image_preparation() -> Any:
    """Bytes of any size in."""
    return chain(
        (None, None, 3),
        layers.Resizing(20, 24),
        layers.CenterCrop(16, 16),
        layers.Rescaling(1 / 127.5, offset=-1),
        layers.Normalization(axis=-1, mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0]),
        layers.Conv2D(4, 3),
    )


@model
def bytes_in() -> Any:
    images = keras.Input((16, 16, 3), dtype="uint8", name="images")
    hidden = layers.Conv2D(6, 3, activation="relu")(layers.Rescaling(1 / 255)(images))
    return keras.Model(images, layers.Dense(4)(layers.Flatten()(hidden)))


@model
def resizings() -> Any:
    x = keras.Input((12, 12, 3), name="x")
    kinds = [
        layers.Resizing(7, 9, interpolation=kind, crop_to_aspect_ratio=crop, pad_to_aspect_ratio=pad)
        for kind, crop, pad in (
            ("nearest", False, False),
            ("bicubic", False, False),
            ("bilinear", True, False),
            ("bilinear", False, True),
            ("lanczos3", False, False),
        )
    ]
    return keras.Model(x, [kind(x) for kind in kinds])


@model
def augmentations() -> Any:
    """All random layers that leave images alone at inference."""
    return chain(
        (16, 16, 3),
        layers.RandomFlip(),
        layers.RandomRotation(0.3),
        layers.RandomZoom(0.3),
        layers.RandomTranslation(0.2, 0.2),
        layers.RandomBrightness(0.3),
        layers.RandomContrast(0.3),
        layers.RandomColorDegeneration(0.5),
        layers.RandomColorJitter(value_range=(0, 1), brightness_factor=0.2),
        layers.RandomErasing(),
        layers.RandomElasticTransform(),
        layers.RandomGaussianBlur(),
        layers.RandomGrayscale(),
        layers.RandomHue(0.3, value_range=(0, 1)),
        layers.RandomInvert(),
        layers.RandomPerspective(),
        layers.RandomPosterization(4, value_range=(0, 1)),
        layers.RandomSaturation(0.3),
        layers.RandomSharpness(0.3, value_range=(0, 1)),
        layers.RandomShear(0.3),
        layers.Pipeline([layers.RandomFlip(), layers.RandomZoom(0.1)]),
        layers.RandomCrop(14, 14),
        layers.Conv2D(16, 3),
        layers.GlobalAveragePooling2D(),  # RandomCrop gives another size than it says
    )


@model
def augmentation_policies() -> Any:
    return chain(
        (16, 16, 3),
        layers.AugMix(value_range=(0, 1)),
        layers.RandAugment(value_range=(0, 1)),
        layers.CutMix(),
        layers.MixUp(),
        layers.Conv2D(4, 3),
    )


@keras.saving.register_keras_serializable("zoo")
class Adjusted(layers.Layer):
    """What some of Keras' layers do to images; in a layer of our own, for they hand on the very tensor they got."""

    def __init__(self, kind: Any, **options: Any) -> None:
        super().__init__(**options)
        self.kind = kind

    def call(self, images: Any) -> Any:
        return self.kind(images, training=True) * 1.0

    def compute_output_shape(self, shape: Any) -> Any:
        return shape


@model
def image_adjustments() -> Any:
    """Those that are not random, as they work in training."""
    x = keras.Input((16, 16, 3), name="x")
    kinds = [
        layers.AutoContrast(value_range=(0, 1)),
        layers.Equalization(value_range=(0, 1)),
        layers.ContrastLimitedAdaptiveHistogramEqualization(value_range=(0, 1), tile_grid_size=(2, 2)),
    ]
    plain = layers.Solarization(threshold_factor=0.5, value_range=(0, 1))
    return keras.Model(x, [*(Adjusted(kind)(x) for kind in kinds), plain(x)])


@model
def unet() -> Any:
    """Images of any size, brought back to it by layers of our own."""
    images = keras.Input((None, None, 3), name="images")
    down = layers.Conv2D(8, 3, padding="same", activation="relu")(images)
    low = layers.MaxPooling2D(2)(down)
    low = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(16, 3, padding="same", use_bias=False)(low)))
    up = layers.Concatenate()([BilinearUpSampling2D((2, 2))(low), down])
    mask = layers.Conv2D(1, 1, activation="sigmoid", name="mask")(layers.Conv2D(8, 3, padding="same")(up))
    return keras.Model(images, {"mask": mask, "features": low})
