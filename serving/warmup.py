"""A version's warm-up file: recorded requests that are run before anybody else's.

assets.extra/tf_serving_warmup_requests holds PredictionLogs as TFRecords; the names and versions of models in them do
not count. Any error is an error of the load. (tensorflow_serving/servables/tensorflow/saved_model_warmup_util.cc)
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from keraship import bundle
from keraship.errors import DataLoss, InvalidArgument, Unimplemented
from keraship.serving.prediction import PredictCall, predict
from keraship.serving.servable import Servable
from keraship.serving.tfrecord import read_records
from keraship.wire import to_array
from keraship.wire.messages import PredictionLog

_LOG = logging.getLogger(__name__)

_MAX_RECORDS = 1000
_LATER = ("classify_log", "regress_log", "multi_inference_log")


@dataclass(frozen=True)
class WarmupOptions:
    """enabled: whether the file is looked at. iterations: how often each record is run; 0 is once."""

    enabled: bool = True
    iterations: int = 0


def warm_up(servable: Servable, version_dir: Path, options: WarmupOptions) -> None:
    """Run the recorded requests on a version that nobody can ask yet; raises StatusError where one fails."""
    path = version_dir / bundle.WARMUP
    if not options.enabled or not path.is_file():
        return
    skipped = 0
    for log in _read(path):
        kind = log.WhichOneof("log_type")
        if kind == "predict_log":
            for _ in range(max(options.iterations, 1)):
                _run(servable, log.predict_log.request)
        elif kind in _LATER:
            skipped += 1
        else:
            _refuse_unknown(log)
    if skipped:
        _LOG.warning("%d warm-up records in %s are no predict_log and were not run", skipped, path)


def _read(path: Path) -> Iterator[Any]:
    records = read_records(path)
    count = 0
    while (record := _next(records)) is not None:
        count += 1
        if count > _MAX_RECORDS:
            raise InvalidArgument(f"Number of warmup records exceeds the maximum ({_MAX_RECORDS}) at {path}")
        try:
            yield PredictionLog.FromString(record)
        except DecodeError as error:
            raise InvalidArgument(f"Failed to parse warmup record: {record[:64]!r} from {path}") from error


def _next(records: Iterator[bytes]) -> bytes | None:
    try:
        return next(records, None)
    except DataLoss as error:
        raise DataLoss(f"{error}. Please verify your warmup data is in TFRecord format.") from error


def _run(servable: Servable, request: Any) -> None:
    predict(
        servable,
        PredictCall(
            inputs=request.inputs,
            read=to_array,
            signature_name=request.model_spec.signature_name,
            output_names=tuple(request.output_filter),
        ),
    )


def _refuse_unknown(log: Any) -> None:
    """Kinds of requests that cannot be warmed up with arrive as fields we do not know; a log without any is fine."""
    fields = UnknownFieldSet(log)
    if len(fields):
        raise Unimplemented(f"Unsupported log_type for warmup: {fields[0].field_number}")
