"""The network finetune: a body out of keras.applications under a new head, and how its training goes in two phases."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
from keras import ops

from keraship.errors import TrainingError
from keraship.models.choice import choose
from keraship.models.layers import BilinearUpSampling2D
from keraship.models.network_parts import scores, whole_number
from keraship.models.task import IMAGES, Task
from keraship.reasons import reason

IMAGENET = "imagenet"

_BRIGHTEST = 255  # of the images that the bodies are made for
_SUFFIXES = (".h5",)  # .weights.h5 among them


@dataclass(frozen=True)
class Family:
    """What one file of keras.applications has in common.

    mode: what its preprocess_input does to images of 0 to 255: "tf" gives -1 to 1; "torch" 0 to 1, less ImageNet's
    mean, over its deviation; "caffe" BGR less ImageNet's mean; "" nothing, the body begins with it.
    least: pixels of the smallest side that the body takes.
    """

    mode: str
    least: int = 32


FAMILIES: dict[str, Family] = {
    "convnext": Family(""),
    "densenet": Family("torch"),
    "efficientnet": Family(""),
    "efficientnet_v2": Family(""),
    "inception_resnet_v2": Family("tf", least=75),
    "inception_v3": Family("tf", least=75),
    "mobilenet": Family("tf"),
    "mobilenet_v2": Family("tf"),
    "mobilenet_v3": Family(""),
    "nasnet": Family("tf"),
    "resnet": Family("caffe"),
    "resnet_v2": Family("tf"),
    "vgg16": Family("caffe"),
    "vgg19": Family("caffe"),
    "xception": Family("tf", least=71),
}
"""Every family by the name of its file in keras.applications."""


def build(
    task: Task, *, body: str = "MobileNetV2", weights: str | None = None, image_size: int | None = None
) -> keras.Model:
    """Images as they are, in 1 or 3 channels, to scores; the body's own preprocessing is in the graph.

    body, weights, image_size: as NETWORKS describes them; images smaller than that are enlarged, none is made smaller.
    A body with weights is frozen, and its batch normalisations stay as they are even when it is not: see `unfreeze`. A
    body without weights has nothing to be kept: all of it is trained from the first step.
    Raises TrainingError for a body that Keras does not have, and weights that cannot be had or do not fit.
    """
    make = choose("a body", body, bodies())
    family = FAMILIES[_family_name(make)]
    inputs = keras.Input((task.inputs[0].shape or ())[1:], name=IMAGES)
    x = _as_pixels(inputs, task)
    x = _enlarged(x, family.least if image_size is None else whole_number("image_size", image_size, least=family.least))
    x = preprocessed(x, family.mode)
    x = _body(body, make, x.shape[1:], weights)(x)
    x = keras.layers.GlobalAveragePooling2D(name="pooling")(x)
    x = keras.layers.Dropout(0.2)(x)
    return keras.Model(inputs, scores(x, task), name="finetune")


def bodies() -> dict[str, Any]:
    """What makes each body of the installed Keras that has a family here, by name."""
    found = vars(keras.applications).items()
    return {name: make for name, make in found if inspect.isfunction(make) and _family_name(make) in FAMILIES}


def preprocessed(x: Any, mode: str) -> Any:
    """Images [n, h, w, 3] of 0 to 255 in RGB as preprocess_input would have them, by layers that the model keeps."""
    if mode == "caffe":
        x = ops.flip(x, axis=-1)
    return keras.layers.Rescaling(*_SCALES[mode], name="preprocessing")(x) if mode else x


@dataclass(frozen=True)
class Phases:
    """How many epochs a body stays frozen, and what then changes.

    head_epochs: the epochs in which only the head learns; 0 where there is nothing frozen to begin with.
    layers: how many of the body's layers learn with it after that, from the top; None for all.
    rate: what the learning rate is multiplied by after that.
    """

    head_epochs: int
    layers: int | None = None
    rate: float = 0.1

    def __post_init__(self) -> None:
        whole_number("head_epochs", self.head_epochs, least=0)
        if self.layers is not None:
            whole_number("layers", self.layers)
        if not 0 < self.rate <= 1:
            raise TrainingError(f"expected rate to be above 0 and at most 1; got {self.rate!r}")

    def starts_second(self, epoch: int) -> bool:
        """Whether the second phase begins with this epoch, counted from 0."""
        return epoch == self.head_epochs and epoch > 0


def is_frozen(model: keras.Model) -> bool:
    """Whether a model has a body none of which learns."""
    body = _find_body(model)
    return body is not None and not body.trainable_weights


def unfreeze(model: keras.Model, *, layers: int | None = None, learning_rate: Any) -> None:
    """Let the top layers of a compiled model's body learn, with a new optimizer of the same kind at this rate.

    layers: how many, counted from the body's output; None for all. learning_rate: a number, or a Keras schedule.
    Called once more, the count is that of the last call. Loss and metrics stay. Batch normalisations stay frozen, so
    that they keep the statistics that came with the weights: of a few new images they would be no better.
    Raises TrainingError for a model without a body, one that is not compiled, and a count that cannot be.
    """
    body = _find_body(model)
    if body is None:
        raise TrainingError(f"expected a model of the network finetune; {model.name} has no body")
    if not model.compiled:
        raise TrainingError(f"expected a compiled model; {model.name} is not: call compile first")
    count = len(body.layers) if layers is None else whole_number("layers", layers)
    body.trainable = True
    for place, layer in enumerate(reversed(body.layers)):
        # That alone holds the statistics: in `fit`, Keras overrides a training=False that the body was called with.
        layer.trainable = place < count and not isinstance(layer, keras.layers.BatchNormalization)
    config = model.get_compile_config()
    _set_rate(config["optimizer"], learning_rate)
    model.compile_from_config(config)


def _set_rate(optimizer: dict[str, Any], learning_rate: Any) -> None:
    """The rate is the inner optimizer's, where one scales the loss for another, as in mixed precision."""
    config = optimizer["config"]
    if "inner_optimizer" in config:
        _set_rate(config["inner_optimizer"], learning_rate)
    else:
        config["learning_rate"] = keras.saving.serialize_keras_object(learning_rate)


