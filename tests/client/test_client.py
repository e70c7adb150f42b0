"""The client against a server of TensorFlow Serving's own classes, with TensorFlow reading and writing its tensors."""

from __future__ import annotations

import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from keraship import dtypes, errors
from keraship.client import Client, InvalidInput, ModelSpec, VersionStatus

Calls = Callable[[str], int]

# TensorFlow has a number for the last three, but its Python knows no more of them.
UNKNOWN_TO_TENSORFLOW = {"float8_e4m3fnuz", "float8_e4m3b11fnuz", "float8_e5m2fnuz"}
NUMERIC = [dtype for dtype in dtypes.DTYPES if dtype.name not in {"string", *UNKNOWN_TO_TENSORFLOW}]
SHAPES: list[tuple[int, ...]] = [(), (1,), (3,), (0,), (2, 0, 3), (2, 3)]


def sample(dtype: dtypes.DType, shape: tuple[int, ...]) -> np.ndarray:
    """Values that differ from one another; 0 and 1 for types of two bits."""
    flat = np.arange(math.prod(shape)) % 2 if dtype.name.endswith("int2") else np.arange(math.prod(shape)) % 7
    return flat.reshape(shape).astype(dtype.numpy)


@pytest.mark.parametrize("encoding", ["content", "values"])
@pytest.mark.parametrize("dtype", NUMERIC, ids=str)
def test_every_dtype_goes_there_and_back(client: Client, dtype: dtypes.DType, encoding: str) -> None:
    """TensorFlow reads what was sent, and what it writes in either encoding is the same array again."""
    for shape in SHAPES:
        array = sample(dtype, shape)
        prediction = client.predict({"x": array}, model_name=f"dtype-{dtype.number}-{encoding}")
        assert prediction.array.dtype == dtype.numpy
        assert prediction.array.shape == shape
        assert prediction.array.tobytes() == array.tobytes()


@pytest.mark.parametrize("encoding", ["content", "values"])
@pytest.mark.parametrize(
    "value",
    ["text", b"\x00\xff\x00", ["a", "", "ü"], [[b"a\x00"], [b""]], np.array(["x", "yy"]), np.empty((0, 2), "S3")],
)
def test_strings_of_all_kinds_arrive_as_bytes(client: Client, value: object, encoding: str) -> None:
    """Text is UTF-8, NULs at the end are kept, shapes too."""
    expected = np.asarray(value, object)
    answer = client.predict({"x": value}, model_name=f"dtype-7-{encoding}").array
    assert answer.shape == expected.shape
    assert answer.ravel().tolist() == [i.encode() if isinstance(i, str) else i for i in expected.ravel().tolist()]


def test_memory_layouts_do_not_matter(client: Client) -> None:
    """Big-endian, transposed, strided and Fortran-ordered arrays arrive as the values that they are."""
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    for other in (array.astype(">f4"), array.T, array[::2, ::-1], np.asfortranarray(array)):
        np.testing.assert_array_equal(client.predict({"x": other}).array, other)
        np.testing.assert_array_equal(client.predict({"x": other}, check=False).array, other)


def test_answers_are_read_only_unless_a_copy_is_asked_for(client: Client) -> None:
    """Whatever encoding the server chose."""
    for encoding in ("content", "values"):
        model, value = f"dtype-1-{encoding}", np.float32([1, 2])
        assert not client.predict(value, model_name=model).array.flags.writeable
        copy = client.predict(value, model_name=model, copy=True).array
        copy[0] = 5
        assert copy.tolist() == [5, 2]


def test_a_prediction_is_a_mapping_that_knows_what_the_server_used(client: Client) -> None:
    """Names, arrays, model, version and signature; `.array` only where there is one output."""
    prediction = client.predict({"a": [1, 2], "b": [[1, 2], [3, 4]]}, model_name="two", version=4)
    assert list(prediction) == ["sum", "texts"]
    assert prediction["sum"].tolist() == [[2, 3], [5, 6]]
    assert prediction["texts"].tolist() == [b"row 1", b"row 2"]
    assert prediction.model_spec == ModelSpec("two", 4, "serving_default")
    with pytest.raises(ValueError, match=r"the model gave 2 \(sum, texts\)"):
        _ = prediction.array
    with pytest.raises(KeyError):
        prediction["total"]


def test_output_filter_chooses_outputs(client: Client) -> None:
    """The server sends only what was asked for; one name as a text is a mistake."""
    inputs = {"a": np.int32([1]), "b": np.float32([[1, 2]])}
    assert list(client.predict(inputs, model_name="two", output_filter=["texts"])) == ["texts"]
    with pytest.raises(ValueError, match="list of names"):
        client.predict(inputs, model_name="two", output_filter="texts")


