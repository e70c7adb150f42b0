"""TensorFlow Serving's message classes, made from the shipped descriptor set.

They live in a private descriptor pool under TensorFlow's own names: the bytes, the text format and the JSON are the
same as TensorFlow's, no generated code ties them to one protobuf release, and TensorFlow may be imported beside them.
They are Any to type checkers: the classes are made at run time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_POOL = descriptor_pool.DescriptorPool()
_DESCRIPTORS = descriptor_pb2.FileDescriptorSet.FromString(
    Path(__file__).with_name("descriptors.binpb").read_bytes()  # importlib.resources costs more to import than this
)
for _file in _DESCRIPTORS.file:
    _POOL.Add(_file)


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(name))


TensorProto = _message("tensorflow.TensorProto")
TensorShapeProto = _message("tensorflow.TensorShapeProto")
TensorInfo = _message("tensorflow.TensorInfo")
SignatureDef = _message("tensorflow.SignatureDef")
Example = _message("tensorflow.Example")

ModelSpec = _message("tensorflow.serving.ModelSpec")
PredictRequest = _message("tensorflow.serving.PredictRequest")
PredictResponse = _message("tensorflow.serving.PredictResponse")
ClassificationRequest = _message("tensorflow.serving.ClassificationRequest")
ClassificationResponse = _message("tensorflow.serving.ClassificationResponse")
RegressionRequest = _message("tensorflow.serving.RegressionRequest")
RegressionResponse = _message("tensorflow.serving.RegressionResponse")
MultiInferenceRequest = _message("tensorflow.serving.MultiInferenceRequest")
MultiInferenceResponse = _message("tensorflow.serving.MultiInferenceResponse")
GetModelMetadataRequest = _message("tensorflow.serving.GetModelMetadataRequest")
GetModelMetadataResponse = _message("tensorflow.serving.GetModelMetadataResponse")
SignatureDefMap = _message("tensorflow.serving.SignatureDefMap")
GetModelStatusRequest = _message("tensorflow.serving.GetModelStatusRequest")
GetModelStatusResponse = _message("tensorflow.serving.GetModelStatusResponse")
ModelVersionStatus = _message("tensorflow.serving.ModelVersionStatus")
ModelServerConfig = _message("tensorflow.serving.ModelServerConfig")
MonitoringConfig = _message("tensorflow.serving.MonitoringConfig")
SSLConfig = _message("tensorflow.serving.SSLConfig")
BatchingParameters = _message("tensorflow.serving.BatchingParameters")
ReloadConfigRequest = _message("tensorflow.serving.ReloadConfigRequest")
ReloadConfigResponse = _message("tensorflow.serving.ReloadConfigResponse")
PredictionLog = _message("tensorflow.serving.PredictionLog")

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
METHODS: dict[str, tuple[Any, Any]] = {
    f"/{PREDICTION_SERVICE}/Predict": (PredictRequest, PredictResponse),
    f"/{PREDICTION_SERVICE}/Classify": (ClassificationRequest, ClassificationResponse),
    f"/{PREDICTION_SERVICE}/Regress": (RegressionRequest, RegressionResponse),
    f"/{PREDICTION_SERVICE}/MultiInference": (MultiInferenceRequest, MultiInferenceResponse),
    f"/{PREDICTION_SERVICE}/GetModelMetadata": (GetModelMetadataRequest, GetModelMetadataResponse),
    f"/{MODEL_SERVICE}/GetModelStatus": (GetModelStatusRequest, GetModelStatusResponse),
    f"/{MODEL_SERVICE}/HandleReloadConfigRequest": (ReloadConfigRequest, ReloadConfigResponse),
}
"""Every gRPC method by its path: the request's and the response's class."""