def _find_body(model: keras.Model) -> Any:
    return next((layer for layer in model.layers if isinstance(layer, keras.Model)), None)


def _family_name(make: Any) -> str:
    return str(make.__module__).rpartition(".")[2]


_MEAN = (0.485, 0.456, 0.406)  # ImageNet's, of R, G, B from 0 to 1
_DEVIATION = (0.229, 0.224, 0.225)
_MEAN_BGR = (103.939, 116.779, 123.68)  # from 0 to 255

_SCALES: dict[str, tuple[Any, Any]] = {
    "tf": (1 / 127.5, -1.0),
    "torch": (
        [1 / (_BRIGHTEST * deviation) for deviation in _DEVIATION],
        [-mean / deviation for mean, deviation in zip(_MEAN, _DEVIATION, strict=True)],
    ),
    "caffe": ([1.0, 1.0, 1.0], [-mean for mean in _MEAN_BGR]),
}
"""What images are multiplied by, and what is added then."""


def _as_pixels(images: Any, task: Task) -> Any:
    """RGB from 0 to 255."""
    channels = images.shape[-1]
    if channels not in (1, 3):
        raise TrainingError(f"expected images of 1 or 3 channels for the network finetune; got {channels}")
    assert task.maximum is not None  # noqa: S101  # networks.build has checked it
    x = keras.layers.Rescaling(_BRIGHTEST / task.maximum, name="rescaling")(images)
    return keras.layers.Concatenate(name="grey_to_rgb")([x] * 3) if channels == 1 else x


def _enlarged(x: Any, least: int) -> Any:
    """Images whose shorter side has at least so many pixels, in their own proportions."""
    height, width = x.shape[1:3]
    factor = least / min(height, width)
    if factor <= 1:
        return x
    return BilinearUpSampling2D(target_size=(round(height * factor), round(width * factor)), name="upsampling")(x)


def _body(name: str, make: Any, shape: tuple[int, ...], weights: str | None) -> Any:
    if weights not in (None, IMAGENET):
        _check_file(Path(weights))
    try:
        body = make(include_top=False, weights=weights and str(weights), input_shape=shape)
    except Exception as error:  # Keras raises a plain Exception where a download fails
        raise TrainingError(_failure(name, weights, reason(error))) from error
    if weights:
        body.trainable = False
    else:
        _hurry(body)
    return body


def _check_file(path: Path) -> None:
    if not path.is_file() or path.suffix not in _SUFFIXES:
        what = "there is no such file" if not path.is_file() else "which is another kind of file"
        raise TrainingError(
            f"expected weights to be a file that ends in .weights.h5 or .h5, or {IMAGENET}; got {path}, {what}"
        )


def _failure(name: str, weights: str | None, why: str) -> str:
    if weights == IMAGENET:
        return (
            f"cannot get ImageNet's weights of {name} ({why}): check the connection, or download its file without the "
            "top elsewhere, and give its path as weights"
        )
    return f"cannot build {name} without its top, weights {weights or 'none'}: {why}"


def _hurry(body: Any) -> None:
    """Statistics that follow a short run: with a momentum of 0.999, they would be at their start still."""
    for layer in body.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = min(layer.momentum, 0.9)
