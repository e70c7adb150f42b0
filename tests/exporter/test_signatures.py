"""Further signatures of a SavedModel: tf.Examples, encoded images; with TensorFlow's sessions, our server and REST."""

import base64
import contextlib
import io
import json
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from keraship import bundle
from keraship.client import Client
from keraship.errors import ExportError, KerashipError, VerificationError
from keraship.exporter import export
from keraship.exporter.wanted import Wanted, read_labels
from keraship.quiet import import_keras
from keraship.samples import Samples
from keraship.signature import Signature, TensorSpec

HEIGHT, WIDTH = 12, 10
LABELS = ("cat", "dog", "owl")
PIXELS = np.random.default_rng(5).integers(0, 256, (4, HEIGHT, WIDTH, 1), dtype=np.uint8)


@pytest.fixture(scope="module")
def keras():
    return import_keras()


@pytest.fixture(scope="module")
def model(keras):
    """Grey images, which it rescales itself, and a number, to three scores."""
    layers = keras.layers
    keras.utils.set_random_seed(3)
    images, kind = keras.Input((HEIGHT, WIDTH, 1), name="images"), keras.Input((), dtype="int32", name="kind")
    hidden = layers.Flatten()(layers.Conv2D(4, 3, activation="relu")(layers.Rescaling(1 / 255)(images)))
    hidden = layers.Concatenate()([layers.Dense(60)(hidden), layers.Embedding(10, 4)(kind)])
    return keras.Model([images, kind], layers.Dense(3, activation="softmax", name="scores")(hidden))


@pytest.fixture(scope="module")
def version(tmp_path_factory, model):
    """That model, exported with every format and with classify and predict_images."""
    repository = tmp_path_factory.mktemp("repository")
    return export(model, repository, name="pets", classify=True, labels=LABELS, image_input=True).folder


@pytest.fixture(scope="module")
def answers(model):
    """The Keras model's scores for pixels, with the kinds 0, 1, 2 ..."""

    def scores(pixels):
        return model([pixels.astype(np.float32), np.arange(len(pixels), dtype=np.int32)], training=False).numpy()

    return scores


@pytest.fixture(scope="module")
def session(version):
    """A v1 session, as TensorFlow Serving runs it: arrays by input name in, arrays by output name out."""
    import tensorflow as tf

    session = tf.compat.v1.Session(graph=tf.Graph())
    with session.graph.as_default():
        signatures = tf.compat.v1.saved_model.load(session, ["serve"], str(version)).signature_def

    def run(name, arrays):
        signature = signatures[name]
        feeds = {signature.inputs[key].name: array for key, array in arrays.items()}
        return session.run({key: info.name for key, info in signature.outputs.items()}, feeds)

    yield run
    session.close()


def encoded(pixels, format_, mode="L"):
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0]).convert(mode).save(file, format_)
    return file.getvalue()


