"""The client on the oldest and the newest of what it stands on, each in its own environment: `make test-versions`.

Each environment has this checkout and nothing else but numpy, grpcio, protobuf and the small packages that the client
needs; in it a fake server is asked over gRPC, by both clients, for every dtype, in every call. Where a second Python is
not installed, it is left out, and said so. With versions of Python as arguments, those alone.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# Python, grpcio, protobuf, numpy, in wheels that go together; the oldest grpcio and protobuf are the oldest allowed.
VERSIONS = (
    ("3.10", "1.60.*", "4.25.*", "1.26.*"),
    ("3.11", "1.62.*", "5.29.*", "1.26.*"),
    ("3.12", "1.66.*", "6.33.*", "2.0.*"),
    ("3.13", "1.70.*", "6.30.*", "2.2.*"),
    ("3.13", "1.85.*", "7.*", "2.*"),
)

PROGRAM = """
import asyncio, sys
import google.protobuf, grpc, numpy as np
from keraship import dtypes
from keraship.client import AsyncClient, Client, InvalidInput, NotFound
from keraship.client.testing import FakeModel, FakeServer
from keraship.signature import Signature, TensorSpec

def sample(dtype):
    if dtype is dtypes.STRING:
        return np.array([[b"a", b""]], object)
    return np.array([[0, 1]]).astype(dtype.numpy)

models = {
    dtype.name: FakeModel(
        lambda inputs: {"y": inputs["x"]},
        classify=lambda example: {"n": example["n"][0]},
        regress=lambda example: 1.5,
        signatures={
            "serving_default": Signature(
                (TensorSpec("x", dtype.name, (None, 2)),), (TensorSpec("y", dtype.name, None),)
            )
        },
    )
    for dtype in dtypes.DTYPES
}

async def ask_asynchronously(address):
    async with AsyncClient(address, "float32", timeout=20) as client:
        answers = await asyncio.gather(*(client.predict([[i, i]]) for i in range(20)))
        assert [answer.array[0, 0] for answer in answers] == list(range(20))
        await client.metadata()

with FakeServer(models) as server, Client(server.address, "float32", timeout=20) as client:
    for dtype in dtypes.DTYPES:
        if dtype.storage and dtype is not dtypes.STRING:
            continue
        answer = client.predict({"x": sample(dtype)}, model_name=dtype.name)
        assert (answer.array.dtype, answer.array.tolist()) == (sample(dtype).dtype, sample(dtype).tolist()), dtype
    assert client.classify([{"n": 3}])[0][0].score == 3
    assert client.regress([{"n": 3}]).array.tolist() == [1.5]
    assert len(client.multi_inference([{"n": 3}], tasks={"a": "classify", "b": "regress"})) == 2
    assert client.status()[0].state == client.wait_until_ready(5).state == "AVAILABLE"
    client.reload_config({"a": "/a"})
    assert client.predict_many(np.zeros((1000, 2), np.float32), batch_size=100).join().array.shape == (1000, 2)
    for wrong, error in (
        (lambda: client.predict({"z": 1}), InvalidInput),
        (lambda: client.status(model_name="no"), NotFound),
    ):
        try:
            wrong()
        except error:
            continue
        raise SystemExit("no error")
    asyncio.run(ask_asynchronously(server.address))
assert not {"tensorflow", "onnxruntime", "flask", "pandas"} & set(sys.modules)
print("Python", sys.version.split()[0], "grpcio", grpc.__version__, "protobuf", google.protobuf.__version__)
"""


def main() -> None:
    """Try each; exit status 1 where one fails."""
    failed = 0
    for python, grpcio, protobuf, numpy in VERSIONS:
        if sys.argv[1:] and python not in sys.argv[1:]:
            continue
        found = _find(python)
        if found is None:
            print(f"left out: Python {python} is not installed")
            continue
        with tempfile.TemporaryDirectory() as folder:
            done = _try(found, Path(folder), [f"grpcio=={grpcio}", f"protobuf=={protobuf}", f"numpy=={numpy}"])
        print(
            f"{'ok' if done.returncode == 0 else 'FAILED'}: {done.stdout.strip() or done.stderr.strip()[-2000:]}",
            flush=True,
        )
        failed += done.returncode != 0
    sys.exit(1 if failed else 0)


def _find(version: str) -> str | None:
    """An interpreter: from the path, or one that pyenv has."""
    own = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    for python in (shutil.which(f"python{version}"), *map(str, own)):
        if python and subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0:
            return python
    return None


def _try(python: str, folder: Path, requirements: list[str]) -> subprocess.CompletedProcess[str]:
    environment = folder / "env"
    for command in (
        [python, "-m", "venv", str(environment)],
        [str(environment / "bin/python"), "-m", "pip", "install", "--quiet", "--only-binary=:all:", *requirements,
         "ml_dtypes", "msgspec", "click", "rich"],
        [str(environment / "bin/python"), "-m", "pip", "install", "--quiet", "--no-deps", str(ROOT)],
        [str(environment / "bin/python"), "-W", "error::UserWarning", "-c", PROGRAM],
    ):  # fmt: skip
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            break
    return done


if __name__ == "__main__":
    main()
