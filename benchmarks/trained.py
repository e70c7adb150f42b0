"""Models trained on real data, for benchmarks of quantization: made once, kept in a folder.

    python benchmarks/trained.py build/trained            # all of them, with their test accuracy
    python benchmarks/trained.py build/trained resnet mlp

The data: scikit-learn's handwritten digits, brought to 32 x 32 pixels and turned, moved and scaled at random, five
times each; a fifth of the digits is held out before that. 256 rows of the training data are kept for calibration.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from sklearn.datasets import load_digits

SIZE, COPIES, CALIBRATION = 32, 5, 256

Array = np.ndarray[Any, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", default=list(MODELS))
    arguments = parser.parse_args()
    for name in arguments.names:
        path = model(arguments.folder, name)
        print(f"{path}: test accuracy {(path.parent / f'{name}.txt').read_text()}", flush=True)


def data(folder: Path) -> tuple[Path, Path]:
    """The files with rows to calibrate on and to judge by: images float32 (rows, 32, 32, 1) of 0..255, labels."""
    paths = folder / "calibrate.npz", folder / "test.npz"
    if not all(path.exists() for path in paths):
        folder.mkdir(parents=True, exist_ok=True)
        (train_images, train_labels), (test_images, test_labels) = _digits()
        np.savez(paths[0], images=train_images[:CALIBRATION], labels=train_labels[:CALIBRATION])
        np.savez(paths[1], images=test_images, labels=test_labels)
    return paths


def model(folder: Path, name: str) -> Path:
    """The trained model's .keras file; trained, by one epoch after another, where it is not there yet."""
    path = folder / f"{name}.keras"
    if not path.exists():
        data(folder)
        _train(name, path)
    return path


def _digits() -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    digits = load_digits()
    random = np.random.default_rng(0)
    order = random.permutation(len(digits.images))
    held_out = len(order) // 5
    return tuple(
        _varied(digits.images[rows], digits.target[rows], random) for rows in (order[held_out:], order[:held_out])
    )


def _varied(images: Array, labels: Array, random: np.random.Generator) -> tuple[Array, Array]:
    rows = random.permutation(np.repeat(np.arange(len(images)), COPIES))
    varied = np.stack([_variant(images[row], random) for row in rows])
    return varied[..., None].astype(np.float32), labels[rows]


def _variant(image: Array, random: np.random.Generator) -> Array:
    """A digit of 8 x 8 pixels, 0..16, somewhere in 32 x 32 pixels, 0..255, with some noise."""
    scale, angle = random.uniform(2.4, 3.4), random.uniform(-15, 15)
    large = ndimage.rotate(ndimage.zoom(image * (255 / 16), scale, order=1), angle, reshape=False, order=1)
    canvas = np.zeros((SIZE, SIZE))
    top, left = (random.integers(0, SIZE - length + 1) for length in large.shape)
    canvas[top : top + large.shape[0], left : left + large.shape[1]] = large
    return np.clip(canvas + random.normal(0, 12, canvas.shape), 0, 255)


def _train(name: str, path: Path) -> None:
    from keraship.quiet import import_keras

    keras = import_keras()
    keras.utils.set_random_seed(0)
    (images, labels), (test_images, test_labels) = _digits()
    built = MODELS[name](keras)
    steps = EPOCHS[name] * len(images) // 64
    built.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, steps)),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,
    )
    built.fit(images, labels, batch_size=64, epochs=EPOCHS[name], verbose=2)
    accuracy = built.evaluate(test_images, test_labels, batch_size=256, verbose=0)[1]
    built.save(path)
    (path.parent / f"{name}.txt").write_text(f"{accuracy:.4f}")


def _images(keras: Any) -> tuple[Any, Any]:
    images = keras.Input((SIZE, SIZE, 1), name="images")
    return images, keras.layers.Rescaling(1 / 255)(images)


def _resnet(keras: Any) -> Any:
    """1.2 million parameters: three stages of three blocks."""
    layers = keras.layers

    def conv(x: Any, filters: int, strides: int = 1, kernel: int = 3) -> Any:
        x = layers.Conv2D(filters, kernel, strides, padding="same", use_bias=False)(x)
        return layers.BatchNormalization()(x)

    images, x = _images(keras)
    x = layers.ReLU()(conv(x, 32))
    for stage, filters in enumerate((32, 64, 128)):
        for block in range(3):
            strides = 2 if stage and not block else 1
            shortcut = conv(x, filters, strides, 1) if x.shape[-1] != filters else x
            y = conv(layers.ReLU()(conv(x, filters, strides)), filters)
            x = layers.ReLU()(layers.Add()([y, shortcut]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, layers.Dense(10, activation="softmax", name="scores")(x), name="resnet")


def _mlp(keras: Any) -> Any:
    """4.7 million parameters."""
    images, x = _images(keras)
    x = keras.layers.Flatten()(x)
    for units in (1536, 1536, 512):
        x = keras.layers.Dense(units, activation="relu")(x)
    return keras.Model(images, keras.layers.Dense(10, activation="softmax", name="scores")(x), name="mlp")


def _transformer(keras: Any) -> Any:
    """1.2 million parameters: 64 patches of 4 x 4 pixels, six layers of width 128."""
    layers = keras.layers
    images, x = _images(keras)
    x = layers.Reshape((64, 128))(layers.Conv2D(128, 4, 4)(x))
    x = layers.Add()([x, layers.Embedding(64, 128)(keras.ops.arange(64)[None])])
    for _ in range(6):
        y = layers.LayerNormalization()(x)
        x = layers.Add()([x, layers.MultiHeadAttention(4, 32)(y, y)])
        y = layers.LayerNormalization()(x)
        x = layers.Add()([x, layers.Dense(128)(layers.Dense(512, activation="gelu")(y))])
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return keras.Model(images, layers.Dense(10, activation="softmax", name="scores")(x), name="transformer")


def _mobilenet(keras: Any) -> Any:
    """MobileNetV2 on 48 x 48 pixels: the images are enlarged in the graph."""
    images = keras.Input((SIZE, SIZE, 1), name="images")
    x = keras.layers.Resizing(48, 48)(keras.layers.Concatenate()([images] * 3))
    x = keras.applications.mobilenet_v2.preprocess_input(x)
    body = keras.applications.MobileNetV2((48, 48, 3), include_top=False, weights=None, pooling="avg")
    return keras.Model(images, keras.layers.Dense(10, activation="softmax", name="scores")(body(x)), name="mobilenet")


MODELS: dict[str, Callable[[Any], Any]] = {
    "resnet": _resnet,
    "mlp": _mlp,
    "transformer": _transformer,
    "mobilenet": _mobilenet,
}
EPOCHS = {"resnet": 4, "mlp": 12, "transformer": 8, "mobilenet": 10}


if __name__ == "__main__":
    main()