def example(pixels, kind):
    import tensorflow as tf

    features = {
        "images": tf.train.Feature(float_list=tf.train.FloatList(value=pixels.reshape(-1).astype(float))),
        "kind": tf.train.Feature(int64_list=tf.train.Int64List(value=[kind])),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def test_the_manifest_says_which_artifact_has_which_signature(version):
    """All signatures stand in the manifest; the ONNX model has the model's own, the SavedModel all."""
    manifest = bundle.read_manifest(version)
    assert set(manifest.signatures) == {"serving_default", "predict", "classify", "predict_images"}
    assert (
        str(manifest.signatures["classify"])
        == "(inputs: string [-1]) -> (classes: string [-1,3], scores: float32 [-1,3])"
    )
    assert manifest.signatures["classify"].method_name == "tensorflow/serving/classify"
    assert [spec.name for spec in manifest.signatures["predict_images"].inputs] == ["image_bytes", "kind"]
    assert manifest.offered("saved_model") == set(manifest.signatures)
    assert manifest.offered("onnx") == {"serving_default", "predict"}
    assert set(manifest.more_golden) == {"classify", "predict_images"}
    assert not bundle.changed_files(version, manifest)


def test_the_weights_stand_in_the_file_once(version):
    """Four signatures, one copy: the file is no larger than the weights and 100 kB, and has one convolution."""
    from tensorflow.core.protobuf import saved_model_pb2

    raw = (version / bundle.SAVED_MODEL).read_bytes()
    assert len(raw) <= bundle.read_manifest(version).source.weights_bytes + 100_000
    nodes = saved_model_pb2.SavedModel.FromString(raw).meta_graphs[0].graph_def.node
    assert [node.op for node in nodes].count("Conv2D") == 1


def test_classify_takes_examples(session, answers):
    """Serialized tf.Examples give the labels and the scores that the arrays give."""
    found = session("classify", {"inputs": [example(pixels, row) for row, pixels in enumerate(PIXELS)]})
    np.testing.assert_allclose(found["scores"], answers(PIXELS), rtol=1e-5, atol=1e-6)
    assert found["classes"].tolist() == [[label.encode() for label in LABELS]] * len(PIXELS)


@pytest.mark.parametrize(
    ("format_", "mode"), [("PNG", "L"), ("PNG", "RGB"), ("BMP", "L"), ("BMP", "RGB"), ("GIF", "L")]
)
def test_images_of_the_models_size_are_taken_as_they_are(session, answers, format_, mode):
    """Encodings that lose nothing give the scores that the pixels give, colours that are grey included."""
    images = [encoded(pixels, format_, mode) for pixels in PIXELS]
    found = session("predict_images", {"image_bytes": images, "kind": np.arange(len(PIXELS), dtype=np.int32)})
    np.testing.assert_allclose(found["scores"], answers(PIXELS), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("format_", ["PNG", "JPEG"])
def test_images_of_another_size_are_resized(session, answers, format_):
    """Decoded as Pillow decodes, then bilinear with antialiasing: what training did to its files."""
    import tensorflow as tf

    large = np.random.default_rng(1).integers(0, 256, (2, 50, 37, 1), dtype=np.uint8)
    images = [encoded(pixels, format_) for pixels in large]
    decoded = np.stack([np.asarray(Image.open(io.BytesIO(image)))[..., None] for image in images])
    expected = answers(tf.image.resize(decoded, (HEIGHT, WIDTH), antialias=True).numpy())
    found = session("predict_images", {"image_bytes": images, "kind": np.arange(2, dtype=np.int32)})
    np.testing.assert_allclose(found["scores"], expected, rtol=1e-4, atol=1e-5)


def test_stock_tensorflow_loads_them_as_objects(version, answers):
    """tf.saved_model.load gives each signature as a function of its own inputs."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(version))
    examples = tf.constant([example(pixels, row) for row, pixels in enumerate(PIXELS)])
    images = tf.constant([encoded(pixels, "PNG") for pixels in PIXELS])
    for found in (
        loaded.signatures["classify"](inputs=examples),
        loaded.signatures["predict_images"](image_bytes=images, kind=tf.range(len(PIXELS))),
        loaded.signatures["predict"](images=tf.constant(PIXELS, tf.float32), kind=tf.range(len(PIXELS))),
    ):
        np.testing.assert_allclose(found["scores"].numpy(), answers(PIXELS), rtol=1e-5, atol=1e-6)


@contextlib.contextmanager
def serving(repository, *flags):
    """`keraship serve`, ready; its gRPC and REST ports."""
    with socket.socket() as grpc, socket.socket() as rest:
        grpc.bind(("", 0))
        rest.bind(("", 0))
        ports = grpc.getsockname()[1], rest.getsockname()[1]
    command = ["serve", str(repository), f"--port={ports[0]}", f"--rest_api_port={ports[1]}", *flags]
    process = subprocess.Popen([sys.executable, "-m", "keraship", *command], stderr=subprocess.DEVNULL)
    try:
        yield ports
    finally:
        process.terminate()
        process.wait(60)


def test_our_server_answers_images_over_grpc_and_rest(version, answers):
    """The server takes the runtime that has all signatures; gRPC takes bytes, REST takes {"b64": ...}."""
    images = [encoded(pixels, "PNG") for pixels in PIXELS]
    with serving(version.parent.parent) as (port, rest_port), Client(f"localhost:{port}", "pets") as client:
        client.wait_until_ready(120)
        assert set(client.metadata().signatures) == {"serving_default", "predict", "classify", "predict_images"}
        asked = {"image_bytes": images, "kind": np.arange(len(PIXELS), dtype=np.int32)}
        found = client.predict(asked, signature_name="predict_images")
        np.testing.assert_allclose(found["scores"], answers(PIXELS), rtol=1e-5, atol=1e-6)

        rows = [
            {"image_bytes": {"b64": base64.b64encode(image).decode()}, "kind": row} for row, image in enumerate(images)
        ]
        body = json.dumps({"signature_name": "predict_images", "instances": rows}).encode()
        end = time.monotonic() + 30
        while True:
            try:
                with urllib.request.urlopen(f"http://localhost:{rest_port}/v1/models/pets:predict", body) as answer:
                    predictions = json.load(answer)["predictions"]
                break
            except ConnectionError:
                assert time.monotonic() < end
                time.sleep(0.1)
        np.testing.assert_allclose(predictions, answers(PIXELS), rtol=1e-5, atol=1e-6)


def test_the_onnx_runtime_tells_only_what_it_has(version):
    """Served with ONNX Runtime, the model has the signatures that model.onnx has, and no other."""
    from keraship.serving.backend import BackendOptions, open_backend

    backend = open_backend(version, BackendOptions(kind="onnx"))
    assert set(backend.signatures) == {"serving_default", "predict"} == set(backend.signature_defs.signature_def)
    backend.close()
    chosen = open_backend(version, BackendOptions())
    assert set(chosen.signatures) >= {"classify", "predict_images"}
    chosen.close()


def test_regress_takes_examples_of_every_kind_of_input(keras, tmp_path):
    """Floats of 16 bits, booleans, integers and texts go through tf.Examples; the export proves the values."""
    layers = keras.layers
    specs = {"half": "float16", "flag": "bool", "small": "uint8", "word": "string"}
    inputs = {name: keras.Input((2,), dtype=dtype, name=name) for name, dtype in specs.items()}
    words = layers.StringLookup(vocabulary=["the", "fox"])(inputs["word"])
    numbers = [
        layers.Lambda(lambda tensor: keras.ops.cast(tensor, "float32"))(each)
        for each in (*list(inputs.values())[:3], words)
    ]
    model = keras.Model(inputs, layers.Dense(1, name="price")(layers.Concatenate()(numbers)))
    exported = export(model, tmp_path, name="prices", formats=["saved_model"], regress=True, classify=True)
    assert str(exported.manifest.signatures["regress"]) == "(inputs: string [-1]) -> (outputs: float32 [-1,1])"
    import tensorflow as tf

    asked, expected = bundle.read_golden(exported.folder, "regress")
    features = tf.train.Example.FromString(asked["inputs"][0]).features.feature
    assert set(features) == set(specs)
    _, outputs = bundle.read_golden(exported.folder)
    np.testing.assert_array_equal(expected["outputs"], outputs["price"])


def test_a_signature_that_answers_otherwise_is_not_published(model, tmp_path, monkeypatch):
    """The values of each signature are compared in the fresh process, and named where they differ."""
    from keraship.exporter import image_bytes

    read = image_bytes.read
    monkeypatch.setattr(image_bytes, "read", lambda contents, spec, scale: read(contents, spec, scale)[:, ::-1])
    with pytest.raises(VerificationError, match="predict_images/scores"):
        export(model, tmp_path, name="pets", formats=["saved_model"], image_input="images")
    assert not list(tmp_path.glob("pets/*"))


def test_the_same_bytes_whatever_the_process_did_before(model, tmp_path):
    """The added nodes and functions have names that follow from what they compute."""
    from keraship.exporter import freeze, savedmodel, signatures, trace

    written = []
    for folder in (tmp_path / "first", tmp_path / "second"):
        traced = trace.trace(model)
        added = signatures.additions(traced.signature, Wanted(classify=True, regress=False, image_input=""))
        folder.mkdir()
        savedmodel.write_saved_model(replace(freeze.freeze(traced), additions=added), folder)
        written.append((folder / bundle.SAVED_MODEL).read_bytes())
    assert written[0] == written[1]


SCORES = TensorSpec("scores", "float32", (None, 3))
IMAGES = TensorSpec("images", "float32", (None, 8, 8, 3))
REFUSED = [
    ("no scores", [IMAGES], [TensorSpec("mask", "float32", (None, 8, 8))], Wanted(classify=True), "exactly one output"),
    ("two scores", [IMAGES], [SCORES, replace(SCORES, name="more")], Wanted(classify=True), "exactly one output"),
    ("scores to regress", [IMAGES], [SCORES], Wanted(regress=True), r"\[-1\] or \[-1,1\]"),
    ("labels", [IMAGES], [SCORES], Wanted(classify=True, labels=("a", "b")), "expected 3 labels"),
    ("open size", [TensorSpec("tokens", "int32", (None, None))], [SCORES], Wanted(classify=True), "fixed length"),
    ("fixed rows", [TensorSpec("x", "float32", (4, 2))], [SCORES], Wanted(classify=True), "must be free"),
    ("complex", [TensorSpec("x", "complex64", (None, 2))], [SCORES], Wanted(classify=True), "cannot hold complex64"),
    ("no images", [TensorSpec("x", "float32", (None, 2))], [SCORES], Wanted(image_input=""), "--image-input"),
    ("two images", [IMAGES, replace(IMAGES, name="left")], [SCORES], Wanted(image_input=""), "--image-input"),
    ("another name", [IMAGES], [SCORES], Wanted(image_input="left"), "got left"),
    ("channels first", [TensorSpec("x", "float32", (None, 3, 8, 8))], [SCORES], Wanted(image_input=""), "channels"),
    (
        "scaled integers",
        [replace(IMAGES, dtype="uint8")],
        [SCORES],
        Wanted(image_input="", image_scale="0..1"),
        "--image-scale none",
    ),
]


@pytest.mark.parametrize(
    ("inputs", "outputs", "wanted", "said"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_what_a_model_cannot_have_is_said(inputs, outputs, wanted, said):
    """A model that does not fit a signature is refused before anything is written, with what it would need."""
    from keraship.exporter import signatures

    with pytest.raises(ExportError, match=said):
        signatures.additions(Signature(tuple(inputs), tuple(outputs)), wanted)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"labels": ["a"]}, "--classify"),
        ({"image_scale": "0..1"}, "--image-input"),
        ({"classify": True, "formats": ["onnx"]}, "only a SavedModel"),
        ({"classify": True, "labels": "a,a"}, "given twice"),
        ({"classify": True, "labels": "a,,b"}, "is empty"),
        ({"image_input": True, "image_scale": "2"}, "out of none"),
    ],
)
def test_arguments_that_contradict_each_other_are_refused_at_once(arguments, said, tmp_path):
    """Before the model is looked at."""
    with pytest.raises(KerashipError, match=said):
        export("nowhere.keras", tmp_path, **arguments)


def test_labels_come_from_a_file_or_a_text(tmp_path):
    """One a line, or with commas between them."""
    path = tmp_path / "labels.txt"
    path.write_text("red cat\nblue, or green\n\n")
    assert read_labels(str(path)) == read_labels(path) == ("red cat", "blue, or green")
    assert read_labels("a, b") == ("a", "b")
    assert read_labels(None) == ()
    with pytest.raises(ExportError, match="a label a line"):
        read_labels(tmp_path / "none.txt")


@pytest.mark.parametrize(("scale", "low", "high"), [("0..1", 0, 1), ("-1..1", -1, 1)])
def test_pixels_are_scaled_for_models_that_do_not(keras, tmp_path, scale, low, high):
    """Black and white become the ends of the range, in colour, at any size where the model takes any."""
    inputs = keras.Input((None, None, 3), name="photos")
    model = keras.Model(inputs, keras.layers.GlobalMaxPooling2D(name="most")(inputs))
    exported = export(
        model,
        tmp_path,
        name="most",
        formats=["saved_model"],
        image_input="photos",
        image_scale=scale,
        evaluate=Samples({"photos": np.ones((3, 5, 5, 3), np.float32)}),
    )
    import tensorflow as tf

    loaded = tf.saved_model.load(str(exported.folder))
    for value, expected in ((0, low), (255, high)):
        image = encoded(np.full((7, 9, 1), value, np.uint8), "PNG", "RGB")
        most = loaded.signatures["predict_images"](image_bytes=tf.constant([image]))["most"]
        np.testing.assert_allclose(most, [[expected] * 3], atol=1e-6)