def test_a_single_array_goes_to_the_single_input(client: Client, calls: Calls) -> None:
    """And is refused, unsent, where the model has several."""
    assert client.predict([1.0, 2.0]).array.tolist() == [1, 2]
    assert client.predict(np.int8([3]), check=False).array.dtype == np.int8
    before = calls("predict:two")
    with pytest.raises(InvalidInput, match="for the inputs a, b; got one value"):
        client.predict([1], model_name="two")
    assert calls("predict:two") == before


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"a": [1], "c": [[1, 2]]}, r"no input 'c'.*'b' \(float32 \[-1,2\]\) is missing"),
        ({"a": np.int64([1]), "b": [[1, 2]]}, r"'a' expects int32 \[-1\], got int64 \[1\]; .*astype\('int32'\)"),
        ({"a": [1], "b": [1.0, 2.0]}, r"'b' expects float32 \[-1,2\], got float64 \[2\]"),
        ({"a": ["1"], "b": [[1]]}, r"'a' expects .*'b' expects"),
        ({}, "'a' .* is missing.*'b' .* is missing"),
    ],
)
def test_what_does_not_fit_is_never_sent(client: Client, calls: Calls, inputs: dict[str, object], message: str) -> None:
    """Names, dtypes and shapes are refused before the server sees a Predict; the error says how often it was sent."""
    before = calls("predict:two")
    for _ in range(2):  # with signatures asked for, and with signatures known
        with pytest.raises(InvalidInput, match=message) as caught:
            client.predict(inputs, model_name="two")
        assert caught.value.attempts == 0
    assert calls("predict:two") == before


def test_an_unknown_signature_is_never_sent(client: Client, calls: Calls) -> None:
    """With the one that was probably meant."""
    before = calls("predict:echo")
    with pytest.raises(InvalidInput, match=r"no signature 'serving', did you mean 'serving_default'\?"):
        client.predict([1.0], signature_name="serving")
    assert calls("predict:echo") == before
    assert client.predict([1.0], signature_name="").array.tolist() == [1]


def test_check_false_sends_what_is_given(client: Client, calls: Calls) -> None:
    """The server judges; its metadata are not even asked for."""
    before = calls("metadata:echo")
    answer = client.predict({"x": np.int8([1]), "more": b"a\0"}, check=False)
    assert answer["y"].dtype == np.int8
    assert answer["more"].item() == b"a\0"
    assert calls("metadata:echo") == before


def test_signatures_are_asked_for_once(client: Client, calls: Calls) -> None:
    """Not for every call."""
    before = calls("metadata:echo")
    for _ in range(3):
        client.predict([1.0])
    assert calls("metadata:echo") == before + 1


def test_a_new_version_brings_its_signature(client: Client) -> None:
    """Inputs that fit the new version only are sent after a second look; those of the old are refused from then on."""

    def switch(version: int) -> None:
        client.predict({"version": version}, model_name="control", check=False)

    switch(1)
    assert client.predict({"x": [1.0]}, model_name="switch").model_spec.version == 1
    switch(2)
    assert client.predict({"z": [1.0]}, model_name="switch").model_spec.version == 2
    with pytest.raises(InvalidInput, match="no input 'x'"):
        client.predict({"x": [1.0]}, model_name="switch")
    switch(1)
    assert client.predict({"z": [1.0]}, model_name="switch").model_spec.version == 1  # the answer tells of the change
    with pytest.raises(InvalidInput, match="no input 'z'"):
        client.predict({"z": [1.0]}, model_name="switch")
    assert client.predict([2.0], model_name="switch").array.tolist() == [2]


def test_a_server_without_metadata_is_asked_unchecked(client: Client, calls: Calls) -> None:
    """It is not asked for them again, and a single array has no name to go by."""
    before = calls("metadata:no-metadata")
    for _ in range(2):
        assert client.predict({"x": np.int8([1])}, model_name="no-metadata").array.dtype == np.int8
    assert calls("metadata:no-metadata") == before + 1
    with pytest.raises(InvalidInput, match="expected arrays by name"):
        client.predict([1.0], model_name="no-metadata")
    with pytest.raises(errors.Unimplemented, match="not here"):
        client.metadata(model_name="no-metadata")


