"""Models as .keras files, made once; and exports of them, each made once."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from keraship.quiet import import_keras

MODULES = Path(__file__).parent / "modules"
sys.path.insert(0, str(MODULES))  # where the models' own layers are


@pytest.fixture(scope="session")
def environment():
    """A child's environment, in which the tests' own layers can be imported and no seed of hashes is shared."""
    return {**os.environ, "PYTHONPATH": str(MODULES), "PYTHONHASHSEED": "random"}


@pytest.fixture(scope="session")
def python(environment):
    """Run a program in a fresh Python; its standard output."""

    def run(program, *arguments, expect=0, timeout=200):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program), *map(str, arguments)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert done.returncode == expect, done.stderr[-3000:]
        return done.stdout

    return run


@pytest.fixture(scope="session")
def keraship(environment):
    """Run the command in a fresh process."""

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "keraship", *map(str, arguments)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=200,
        )

    return run


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A folder with cnn.keras, lstm.keras, custom.keras (a layer of its own) and lambda.keras."""
    folder = tmp_path_factory.mktemp("models")
    import_keras()
    import doubling
    import keras
    from keras import layers

    keras.utils.set_random_seed(7)
    keras.Sequential(
        [
            layers.Input((8, 8, 1), name="images"),
            layers.RandomFlip(),
            layers.Conv2D(4, 3, activation="gelu"),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.Flatten(),
            layers.Dense(30),
            layers.Dense(3, activation="softmax", name="scores"),
        ]
    ).save(folder / "cnn.keras")
    tokens = layers.Input((None,), dtype="int32", name="tokens")
    hidden = layers.Bidirectional(layers.LSTM(4))(layers.Embedding(10, 5)(tokens))
    keras.Model(tokens, layers.Dense(2, name="mood")(hidden)).save(folder / "lstm.keras")
    x = layers.Input((4,), name="x")
    keras.Model(x, layers.Dense(2, name="y")(doubling.Doubling()(x))).save(folder / "custom.keras")
    keras.Model(x, layers.Lambda(lambda t: t + 1)(x)).save(folder / "lambda.keras")
    return folder


@pytest.fixture(scope="session")
def labelled(tmp_path_factory):
    """An .npz file with 40 rows for cnn.keras and their labels."""
    path = tmp_path_factory.mktemp("data") / "test.npz"
    random = np.random.default_rng(3)
    np.savez(path, images=random.random((40, 8, 8, 1)), labels=random.integers(0, 3, 40))
    return path


EXPORT_BOTH = """
    import sys
    from keraship.exporter import export
    models, repository, labelled, busy = sys.argv[1:]
    if busy == "busy":  # a process that did other work before
        from keraship.quiet import import_keras
        keras = import_keras()
        keras.Sequential([keras.Input((2,)), keras.layers.Dense(3), keras.layers.RandomFlip()])
    stages = []
    export(f"{models}/cnn.keras", repository, evaluate=labelled, progress=stages.append)
    export(f"{models}/lstm.keras", repository)
    print(*stages, sep=",")
"""


@pytest.fixture(scope="session")
def repositories(tmp_path_factory, models, labelled, python):
    """Two repositories with cnn/1 and lstm/1, each exported by a process of its own."""
    folder = tmp_path_factory.mktemp("twice")
    for name in ("fresh", "busy"):
        python(EXPORT_BOTH, models, folder / name, labelled, name)
    return folder / "fresh", folder / "busy"


@pytest.fixture(scope="session")
def cnn(repositories):
    """The published version of cnn.keras."""
    return repositories[0] / "cnn" / "1"


@pytest.fixture(scope="session")
def lstm(repositories):
    """The published version of lstm.keras."""
    return repositories[0] / "lstm" / "1"
