"""Every family of keras.applications, on images as small as each allows."""

from __future__ import annotations

from functools import partial
from typing import Any

import keras

from zoo.table import MODELS

FAMILIES = {
    "mobilenet_v3": ("MobileNetV3Small", "MobileNetV3Large"),
    "mobilenet_v2": ("MobileNetV2",),
    "mobilenet": ("MobileNet",),
    "efficientnet": ("EfficientNetB0", "EfficientNetB1", "EfficientNetB2", "EfficientNetB3", "EfficientNetB4"),
    "efficientnet_v2": ("EfficientNetV2B0", "EfficientNetV2B1", "EfficientNetV2B2", "EfficientNetV2B3"),
    "resnet": ("ResNet50", "ResNet101", "ResNet152"),
    "resnet_v2": ("ResNet50V2", "ResNet101V2", "ResNet152V2"),
    "densenet": ("DenseNet121", "DenseNet169", "DenseNet201"),
    "nasnet": ("NASNetMobile",),
    "inception_v3": ("InceptionV3",),
    "xception": ("Xception",),
    "vgg16": ("VGG16",),
    "vgg19": ("VGG19",),
    "convnext": ("ConvNeXtTiny", "ConvNeXtSmall", "ConvNeXtBase"),
    "inception_resnet_v2": ("InceptionResNetV2",),
}
"""Module of keras.applications -> members, the quickest first; those of more than 100 million weights are left out."""

_SIZES = {"InceptionResNetV2": 75, "InceptionV3": 75, "Xception": 71}  # others take 32
_PREPROCESSING = ("ConvNeXt", "EfficientNetV2", "MobileNetV3")


def smallest() -> list[str]:
    """The member of each family that runs by default."""
    return [members[0] for members in FAMILIES.values()]


def application(name: str) -> Any:
    """Logits, not probabilities: those of a thousand classes without training are all .001, whatever goes wrong."""
    size = _SIZES.get(name, 32)
    # images of [0, 1) would become almost one colour by a division by 255
    options = {"include_preprocessing": False} if name.startswith(_PREPROCESSING) else {}
    if name != "NASNetMobile":  # the one family that has no such argument
        options["classifier_activation"] = None  # type: ignore[assignment]
    built = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), **options)
    if not name.startswith("EfficientNet"):  # whose weights are drawn larger
        _strengthen(built)
    return built


def _strengthen(built: Any) -> None:
    """Make up for activations, which halve the variance: so that an input is still seen at the network's end."""
    for layer in built._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization) and layer.scale:
            layer.gamma.assign(layer.gamma * 1.3)


MODELS.update({name: partial(application, name) for members in FAMILIES.values() for name in members})