def test_inputs_with_a_default_may_be_left_out(client: Client) -> None:
    """The server fills them in; given, they are checked like others."""
    assert list(client.predict({"x": [1.0]}, model_name="defaults")) == ["y"]
    assert set(client.predict({"x": [1.0], "scale": 3}, model_name="defaults")) == {"scale", "y"}
    with pytest.raises(InvalidInput, match=r"'scale' expects float32 \[\]"):
        client.predict({"x": [1.0], "scale": [3]}, model_name="defaults")


def test_metadata_names_the_signatures_that_can_be_called(client: Client) -> None:
    """TensorFlow's own init op is none; a sparse input is told apart, with the reason."""
    metadata = client.metadata(model_name="odd", version=5)
    assert metadata.version == 5
    assert list(metadata.signatures) == ["serving_default"]
    assert str(metadata.signatures["serving_default"]) == "(x: float32 <unknown rank>) -> (y: float32 <unknown rank>)"
    assert "dense" in metadata.unreadable["sparse"]
    with pytest.raises(InvalidInput, match="takes no plain arrays"):
        client.predict({"s": [1.0]}, model_name="odd", signature_name="sparse")


def test_versions_and_labels_are_a_choice(client: Client) -> None:
    """Each reaches the server; both, or neither a model, are wrong."""
    assert client.predict([1.0], version=np.int64(9)).model_spec.version == 9
    assert client.predict([1.0], version_label="canary").model_spec.version == 8
    with pytest.raises(ValueError, match="a version or a version_label; got both"):
        client.predict([1.0], version=1, version_label="canary")
    with pytest.raises(ValueError, match="version of 0 or more"):
        client.predict([1.0], version=-1)
    with Client(client.address) as nameless, pytest.raises(ValueError, match="a model's name; got none"):
        nameless.predict([1.0])


@pytest.mark.parametrize("code", errors.BY_CODE)
def test_every_code_has_its_error(client: Client, code: str) -> None:
    """With the server's words, the code, the number of attempts, and who said so."""
    with pytest.raises(errors.BY_CODE[code]) as caught:
        client.predict([1.0], model_name=f"fails-{code}")
    assert caught.value.details == f"fails-{code} on purpose"
    assert (caught.value.code, caught.value.attempts) == (code, 5 if code == "UNAVAILABLE" else 1)
    assert client.address in str(caught.value)


def test_a_model_that_is_absent_is_not_found(client: Client) -> None:
    """At the first question that is asked of it."""
    for ask in (lambda: client.predict([1.0], model_name="absent"), lambda: client.status(model_name="absent")):
        with pytest.raises(errors.NotFound, match="absent"):
            ask()


def test_an_answer_that_is_no_tensor_is_internal(client: Client) -> None:
    """The server's fault, not the caller's."""
    with pytest.raises(errors.Internal, match=r"cannot be read: .*shape"):
        client.predict([1.0], model_name="malformed")


def test_the_timeout_is_the_whole_budget(client: Client, calls: Calls) -> None:
    """A slow answer ends as DeadlineExceeded; time that the metadata took is gone for the call itself."""
    with pytest.raises(errors.DeadlineExceeded, match="did not answer Predict within the time"):
        client.predict([1.0], model_name="slow", timeout=0.5)
    with pytest.raises(errors.DeadlineExceeded):
        client.predict([1.0], model_name="slow-metadata", timeout=0.1)
    assert calls("predict:slow-metadata") == 0
    assert client.predict([1.0], timeout=math.inf).array.tolist() == [1]
    for nonsense in (0, -1, math.nan):
        with pytest.raises(ValueError, match="timeout of more than 0"):
            client.predict([1.0], timeout=nonsense)


def test_status_lists_the_versions(client: Client) -> None:
    """With the state and, for one that failed, the reason."""
    assert client.status() == (VersionStatus(1, "AVAILABLE", "OK", ""),)
    (broken,) = client.status(model_name="broken")
    assert broken == VersionStatus(3, "END", "NOT_FOUND", "no saved_model.pb")
    assert str(broken) == "version 3 is END (NOT_FOUND: no saved_model.pb)"


def test_wait_until_ready_waits_for_a_version(client: Client, calls: Calls) -> None:
    """Polls while it loads, and gives the highest that is available."""
    assert client.wait_until_ready(10, model_name="loading").version == 1
    assert calls("status:loading") == 3
    assert client.wait_until_ready(model_name="several").version == 3


@pytest.mark.parametrize(
    ("model", "answer"),
    [("broken", "version 3 is END .NOT_FOUND: no saved_model.pb"), ("absent", "Could not find any")],
)
def test_wait_until_ready_says_what_the_last_answer_was(client: Client, model: str, answer: str) -> None:
    """When the time is over."""
    with pytest.raises(errors.DeadlineExceeded, match=f"'{model}' .* within 0.3 s; the last answer was: .*{answer}"):
        client.wait_until_ready(0.3, model_name=model)


