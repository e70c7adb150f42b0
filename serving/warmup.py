"""A version's warm-up file: recorded requests that are run before anybody else's.

assets.extra/tf_serving_warmup_requests holds PredictionLogs as TFRecords; the names and versions of models in them do
not count. Any error is an error of the load. (tensorflow_serving/servables/tensorflow/saved_model_warmup_util.cc)
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from keraship import bundle
from keraship.errors import DataLoss, InvalidArgument, StatusError, Unimplemented
from keraship.serving.classify import classify
from keraship.serving.examples import ExamplesCall, read_input
from keraship.serving.multi_inference import MultiInferenceCall, multi_inference, read_tasks
from keraship.serving.prediction import PredictCall, predict
from keraship.serving.regress import regress
from keraship.serving.request_metrics import count_warm_up
from keraship.serving.servable import Servable
from keraship.serving.tfrecord import read_records
from keraship.wire import to_array
from keraship.wire.messages import PredictionLog

_LOG = logging.getLogger(__name__)

_MAX_RECORDS = 1000
_SHOWN = 256  # of a record that is none, in the error


@dataclass(frozen=True)
class WarmupOptions:
    """enabled: whether the file is looked at. iterations: how often each record is run; 0 is once.

    check_method: as for the requests of callers.
    """

    enabled: bool = True
    iterations: int = 0
    check_method: bool = False


def warm_up(servable: Servable, version_dir: Path, options: WarmupOptions) -> None:
    """Run the recorded requests on a version that nobody can ask yet; raises StatusError where one fails."""
    path = version_dir / bundle.WARMUP
    if not options.enabled or not path.is_file():
        return
    _LOG.info("Starting to read warmup data for model at %s", path)
    begin, count = time.monotonic(), 0
    status = "OK"
    try:
        for log in _read(path):
            count += 1
            _run(servable, log, options)
    except StatusError as error:
        status = error.code
        raise
    finally:
        count_warm_up(str(version_dir), status, seconds=time.monotonic() - begin, records=count)
    _LOG.info(
        "Finished reading warmup data for model at %s. Number of warmup records read: %d. "
        "Elapsed time (microseconds): %d.",
        path,
        count,
        (time.monotonic() - begin) * 1e6,
    )


def _run(servable: Servable, log: Any, options: WarmupOptions) -> None:
    kind = log.WhichOneof("log_type")
    if kind is None:
        _refuse_unknown(log)
        return
    for _ in range(max(options.iterations, 1)):
        _RUN[kind](servable, getattr(log, kind).request, options.check_method)


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
            shown = record[:_SHOWN].decode("utf-8", "replace")
            raise InvalidArgument(f"Failed to parse warmup record: {shown} from {path}") from error


def _next(records: Iterator[bytes]) -> bytes | None:
    try:
        return next(records, None)
    except DataLoss as error:
        raise DataLoss(f"{error}. Please verify your warmup data is in TFRecord format.") from error


def _predict(servable: Servable, request: Any, check_method: bool) -> None:
    predict(
        servable,
        PredictCall(
            inputs=request.inputs,
            read=to_array,
            signature_name=request.model_spec.signature_name,
            output_names=tuple(request.output_filter),
            check_method=check_method,
        ),
    )


def _examples(request: Any, check_method: bool) -> ExamplesCall:
    return ExamplesCall(read_input(request.input), request.model_spec.signature_name, check_method=check_method)


def _classify(servable: Servable, request: Any, check_method: bool) -> None:
    classify(servable, _examples(request, check_method))


def _regress(servable: Servable, request: Any, check_method: bool) -> None:
    regress(servable, _examples(request, check_method))


def _multi_inference(servable: Servable, request: Any, check_method: bool) -> None:
    call = MultiInferenceCall(read_tasks(request), read_input(request.input), check_method=check_method)
    multi_inference(servable, call)


_RUN: dict[str, Callable[[Servable, Any, bool], None]] = {
    "predict_log": _predict,
    "classify_log": _classify,
    "regress_log": _regress,
    "multi_inference_log": _multi_inference,
}


def _refuse_unknown(log: Any) -> None:
    """Kinds of requests that cannot be warmed up with arrive as fields we do not know; a log without any is fine."""
    fields = UnknownFieldSet(log)
    if len(fields):
        raise Unimplemented(f"Unsupported log_type for warmup: {fields[0].field_number}")
