"""Warm-up requests: what a server asks a model right after loading it, so that the first caller needn't wait.

Source: TensorFlow Serving's SavedModel warmup; a TFRecord file of PredictionLog messages.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from keraship import bundle
from keraship.errors import BundleError
from keraship.signature import DEFAULT_SIGNATURE, Signature

Arrays = dict[str, np.ndarray[Any, Any]]


def write_warmup(folder: Path, name: str, signature: Signature, batches: list[Arrays]) -> None:
    """Write one predict request per batch into the version in `folder`.

    name: the model's. batches: arrays by input name, of the signature's dtypes. Raises BundleError where they cannot
    be written.
    """
    path = folder / bundle.WARMUP
    path.parent.mkdir(exist_ok=True)
    try:
        with tf.io.TFRecordWriter(str(path)) as writer:
            for arrays in batches:
                writer.write(_log(name, signature, arrays).SerializeToString(deterministic=True))
    except tf.errors.OpError as error:
        raise BundleError(f"cannot write the warm-up requests: {error.message}") from error


def _log(name: str, signature: Signature, arrays: Arrays) -> Any:
    log = prediction_log_pb2.PredictionLog()
    request = log.predict_log.request
    request.model_spec.name = name
    request.model_spec.signature_name = DEFAULT_SIGNATURE
    for spec in signature.inputs:
        request.inputs[spec.name].CopyFrom(tf.make_tensor_proto(arrays[spec.name], spec.dtype))
    return log