def test_wait_until_ready_expects_a_server_that_starts_later(tmp_path: Path) -> None:
    """No server is no error while there is time."""
    says = "the last answer was: no server answers at unix:"
    with Client(f"unix:{tmp_path / 'none'}", "m") as nobody, pytest.raises(errors.DeadlineExceeded, match=says):
        nobody.wait_until_ready(0.3)


def test_wait_until_ready_sees_the_server_come(tmp_path: Path) -> None:
    """The same client, which found nobody at first, finds the server once it is there."""
    path = tmp_path / "late"
    with Client(f"unix:{path}", "m") as early:
        with pytest.raises(errors.Unavailable, match=r"no server answers at .* \(no such file or directory\)"):
            early.status()
        script = (
            "import sys, grpc\nfrom concurrent import futures\nfrom keraship.wire import messages as m\n"
            "server = grpc.server(futures.ThreadPoolExecutor(1))\n"
            "answer = m.GetModelStatusResponse()\nanswer.model_version_status.add(version=2, state=30)\n"
            "handler = grpc.unary_unary_rpc_method_handler(lambda r, c: answer.SerializeToString())\n"
            "server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("
            "m.MODEL_SERVICE, {'GetModelStatus': handler})])\n"
            f"server.add_insecure_port('unix:{path}')\nserver.start()\nsys.stdin.read()\nserver.stop(0)\n"
        )
        with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE) as process:
            assert early.wait_until_ready(30).version == 2
            assert process.stdin is not None
            process.stdin.close()


def test_large_messages_pass(client: Client) -> None:
    """10 MB both ways, over gRPC's own limit of 4."""
    array = np.random.default_rng(0).random(2_500_000, np.float32)
    assert client.predict({"x": array}).array.tobytes() == array.tobytes()


def test_unix_sockets_and_schemes(address: str, socket_path: Path) -> None:
    """The same server by each of its addresses."""
    for form in (f"unix:{socket_path}", f"unix://{socket_path}", f"grpc://{address}", address):
        with Client(form, "echo") as client:
            assert client.predict([1.0]).array.tolist() == [1]


def test_one_client_serves_many_threads(client: Client) -> None:
    """Each gets the answer to its own question, from the first call on."""
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda i: client.predict([float(i)]).array.item(), range(200)))
    assert answers == list(range(200))


def test_close_ends_it(address: str) -> None:
    """A closed client says so; closing twice is fine; what is under way is cancelled."""
    client = Client(address, "slow")
    client.metadata()
    ended: list[BaseException] = []

    def ask() -> None:
        try:
            client.predict([1.0])
        except errors.StatusError as error:
            ended.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.3)
    client.close()
    client.close()
    thread.join(10)
    assert [type(error) for error in ended] == [errors.Cancelled]
    with pytest.raises(ValueError, match="this one is closed"):
        client.status()


def test_a_client_survives_a_fork(address: str) -> None:
    """A child forked after the first call asks with a connection of its own, and so does the parent afterwards."""
    script = f"""
import os, sys
from keraship.client import Client
client = Client({address!r}, "echo", timeout=20)
assert client.predict([1.0]).array.item() == 1
children = []
for number in range(3):
    pid = os.fork()
    if pid == 0:
        ok = client.predict([float(number)]).array.item() == number
        client.close()
        os._exit(0 if ok else 1)
    children.append(pid)
codes = [os.waitpid(pid, 0)[1] for pid in children]
assert client.predict([7.0]).array.item() == 7
client.close()
sys.exit(any(codes))
"""
    done = subprocess.run([sys.executable, "-c", script], timeout=60, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_ctrl_c_interrupts_a_call(address: str) -> None:
    """Without waiting for the answer."""
    script = (
        # A shell's background jobs ignore Ctrl-C, and the tests may run in one.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"from keraship.client import Client\nclient = Client({address!r}, 'slow')\nclient.metadata()\n"
        "print('asking', flush=True)\nclient.predict([1.0], timeout=600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.3)
        os.kill(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert "KeyboardInterrupt" in stderr


def test_nobody_there_is_said_in_words() -> None:
    """The address, the reason and what to look at, and the original words in details."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with Client(f"127.0.0.1:{port}", "m") as client, pytest.raises(errors.Unavailable) as caught:
            client.predict([1.0])
    assert str(caught.value).startswith(f"no server answers at 127.0.0.1:{port} (connection refused): is it running")
    assert "failed to connect" in caught.value.details
    assert caught.value.attempts == 5
