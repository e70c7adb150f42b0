"""Everything that a client does but the waiting: checks, messages, retries, several servers, each operation as steps.

Client and AsyncClient are thin shells over this; `language` (messages or rest_messages) is how the servers speak.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import ModuleType
from typing import Any, NamedTuple

from keraship.client import messages
from keraship.client.address import Address
from keraship.client.examples import Features, read_example, read_examples
from keraship.client.inputs import fit
from keraship.client.options import Retry, checked_timeout
from keraship.client.results import (
    Classification,
    Metadata,
    ModelConfig,
    Prediction,
    Regression,
    Target,
    VersionStatus,
)
from keraship.client.steps import Attempt, Balancer, Call, Clock, Pause, Race, Steps
from keraship.client.tracing import NO_SPAN, Tracing
from keraship.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    InvalidInput,
    NotFound,
    StatusError,
    Unavailable,
    Unimplemented,
)
from keraship.signature import Signature
from keraship.wire.write import Template

_LOG = logging.getLogger("keraship.client")

_OUTDATED = (InvalidArgument, FailedPrecondition, NotFound)  # how a server answers what fits another version
_POLL_SECONDS = 5.0
_PAUSE_SECONDS = (0.05, 1.0)
_SILENT_VERSIONS_SECONDS = 30.0  # how long signatures are believed of a server whose answers do not tell the version


class _Known(NamedTuple):
    """What is known of a model.

    metadata: None where the server has no GetModelMetadata. fresh: how long it is believed of a server whose answers
    do not tell the version. templates: of the last request for each signature and output filter.
    """

    metadata: Metadata | None
    fresh: Clock
    templates: dict[tuple[str, ...], Template]


class Core:
    """The operations of one client, of `language`, on `addresses`."""

    def __init__(
        self,
        addresses: Sequence[Address],
        *,
        language: ModuleType,
        model_name: str | None,
        timeout: float,
        retry: Retry,
        hedge: float | None,
        tracing: Tracing | None,
    ) -> None:
        self.addresses = tuple(addresses)
        self._language: Any = language
        self._model_name = model_name
        self._timeout = checked_timeout(timeout)
        self._retry = retry
        self._hedge = hedge
        self._tracing = tracing
        self._balancer = Balancer(len(self.addresses))
        self._known: dict[Target, _Known] = {}

    # The operations. Each says what it asks and what it makes of the answer.

    def predict(
        self,
        inputs: Any,
        *,
        target: Target,
        signature_name: str,
        output_filter: Sequence[str],
        clock: Clock,
        check: bool,
        copy: bool,
    ) -> Steps[Prediction]:
        if isinstance(output_filter, str):
            raise ValueError(f"expected output_filter to be a list of names; got the text {output_filter!r}")
        signature = None
        call = self._again(inputs, target, (signature_name, *output_filter)) if check else None
        if call is None:
            fitted = self._fit_known(inputs, target, signature_name, check=check)
            if fitted is None:
                fitted = yield from self._fit(inputs, target, signature_name, clock, check=check)
            arrays, signature = fitted
            specs = signature.inputs if signature and check else ()
            call = self._language.predict_call(
                target, arrays, signature_name=signature_name, output_filter=output_filter, specs=specs
            )
            if check and signature is not None:
                self._remember(inputs, arrays, target, (signature_name, *output_filter), call)
        try:
            answer: bytes = yield from self._send(call, clock)
        except _OUTDATED:
            self._known.pop(target, None)
            raise
        prediction: Prediction = self._language.read_prediction(
            answer,
            target=target,
            signature_name=signature_name,
            signature=signature,
            output_filter=output_filter,
            copy=copy,
        )
        self._forget_other_version(target, prediction.model_spec.version)
        return prediction

    def classify(
        self, examples: Any, *, target: Target, context: Any, signature_name: str, clock: Clock
    ) -> Steps[Classification]:
        features, shared = _examples(examples, context)
        answer = yield from self._send(self._language.classify_call(target, features, shared, signature_name), clock)
        result: Classification = self._language.read_classification(answer, target, signature_name)
        return result

    def regress(
        self, examples: Any, *, target: Target, context: Any, signature_name: str, clock: Clock
    ) -> Steps[Regression]:
        features, shared = _examples(examples, context)
        answer = yield from self._send(self._language.regress_call(target, features, shared, signature_name), clock)
        result: Regression = self._language.read_regression(answer, target, signature_name)
        return result

    def multi_inference(
        self, examples: Any, *, tasks: Mapping[str, str], target: Target, context: Any, clock: Clock
    ) -> Steps[dict[str, Classification | Regression]]:
        unknown = set(tasks.values()) - set(messages.TASKS)
        if unknown or not tasks:
            got = ", ".join(sorted(map(str, unknown))) or "none"
            raise ValueError(f"expected tasks by signature name, each {' or '.join(messages.TASKS)}; got {got}")
        features, shared = _examples(examples, context)
        answer = yield from self._send(self._language.multi_inference_call(target, features, shared, tasks), clock)
        results: dict[str, Classification | Regression] = self._language.read_multi_inference(answer)
        return results

    def metadata(self, *, target: Target, clock: Clock) -> Steps[Metadata]:
        answer = yield from self._send(self._language.metadata_call(target), clock)
        metadata: Metadata = self._language.read_metadata(answer)
        self._know(target, metadata)
        return metadata

    def status(self, *, target: Target, clock: Clock) -> Steps[tuple[VersionStatus, ...]]:
        answer = yield from self._send(self._language.status_call(target), clock)
        statuses: tuple[VersionStatus, ...] = self._language.read_status(answer)
        return statuses

    def reload_config(self, models: Any, *, clock: Clock) -> Steps[None]:
        """On every server, for each has a configuration of its own."""
        call = self._language.reload_config_call(_model_configs(models))
        for server in range(len(self.addresses)):
            answer = yield from self._send(call, clock, server=server)
            self._language.read_reload_config(answer)
        self._known.clear()

    def wait_until_ready(self, *, target: Target, clock: Clock) -> Steps[VersionStatus]:
        pause, longest = _PAUSE_SECONDS
        last, polls = "", 0
        while (left := clock.left()) > 0:
            polls += 1
            ready, answer = yield from self._poll(target, min(left, _POLL_SECONDS))
            if ready is not None:
                return ready
            last = answer or last
            yield Pause(max(0.0, min(pause, clock.left())))
            pause = min(2 * pause, longest)
        raise DeadlineExceeded(
            f"expected model '{target.name}' to become available at {self.address} within {clock.seconds:g} s; "
            f"the last answer was: {last or 'none'}",
            attempts=polls,
        )

    # What they have in common.

    @property
    def address(self) -> str:
        """As it was given; with commas, where there are several."""
        return ",".join(address.text for address in self.addresses)

    def target(self, model_name: str | None, version: int | None, version_label: str | None = None) -> Target:
        return _target(model_name or self._model_name or "", version, version_label)

    def clock(self, timeout: float | None) -> Clock:
        return Clock.start(self._timeout if timeout is None else checked_timeout(timeout))

    def _again(self, inputs: Any, target: Target, options: tuple[str, ...]) -> Call | None:
        """The call, where arrays of the same names, dtypes and shapes were checked before, and nothing new is known."""
        known = self._known.get(target)
        if known is None or type(inputs) is not dict:
            return None
        template = known.templates.get(options)
        body = None if template is None else template.fill(inputs)
        return None if body is None else Call(messages.PREDICT, body, target.name)

    def _remember(
        self, inputs: Any, arrays: Mapping[str, Any], target: Target, options: tuple[str, ...], call: Call
    ) -> None:
        known = self._known.get(target)
        if known is None or not self._language.TELLS_VERSION or type(inputs) is not dict:
            return
        if all(arrays[name] is array for name, array in inputs.items()):
            template = Template.of(call.body, arrays)
            if template is not None:
                known.templates[options] = template

    def _fit_known(
        self, inputs: Any, target: Target, signature_name: str, *, check: bool
    ) -> tuple[Mapping[str, Any], Signature | None] | None:
        """What _fit gives, where nobody has to be asked for it: nearly always."""
        known = self._known.get(target)
        if known is None or not self._language.TELLS_VERSION:
            return None
        try:
            return fit(inputs, known.metadata, signature_name, check=check)
        except InvalidInput:
            return None

    def _fit(
        self, inputs: Any, target: Target, signature_name: str, clock: Clock, *, check: bool
    ) -> Steps[tuple[Mapping[str, Any], Signature | None]]:
        """The inputs by name, as the model takes them, and the signature that is asked, where it is known."""
        if not check and isinstance(inputs, Mapping) and self._language.TELLS_VERSION:
            return inputs, None
        known, metadata = yield from self._metadata(target, clock)
        try:
            return fit(inputs, metadata, signature_name, check=check)
        except InvalidInput:
            if not known:
                raise
        # What was known may be of a version that is gone: nothing is refused before the server was asked again.
        self._known.pop(target, None)
        _, metadata = yield from self._metadata(target, clock)
        return fit(inputs, metadata, signature_name, check=check)

    def _metadata(self, target: Target, clock: Clock) -> Steps[tuple[bool, Metadata | None]]:
        """Whether they were known already, and the signatures; None for a server that does not tell them."""
        known = self._known.get(target)
        if known is not None and (self._language.TELLS_VERSION or known.fresh.left() > 0):
            return True, known.metadata
        try:
            metadata = yield from self.metadata(target=target, clock=clock)
        except Unimplemented:
            self._know(target, None)
            return False, None
        return False, metadata

    def _know(self, target: Target, metadata: Metadata | None) -> None:
        self._known[target] = _Known(metadata, Clock.start(_SILENT_VERSIONS_SECONDS), {})

    def _forget_other_version(self, target: Target, version: int | None) -> None:
        known = self._known.get(target)
        if known is None or known.metadata is None:
            return
        if None not in (version, known.metadata.version) and known.metadata.version != version:
            self._known.pop(target, None)

    def _poll(self, target: Target, timeout: float) -> Steps[tuple[VersionStatus | None, str]]:
        """The highest version that is AVAILABLE, if one is, and what the server answered; nothing if it was silent."""
        try:
            answer = yield from self._once(self._language.status_call(target), Clock.start(timeout))
            statuses: tuple[VersionStatus, ...] = self._language.read_status(answer)
        except DeadlineExceeded:
            return None, ""
        except (Unavailable, NotFound) as error:  # a server that starts, or has not found the model so far
            return None, str(error)
        available = [status for status in statuses if status.state == "AVAILABLE"]
        ready = max(available, key=lambda status: status.version, default=None)
        return ready, ", ".join(map(str, statuses)) or "no versions"

    # Sending: attempts, servers, spans.

    def _once(self, call: Call, clock: Clock) -> Steps[bytes]:
        answer: bytes = yield Attempt(next(self._balancer.order()), call, clock.remaining())
        return answer

    def _send(self, call: Call, clock: Clock, *, server: int | None = None) -> Steps[bytes]:
        """The answer of a server to `call`: of `server`, or of whichever answers."""
        return self._attempts(call, clock, server) if self._tracing is None else self._traced(call, clock, server)

    def _traced(self, call: Call, clock: Clock, server: int | None) -> Steps[bytes]:
        assert self._tracing is not None  # noqa: S101  # for the type checker
        with self._tracing.span(call, self.address) as span:
            return (yield from self._attempts(call, clock, server, span.headers(), span.event))

    def _attempts(
        self,
        call: Call,
        clock: Clock,
        server: int | None,
        headers: tuple[tuple[str, str], ...] = (),
        event: Callable[[str, int], None] = NO_SPAN,
    ) -> Steps[bytes]:
        number = round_ = 0
        while True:
            round_ += 1
            for each in self._balancer.order() if server is None else (server,):
                number += 1
                try:
                    answer: bytes = yield self._step(each, call, clock, headers)
                except StatusError as error:
                    number += error.attempts - 1  # none, where there was no time left to send it; two, of a race
                    error.attempts = number
                    self._judge(each, error)
                    if not self._may_retry(error, number, clock):
                        raise
                    event(error.code, number)
                    _LOG.info("%s of %s: attempt %d failed: %s", call.name, call.model, number, error)
                    failure = error
                else:
                    self._balancer.succeeded(each)
                    if _LOG.isEnabledFor(logging.DEBUG):
                        spent = clock.seconds - clock.left()
                        _LOG.debug("%s of %s: %.1f ms, attempt %d", call.name, call.model, spent * 1e3, number)
                    return answer
            wait = self._retry.wait(round_)
            if wait >= clock.left():
                raise failure
            yield Pause(wait)

    def _step(self, server: int, call: Call, clock: Clock, headers: tuple[tuple[str, str], ...]) -> Attempt | Race:
        attempt = Attempt(server, call, clock.remaining(self._retry.attempt_timeout), headers)
        if self._hedge is None:
            return attempt
        others = [each for each in self._balancer.order() if each != server] or [server]
        return Race((attempt, Attempt(others[0], call, attempt.timeout, headers)), self._hedge)

    def _judge(self, server: int, error: StatusError) -> None:
        if isinstance(error, Unavailable | DeadlineExceeded):
            self._balancer.failed(server)

    def _may_retry(self, error: StatusError, number: int, clock: Clock) -> bool:
        if number >= self._retry.attempts or clock.left() <= 0:
            return False
        silent = self._retry.attempt_timeout is not None and isinstance(error, DeadlineExceeded)
        return silent or error.code in self._retry.codes


@lru_cache(maxsize=1024)
def _target(name: str, version: int | None, version_label: str | None) -> Target:
    """Made once: calls name the same few over and over."""
    return Target(name, version, version_label)


def _examples(examples: Any, context: Any) -> tuple[list[Features], Features | None]:
    return read_examples(examples), None if context is None else read_example(context, "the context")


def _model_configs(models: Any) -> list[ModelConfig]:
    """Of a mapping from name to base path, or a list of ModelConfigs."""
    if isinstance(models, Mapping):
        return [ModelConfig(str(name), str(path)) for name, path in models.items()]
    if isinstance(models, str) or not all(isinstance(model, ModelConfig) for model in models):
        raise ValueError("expected the models by name, as in {'digits': '/models/digits'}, or a list of ModelConfigs")
    return list(models)
