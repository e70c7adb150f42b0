"""Requests and their answers, kept as PredictionLogs: to look at, and to warm the next version up with.

DIR/<model>/<version>/requests-<time>-<number>.tfrecord holds at most as many records as a warm-up file may; a file gets
its name once it is whole. A thread of its own writes; when it cannot keep up, records are dropped and counted.
"""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from keraship.serving.backend import Array
from keraship.serving.classify import Classified
from keraship.serving.prediction import Prediction
from keraship.serving.regress import Regressed
from keraship.serving.request_metrics import count_logged
from keraship.serving.tfrecord import record
from keraship.wire import to_tensor
from keraship.wire.messages import METHODS, PREDICTION_SERVICE, PredictionLog

_LOG = logging.getLogger(__name__)

# The field of a PredictionLog, by method.
_FIELDS = {
    f"/{PREDICTION_SERVICE}/Predict": "predict_log",
    f"/{PREDICTION_SERVICE}/Classify": "classify_log",
    f"/{PREDICTION_SERVICE}/Regress": "regress_log",
    f"/{PREDICTION_SERVICE}/MultiInference": "multi_inference_log",
}
_MOST_RECORDS = 1000  # as many as a warm-up file may have
_MOST_BYTES = 64 * 2**20
_WAITING = 100  # requests may be large
_FLUSH_SECONDS = 60.0


@dataclass(frozen=True)
class RequestLogOptions:
    """folder: where; sampling: the share of requests that are kept, from 0 to 1."""

    folder: Path
    sampling: float = 1.0


class RequestLog:
    """Takes requests from any thread and writes them from its own, until `close`."""

    def __init__(self, options: RequestLogOptions) -> None:
        self._options = options
        self._queue: queue.Queue[Callable[[], Any] | None] = queue.Queue(_WAITING)
        self._files: dict[tuple[str, int], _File] = {}
        self._thread = threading.Thread(target=self._work, name="request-log", daemon=True)
        self._thread.start()

    def offer(self, method: str, request: bytes, answer: bytes) -> None:
        """Keep a call over gRPC, perhaps; costs nothing but a place in the queue."""
        if method in _FIELDS and self._is_chosen():
            self._put(lambda: _read(method, request, answer))

    def offer_prediction(self, prediction: Prediction, inputs: Mapping[str, Array]) -> None:
        """Keep a prediction that came over REST, perhaps, as the message that would have asked the same."""
        if self._is_chosen():
            self._put(lambda: _from_prediction(prediction, inputs))

    def offer_examples(self, field: str, answered: Classified | Regressed, examples: Sequence[bytes]) -> None:
        """Keep what was said of examples over REST, perhaps; field: of PredictionLog."""
        if self._is_chosen():
            self._put(lambda: _from_examples(field, answered, examples))

    def close(self) -> None:
        """Write what is waiting."""
        self._queue.put(None)
        self._thread.join()

    def _is_chosen(self) -> bool:
        return random.random() < self._options.sampling  # noqa: S311 - a sample, no secret

    def _put(self, make: Callable[[], Any]) -> None:
        try:
            self._queue.put_nowait(make)
        except queue.Full:
            count_logged("", "RESOURCE_EXHAUSTED")

    def _work(self) -> None:
        while True:
            try:
                make = self._queue.get(timeout=_FLUSH_SECONDS)
            except queue.Empty:
                self._finish()
                continue
            if make is None:
                self._finish()
                return
            self._write(make)

    def _write(self, make: Callable[[], Any]) -> None:
        name = ""
        try:
            log = make()
            spec = log.log_metadata.model_spec
            name, key = spec.name, (spec.name, spec.version.value)
            file = self._files.get(key)
            if file is None:
                file = self._files[key] = _File(self._options.folder / quote(key[0], safe="") / str(key[1]))
            file.add(record(log.SerializeToString()))
            if file.is_full:
                self._files.pop(key).finish()
        except Exception as error:  # the log is no reason for anything else to fail
            _LOG.error("a request could not be logged: %s", error)
            count_logged(name, "INTERNAL")
        else:
            count_logged(name, "OK")

    def _finish(self) -> None:
        for file in self._files.values():
            file.finish()
        self._files.clear()


class _File:
    """A file that is being written, under a hidden name."""

    _numbers = 0

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        _File._numbers += 1
        self._path = folder / f"requests-{time.strftime('%Y%m%d-%H%M%S')}-{_File._numbers:05d}.tfrecord"
        self._part = self._path.with_name(f".{self._path.name}")
        self._file: IO[bytes] = self._part.open("wb")
        self._records = self._bytes = 0

    def add(self, data: bytes) -> None:
        self._file.write(data)
        self._records += 1
        self._bytes += len(data)

    @property
    def is_full(self) -> bool:
        return self._records >= _MOST_RECORDS or self._bytes >= _MOST_BYTES

    def finish(self) -> None:
        self._file.close()
        self._part.rename(self._path)


def _read(method: str, request: bytes, answer: bytes) -> Any:
    log = PredictionLog()
    entry = getattr(log, _FIELDS[method])
    entry.request.MergeFrom(METHODS[method][0].FromString(request))
    entry.response.MergeFrom(METHODS[method][1].FromString(answer))
    spec = entry.response.results[0].model_spec if "multi" in _FIELDS[method] else entry.response.model_spec
    log.log_metadata.model_spec.CopyFrom(spec)
    return log


def _from_prediction(prediction: Prediction, inputs: Mapping[str, Array]) -> Any:
    log, entry = _log_of("predict_log", prediction)
    for arrays, tensors in ((inputs, entry.request.inputs), (prediction.outputs, entry.response.outputs)):
        for name, array in arrays.items():
            to_tensor(array, into=tensors[name])
    return log


def _from_examples(field: str, answered: Classified | Regressed, examples: Sequence[bytes]) -> Any:
    log, entry = _log_of(field, answered)
    for example in examples:
        entry.request.input.example_list.examples.add().ParseFromString(example)
    return log


def _log_of(field: str, answered: Prediction | Classified | Regressed) -> tuple[Any, Any]:
    """A log whose request and answer name who answered, and the field of it that holds both."""
    log = PredictionLog()
    entry = getattr(log, field)
    for message in (entry.request.model_spec, entry.response.model_spec, log.log_metadata.model_spec):
        message.name, message.signature_name = answered.model, answered.signature_name
        message.version.value = answered.version
    return log, entry
