"""Files that run code, reach beyond themselves, exhaust the machine or are broken: one sentence, and nothing done."""

import json
import tracemalloc

import malicious
import pytest

from keraship import cli
from keraship.errors import ModelError
from keraship.exporter import load
from keraship.quiet import import_keras

import_keras()

import keras  # noqa: E402  # TensorFlow's chatter first
import onnx  # noqa: E402
import tensorflow as tf  # noqa: E402
from keras import layers  # noqa: E402

pytestmark = pytest.mark.timeout(900)  # the first test makes all files, and scans them

KINDS = {name: kind for name, (_, kind) in malicious.CASES.items()} | dict.fromkeys(malicious.CUTS, "broken")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The files that the cases are made of."""
    folder = tmp_path_factory.mktemp("whole")
    model = keras.Sequential([keras.Input((4,), name="x"), layers.Dense(2, name="dense")])
    model.save(folder / "m.keras")
    model.save(folder / "m.h5")
    model.export(folder / "saved_model", verbose=False)
    weights = onnx.helper.make_tensor("w", 1, [4, 2], bytes(32), raw=True)
    value = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"], name="matmul")
    graph = onnx.helper.make_graph([node], "g", [value("x", 1, [None, 4])], [value("y", 1, [None, 2])], [weights])
    onnx.save(onnx.helper.make_model(graph), folder / "m.onnx")
    (folder / "m.tflite").write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    return malicious.Whole(*(folder / name for name in ("m.keras", "m.h5", "saved_model", "m.onnx", "m.tflite")))


@pytest.fixture(scope="module")
def files(whole, tmp_path_factory):
    """The path of each case by its name."""
    folder = tmp_path_factory.mktemp("malicious")
    return malicious.make_all(folder, whole) | malicious.truncate(folder, whole)


SCAN_ALL = """
    import contextlib, io, json, sys
    from keraship import cli
    answers = {}
    for name, path in json.load(open(sys.argv[1])).items():
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                cli.main(["scan", path, "--json"])
            except SystemExit as exit_:
                answers[name] = (exit_.code, out.getvalue(), err.getvalue())
    assert not {"tensorflow", "keras", "onnx", "onnxruntime", "tflite"} & set(sys.modules)
    print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def scanned(files, python, tmp_path_factory):
    """Exit status, stdout and stderr of a scan of each, all by one process that never imports a framework."""
    listed = tmp_path_factory.mktemp("scan") / "paths.json"
    listed.write_text(json.dumps({name: str(path) for name, path in files.items()}))
    return json.loads(python(SCAN_ALL, listed, timeout=800))


def test_there_are_enough_cases():
    """The list did not shrink."""
    assert len(KINDS) > 150


@pytest.mark.parametrize("name", KINDS)
def test_a_scan_finds_it(scanned, files, name):
    """A danger of the kind that it is, or one sentence where the file is broken; nothing was run."""
    status, out, err = scanned[name]
    if KINDS[name] == "broken":
        assert (status, out) == (1, "")
        assert_one_sentence(err)
    else:
        dangers = {found["kind"] for found in json.loads(out)["findings"] if found["severity"] == "danger"}
        assert dangers - {"code"} == {KINDS[name]} - {"code", "clean"}, out  # gadgets sit in Lambda layers
        assert "code" in dangers or KINDS[name] != "code", out
        assert status == bool(dangers)
        assert err == ""
    assert not (folder_of(files, name) / malicious.CANARY).exists()


@pytest.mark.parametrize("name", [name for name in KINDS if name not in malicious.FIRST])
def test_a_load_refuses_it(files, name):
    """The one loader behind the commands: an error of one line, and nothing was run."""
    with pytest.raises(ModelError) as refused:
        load.load(files[name])
    assert "\n" not in str(refused.value)
    assert not (folder_of(files, name) / malicious.CANARY).exists()


@pytest.mark.parametrize("name", malicious.FIRST)
def test_the_commands_refuse_it(files, tmp_path, capfd, name):
    """The first of each sort: one sentence, exit status 1, nothing run, nothing published; `inspect` never more."""
    path = str(files[name])
    with pytest.raises(SystemExit) as exited:
        cli.main(["export", path, "--to", str(tmp_path / "repo"), "--name", "m", "--formats", "onnx"])
    out, err = capfd.readouterr()
    assert (exited.value.code, out) == (1, "")
    assert_one_sentence(err)
    assert not (tmp_path / "repo").exists()
    with pytest.raises(SystemExit) as exited:
        cli.main(["inspect", path])
    if exited.value.code:
        assert exited.value.code == 1
        assert_one_sentence(capfd.readouterr().err)
    assert not (folder_of(files, name) / malicious.CANARY).exists()


UNTRUSTED = [name for name in malicious.FIRST if KINDS[name] in ("gadget", "path", "link", "oversize")]


@pytest.mark.parametrize("name", UNTRUSTED)
def test_trust_is_about_code_only(files, name):
    """What is neither a Lambda layer nor a SavedModel's operation is refused though the file is trusted."""
    with pytest.raises(ModelError):
        load.load(files[name], trust=True)
    assert not (folder_of(files, name) / malicious.CANARY).exists()


def test_the_canary_would_sing(whole, tmp_path):
    """The code in these files works: where it is trusted, it runs."""
    path = malicious.CASES["lambda_sequential"][0](tmp_path, whole)
    load.load(path, trust=True)
    assert (tmp_path / malicious.CANARY).exists()


def test_whole_files_are_clean(whole, keraship):
    """What the cases are made of has no findings, nor has a folder of all of it."""
    done = keraship("scan", whole.keras.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert "nothing dangerous found" in done.stdout


def test_a_scan_names_what_it_found(files, keraship):
    """For people: the layer, the reason and the remedy, on stdout; exit status 1. A real process."""
    done = keraship("scan", files["lambda_nested"])
    assert (done.returncode, done.stderr) == (1, "")
    assert "danger: model/model/model/lambda: it holds Python code (a Lambda layer); write it as" in done.stdout
    assert keraship("scan").returncode == 2


def test_a_claim_is_refused_before_memory_is_taken(files):
    """A layer whose weights follow from its input's size is refused as it asks for them."""
    tracemalloc.start()
    with pytest.raises(ModelError, match="'dense' declares weights of shape"):
        load.load(files["huge_input"])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100 << 20


def assert_one_sentence(err):
    assert err.startswith("keraship: "), err
    assert err.count("\n") == 1, err
    assert "Traceback" not in err


def folder_of(files, name):
    path = files[name]
    return path if path.name == name else path.parent
