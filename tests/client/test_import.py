"""What `import keraship.client` costs, and what it offers."""

from __future__ import annotations

import subprocess
import sys

import keraship.client

HEAVY = ("rich", "click", "tensorflow", "onnxruntime", "msgspec", "keras", "flask", "sklearn", "pandas", "ml_dtypes")


def test_the_import_loads_nothing_heavy() -> None:
    """Only numpy, protobuf and grpcio, in a process of its own."""
    script = f"import sys, keraship.client; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_the_command_loads_no_runtime() -> None:
    """`keraship predict --help` answers at once."""
    script = (
        "import sys, keraship.client.command; "
        f"print([m for m in {HEAVY} if m in sys.modules and m not in ('click', 'rich')])"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_tensorflow_may_be_imported_after_us() -> None:
    """With its own messages of the same names; the tests of the wire import it before us, in one process."""
    script = """
import numpy as np
from keraship.client import messages
from keraship.client.results import Target
call = messages.predict_call(Target("m"), {"x": np.float32([1, 2])}, signature_name="s")
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
request = predict_pb2.PredictRequest.FromString(call.body)
assert tf.make_ndarray(request.inputs["x"]).tolist() == [1, 2]
response = predict_pb2.PredictResponse(outputs=request.inputs)
assert messages.read_prediction(response.SerializeToString()).array.tolist() == [1, 2]
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_public_names_are_these() -> None:
    """What is added or removed here, users notice."""
    errors = {
        "Aborted", "AlreadyExists", "Cancelled", "DataLoss", "DeadlineExceeded", "FailedPrecondition", "Internal",
        "InvalidArgument", "InvalidInput", "KerashipError", "NotFound", "OutOfRange", "PermissionDenied",
        "ResourceExhausted", "StatusError", "Unauthenticated", "Unavailable", "Unimplemented", "Unknown",
    }  # fmt: skip
    own = {
        "AsyncClient", "Class", "Classification", "Client", "Metadata", "ModelConfig", "ModelSpec", "NO_RETRY",
        "Prediction", "Regression", "Retry", "Tls", "VersionStatus",
    }  # fmt: skip
    assert set(keraship.client.__all__) == errors | own
    assert all(hasattr(keraship.client, name) for name in keraship.client.__all__)
