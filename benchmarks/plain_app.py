"""What anybody writes first: Flask, json and waitress before ONNX Runtime: `plain_app.py PORT NAME=FILE ...`."""

from __future__ import annotations

import json
import sys

import numpy as np
import onnxruntime as ort
from flask import Flask, Response, request
from waitress import serve

SETTINGS = ort.SessionOptions()
SETTINGS.intra_op_num_threads = 1
SESSIONS = {
    name: ort.InferenceSession(file, SETTINGS, providers=["CPUExecutionProvider"])
    for name, _, file in (arg.partition("=") for arg in sys.argv[2:])
}

app = Flask(__name__)


@app.post("/v1/models/<name>:predict")
def predict(name: str) -> Response:
    session = SESSIONS[name]
    instances = np.array(json.loads(request.data)["instances"], np.float32)
    (predictions,) = session.run(None, {session.get_inputs()[0].name: instances})
    return Response(json.dumps({"predictions": predictions.tolist()}), mimetype="application/json")


if __name__ == "__main__":
    serve(app, host="127.0.0.1", port=int(sys.argv[1]), threads=8)
