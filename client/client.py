"""The client for threads: performs the core's steps by waiting for each."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal

from keraship.client.connect import connect
from keraship.client.many import Predictions, predict_many
from keraship.client.options import Compression, Headers, Retry, Tls
from keraship.client.results import (
    Classification,
    Metadata,
    ModelConfig,
    Prediction,
    Regression,
    VersionStatus,
)
from keraship.client.steps import Attempt, Race, Result, Steps
from keraship.errors import StatusError
from keraship.signature import DEFAULT_SIGNATURE


class Client:
    """Connections to one server or several, for any number of calls, models and threads.

    address: `host:port`, `grpc://host:port`, `grpcs://host:port` (with TLS) or `unix:/path/of/socket` for gRPC;
    `http://host:port` or `https://host:port` for REST. Several servers of the same models, in a list or with commas,
    are asked in turn; one that fails is left alone for a while.
    model_name: the model that calls ask which name none themselves.
    timeout: seconds that a call may take in all, checking and every attempt included; math.inf for no limit.
    retry: when a call that failed is sent again.
    hedge: seconds after which a call that is not answered is sent to another server too; the first answer counts.
    tls: True, or a Tls with its files, for encrypted connections.
    headers: sent with every call, for instance {"authorization": "Bearer ..."}; or a function that gives them.
    compression: "gzip" or "deflate" for requests; worth it on slow networks only (50 ms for 600 KB of floats).
    interceptors: gRPC's own, grpc.UnaryUnaryClientInterceptor.
    tracer: an OpenTelemetry tracer, or True for the one that is set up, for a span a call.

    Share one client: it keeps its connections open, is safe to use from several threads, and opens connections of its
    own in each process that is forked. Raises ValueError for an address that is none.

    >>> with Client("localhost:8500", "digits") as client:  # doctest: +SKIP
    ...     scores = client.predict({"images": batch}).array
    """

    def __init__(
        self,
        address: str | Sequence[str],
        model_name: str | None = None,
        *,
        timeout: float = 60.0,
        retry: Retry = Retry(),  # noqa: B008  # it is frozen
        hedge: float | None = None,
        tls: Tls | bool | None = None,
        headers: Headers | None = None,
        compression: Compression | None = None,
        interceptors: Sequence[Any] = (),
        tracer: Any = None,
    ) -> None:
        parts = connect(
            address,
            model_name,
            asynchronous=False,
            timeout=timeout,
            retry=retry,
            hedge=hedge,
            tls=tls,
            headers=headers,
            compression=compression,
            interceptors=interceptors,
            tracer=tracer,
        )
        self._core, self._transport = parts.core, parts.transport
        self.address = self._core.address

    def predict(
        self,
        inputs: Mapping[str, Any] | Any,
        *,
        model_name: str | None = None,
        version: int | None = None,
        version_label: str | None = None,
        signature_name: str = DEFAULT_SIGNATURE,
        output_filter: Sequence[str] = (),
        timeout: float | None = None,
        check: bool = True,
        copy: bool = False,
    ) -> Prediction:
        """The model's answer to `inputs`.

        inputs: input name -> array, or anything that numpy makes one of; a single array for a model of one input; a
        pandas DataFrame, whose columns are the inputs (or, for a model of one input, its columns).
        They are checked against the model's signature before they are sent, and cast where no value can change.
        version, version_label: not both; without either the latest version answers.
        output_filter: the names of the outputs that are wanted; all without it.
        timeout: seconds in all, where it is to differ from the client's.
        check: False sends the arrays as they are, for the server to judge.
        copy: True gives arrays that can be written to, instead of read-only ones that share the answer's memory.

        Raises InvalidInput for inputs that do not fit, which are not sent; another StatusError for how the call
        ended: NotFound, Unavailable, DeadlineExceeded ...; ValueError for arguments that contradict each other.
        """
        core = self._core
        return self._run(
            core.predict(
                inputs,
                target=core.target(model_name, version, version_label),
                signature_name=signature_name,
                output_filter=output_filter,
                clock=core.clock(timeout),
                check=check,
                copy=copy,
            )
        )

    def predict_many(
        self,
        inputs: Mapping[str, Any] | Iterable[Any],
        *,
        batch_size: int | None = None,
        in_flight: int = 4,
        errors: Literal["raise", "return"] = "raise",
        progress: bool = False,
        model_name: str | None = None,
        version: int | None = None,
        version_label: str | None = None,
        signature_name: str = DEFAULT_SIGNATURE,
        output_filter: Sequence[str] = (),
        timeout: float | None = None,
        check: bool = True,
        copy: bool = False,
    ) -> Predictions:
        """The answers to many inputs, in their order, `in_flight` requests at a time.

        inputs: either arrays by name (one array, a DataFrame) with any number of rows, which are cut into requests of
        batch_size rows (256 without it): each gives a Prediction, and `.join()` puts them together. Or an iterator,
        which may be endless: without batch_size each item is the inputs of one request; with it each item is one row
        (its arrays have no batch axis), batch_size of them go into a request, and each gives its own Prediction.
        errors: "return" gives a StatusError in the place of an answer that failed, instead of raising the first.
        progress: True shows a bar on stderr. timeout: seconds for each request; the others are as for predict.

        No more than in_flight requests, and as many answers, are held at a time. What came before an error or Ctrl-C is
        kept in `.received` where `.join()` collected it.
        """
        options: dict[str, Any] = {
            "model_name": model_name,
            "version": version,
            "version_label": version_label,
            "signature_name": signature_name,
            "output_filter": output_filter,
            "timeout": timeout,
            "check": check,
            "copy": copy,
        }
        return predict_many(
            lambda batch: self.predict(batch, **options),
            inputs,
            batch_size=batch_size,
            in_flight=in_flight,
            errors=errors,
            progress=progress,
        )

    def classify(
        self,
        examples: Any,
        *,
        context: Mapping[str, Any] | None = None,
        model_name: str | None = None,
        version: int | None = None,
        version_label: str | None = None,
        signature_name: str = DEFAULT_SIGNATURE,
        timeout: float | None = None,
    ) -> Classification:
        """The classes of each example, with their scores, from a signature for classification.

        examples: a list of features by name, each a number, a text, bytes, or a flat list of them; or columns by name,
        or a pandas DataFrame. context: features that all examples have. Raises as predict does.
        """
        core = self._core
        return self._run(
            core.classify(
                examples,
                target=core.target(model_name, version, version_label),
                context=context,
                signature_name=signature_name,
                clock=core.clock(timeout),
            )
        )

    def regress(
        self,
        examples: Any,
        *,
        context: Mapping[str, Any] | None = None,
        model_name: str | None = None,
        version: int | None = None,
        version_label: str | None = None,
        signature_name: str = DEFAULT_SIGNATURE,
        timeout: float | None = None,
    ) -> Regression:
        """A value for each example, from a signature for regression; the arguments are classify's."""
        core = self._core
        return self._run(
            core.regress(
                examples,
                target=core.target(model_name, version, version_label),
                context=context,
                signature_name=signature_name,
                clock=core.clock(timeout),
            )
        )

    def multi_inference(
        self,
        examples: Any,
        *,
        tasks: Mapping[str, str],
        context: Mapping[str, Any] | None = None,
        model_name: str | None = None,
        version: int | None = None,
        version_label: str | None = None,
        timeout: float | None = None,
    ) -> dict[str, Classification | Regression]:
        """What several signatures of one model say of the same examples, by signature name.

        tasks: signature name -> "classify" or "regress". The rest is as for classify. Over gRPC only.
        """
        core = self._core
        return self._run(
            core.multi_inference(
                examples,
                tasks=tasks,
                target=core.target(model_name, version, version_label),
                context=context,
                clock=core.clock(timeout),
            )
        )

    def metadata(
        self,
        *,
        model_name: str | None = None,
        version: int | None = None,
        version_label: str | None = None,
        timeout: float | None = None,
    ) -> Metadata:
        """The model's signatures, and the version that they are of, asked anew; raises StatusError."""
        core = self._core
        return self._run(
            core.metadata(target=core.target(model_name, version, version_label), clock=core.clock(timeout))
        )

    def status(
        self, *, model_name: str | None = None, version: int | None = None, timeout: float | None = None
    ) -> tuple[VersionStatus, ...]:
        """How far the model's versions are, or the one `version`; raises NotFound where the server has none."""
        core = self._core
        return self._run(core.status(target=core.target(model_name, version), clock=core.clock(timeout)))

    def reload_config(self, models: Mapping[str, str] | Sequence[ModelConfig], *, timeout: float | None = None) -> None:
        """Make every server serve these models and no others, and wait until the new ones are there.

        models: name -> base path, or ModelConfigs. Over gRPC only. Raises the StatusError of the first that refuses.
        """
        self._run(self._core.reload_config(models, clock=self._core.clock(timeout)))

    def wait_until_ready(
        self, timeout: float | None = None, *, model_name: str | None = None, version: int | None = None
    ) -> VersionStatus:
        """Wait until a version of the model, or the one `version`, is AVAILABLE; returns the highest that is.

        The server may still have to start. Raises DeadlineExceeded after `timeout` seconds, with the last answer.
        """
        core = self._core
        return self._run(core.wait_until_ready(target=core.target(model_name, version), clock=core.clock(timeout)))

    def close(self) -> None:
        """Close the connections; the client cannot be used again, and what it was asked elsewhere ends as Cancelled."""
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, steps: Steps[Result]) -> Result:
        """Perform steps until they have their result."""
        try:
            step = next(steps)
            while True:
                try:
                    outcome = self._perform(step)
                except StatusError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(outcome)
        except StopIteration as done:
            result: Result = done.value
            return result

    def _perform(self, step: Any) -> bytes | None:
        if isinstance(step, Attempt):
            answer: bytes = self._transport.send(step)
            return answer
        if isinstance(step, Race):
            first: bytes = self._transport.race(step)
            return first
        time.sleep(step.seconds)
        return None
