"""OpenVINO's client for TensorFlow Serving's API, unmodified, against `keraship serve`: `make test-ovmsclient`.

ovmsclient brings generated messages of its own and pins what it stands on, so it lives in an environment of its own,
made from PyPI. Over both transports it is asked for every dtype that it knows, for status, metadata and errors. A
version is named each time: where none is, it asks for version 0, which TensorFlow Serving looks for and only OpenVINO's
server takes for the newest.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.conformance.models import FLAGS, make_config, make_models  # noqa: E402 - after the path is set
from tests.conformance.process import KERASHIP, ServerProcess  # noqa: E402

REQUIREMENTS = ("ovmsclient==2023.1", "numpy==1.26.*", "setuptools<81")  # it was made for numpy 1 and pkg_resources

PROGRAM = """
import sys
import numpy as np
from ovmsclient import InvalidInputError, ModelNotFoundError, make_grpc_client, make_http_client

grpc, http = make_grpc_client(sys.argv[1]), make_http_client(sys.argv[2])
LIMITED = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
NAMES = {"float32": "float", "float64": "double", "float16": "half"}

def sample(dtype):
    if dtype in LIMITED:
        return np.array([np.iinfo(dtype).min, np.iinfo(dtype).max], dtype)
    return np.array([0, 1.5], dtype) if dtype.startswith("float") else np.array([True, False])

for dtype in (*LIMITED, *NAMES, "bool"):
    model = "identity_" + NAMES.get(dtype, dtype)
    answer = grpc.predict({"x": sample(dtype)}, model, 1)
    assert (answer.dtype, answer.tolist()) == (sample(dtype).dtype, sample(dtype).tolist()), (dtype, answer)
    if dtype not in ("uint16", "float16"):  # JSON has none of these
        expected = np.array(sample(dtype).tolist())  # it keeps no dtype: [0, 2**64 - 1] is doubles to numpy 1
        assert http.predict({"x": sample(dtype)}, model, 1).tolist() == expected.tolist(), dtype
assert list(grpc.predict({"x": [b"ab", b"c"]}, "identity_string", 1)) == [b"ab", b"c"]
assert http.predict({"x": [b"ab", b"c"]}, "identity_string", 1).tolist() == ["ab", "c"]

inputs = {"a": np.float32([1.5]), "b": np.int32([2])}
for client in (grpc, http):
    answer = client.predict(inputs, "two_inputs", 1)
    assert (answer["total"].tolist(), answer["pairs"].tolist()) == ([3.5], [[2, 2]]), answer
    assert client.predict({"x": np.float32([0])}, "versions", 2).tolist() == [2.0]
    status = client.get_model_status("versions", 3)
    assert status == {3: {"state": "AVAILABLE", "error_code": 0, "error_message": ""}}, status
    assert client.get_model_metadata("linear", 1)
    for ask in (
        lambda: client.predict({"x": np.float32([1])}, "no", 1),
        lambda: client.predict({"x": np.float32([1])}, "half_plus_two", 9),
        lambda: client.get_model_status("no", 1),
        lambda: client.get_model_metadata("no", 1),
    ):
        try:
            ask()
        except ModelNotFoundError:
            continue
        raise SystemExit("a model that is not there was found")
    try:
        client.predict({"z": np.float32([1])}, "half_plus_two", 123)
    except InvalidInputError as error:
        assert "z" in str(error) or "x" in str(error), error
    else:
        raise SystemExit("a wrong input was taken")
metadata = grpc.get_model_metadata("linear", 1)
assert metadata["inputs"] == {"x": {"shape": [-1, 2], "dtype": "DT_FLOAT"}}, metadata
assert metadata["model_version"] == 1
print("ovmsclient", __import__("importlib.metadata").metadata.version("ovmsclient"))
"""


def main() -> None:
    """Make the environment, start the server, ask it; exit status 1 where that fails."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        python = folder / "env" / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True)
        make_models(folder / "models", "onnx")
        (folder / "models.config").write_text(make_config(folder / "models"))
        process = ServerProcess(KERASHIP, [f"--model_config_file={folder / 'models.config'}", *FLAGS])
        try:
            process.wait_until_ready()
            addresses = [f"127.0.0.1:{port}" for port in (process.port, process.rest_port)]
            done = subprocess.run([python, "-c", PROGRAM, *addresses], cwd=folder, check=False)
        finally:
            process.end()
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
