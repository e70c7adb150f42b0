"""Files that are not what they should be are refused with a sentence, before TensorFlow is imported."""

import json
import subprocess
import sys
import zipfile

import pytest

from keraship import keras_file
from keraship.errors import ModelError
from keraship.exporter import inspection


@pytest.mark.parametrize("tenth", range(10))
def test_a_truncated_file_is_refused(models, tmp_path, tenth):
    """Cut at every tenth of its length, a .keras file is never taken for a model."""
    whole = (models / "cnn.keras").read_bytes()
    cut = tmp_path / "cut.keras"
    cut.write_bytes(whole[: len(whole) * tenth // 10])
    with pytest.raises(ModelError, match="is not a whole"):
        keras_file.load(cut)


def test_a_damaged_file_is_refused(models, tmp_path):
    """A bit that flipped inside the weights is found before the model is built."""
    raw = bytearray((models / "cnn.keras").read_bytes())
    with zipfile.ZipFile(models / "cnn.keras") as archive:
        raw[archive.getinfo(keras_file.WEIGHTS).header_offset + 2000] ^= 1
    path = tmp_path / "damaged.keras"
    path.write_bytes(raw)
    with pytest.raises(ModelError, match=r"weights\.h5 is damaged"):
        keras_file.load(path)


def test_a_missing_file_is_named(tmp_path):
    """The path stands in the message."""
    with pytest.raises(ModelError, match=r"expected a \.keras or \.h5 file at .*nowhere\.keras"):
        keras_file.load(tmp_path / "nowhere.keras")


@pytest.mark.parametrize(
    ("names", "message"),
    [(["../evil", "config.json"], "leads out of the archive"), (["readme.txt"], "holds readme.txt")],
)
def test_a_foreign_archive_is_refused(tmp_path, names, message):
    """Archives with paths that escape, and archives that hold no model."""
    path = tmp_path / "odd.keras"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "{}")
    with pytest.raises(ModelError, match=message):
        keras_file.load(path)


@pytest.mark.parametrize("config", ["[" * 100_000, "{", "[]", '{"class_name": 3', b"\xff"])
def test_a_configuration_that_is_none_is_refused(tmp_path, config):
    """Nested without end, cut off, of another kind, not text."""
    path = tmp_path / "odd.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", config)
    with pytest.raises(ModelError, match=r"is no \.keras file"):
        keras_file.load(path)


FORBIDDEN = {"tensorflow", "keras", "onnxruntime", "flask", "sklearn"}


def test_the_commands_are_there_without_tensorflow():
    """Importing the commands imports no framework."""
    program = f"import sys, keraship.exporter.command; print(*({FORBIDDEN} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_an_unregistered_class_is_named_with_its_module(models, keraship, tmp_path):
    """The message holds the class and the --import that helps."""
    done = keraship("export", models / "custom.keras", "--to", tmp_path / "repo")
    assert done.returncode == 1
    assert "'Doubling'" in done.stderr
    assert "--import doubling" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "repo").exists()


def test_python_code_inside_a_file_is_refused(models):
    """A Lambda layer is named as the reason."""
    with pytest.raises(ModelError, match="holds Python code"):
        keras_file.load(models / "lambda.keras")


def test_a_module_that_is_not_there_is_named(models):
    """--import of a module that cannot be imported."""
    with pytest.raises(ModelError, match="cannot import 'nosuchmodule'"):
        keras_file.load(models / "custom.keras", imports=["nosuchmodule"])


def test_inspect_shows_a_file_without_loading_it(models, keraship):
    """Class, inputs, layers and what must be imported come from the archive; TensorFlow is not imported."""
    found = inspection.look(models / "custom.keras")
    assert isinstance(found, inspection.ModelFile)
    assert found.class_name == "Functional"
    assert found.inputs == (inspection.Input("x", "float32", (None, 4)),)
    assert [layer.class_name for layer in found.layers] == ["InputLayer", "Doubling", "Dense"]
    assert found.needs == ("doubling",)
    assert found.weights_bytes == (4 * 2 + 2) * 4
    done = keraship("inspect", models / "custom.keras", "--json")
    assert json.loads(done.stdout)["needs"] == ["doubling"]
    assert "--import doubling" in keraship("inspect", models / "custom.keras").stdout
