"""The client: a thin shell that checks what it is given, sends it in time, and hands back what came."""

from __future__ import annotations

import difflib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

from keraship.client import messages
from keraship.client.channel import Channel
from keraship.client.messages import Metadata, Prediction, Target, VersionStatus
from keraship.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    InvalidInput,
    NotFound,
    Unavailable,
    Unimplemented,
)
from keraship.signature import DEFAULT_SIGNATURE, Signature
from keraship.signature import check as check_inputs

_OUTDATED = (InvalidArgument, FailedPrecondition, NotFound)  # how a server answers what fits another version
_POLL_SECONDS = 5.0
_PAUSE_SECONDS = (0.05, 1.0)


class Client:
    """A connection to one server, for any number of calls, models and threads.

    address: `host:port`, `grpc://host:port` or `unix:/path/of/socket`.
    model_name: the model that calls ask which name none themselves.
    timeout: seconds that a call may take in all, checking and every attempt included; math.inf for no limit.

    Share one client: it keeps one connection open, is safe to use from several threads, and opens a connection of its
    own in each process that is forked. Raises ValueError for an address that is none.

    >>> with Client("localhost:8500", "digits") as client:  # doctest: +SKIP
    ...     scores = client.predict({"images": batch}).array
    """

    def __init__(self, address: str, model_name: str | None = None, *, timeout: float = 60.0) -> None:
        self._channel = Channel(address)
        self._model_name = model_name
        self._timeout = _checked(timeout)
        self._known: dict[Target, Metadata | None] = {}  # None: the server has no GetModelMetadata
        self.address = address

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

        inputs: input name -> array, or anything that numpy makes one of; a single array for a model of one input.
        They are checked against the model's signature before they are sent, and cast where no value can change.
        version, version_label: not both; without either the latest version answers.
        output_filter: the names of the outputs that are wanted; all without it.
        timeout: seconds in all, where it is to differ from the client's.
        check: False sends the arrays as they are, for the server to judge.
        copy: True gives arrays that can be written to, instead of read-only ones.

        Raises InvalidInput for inputs that do not fit, which are not sent; another StatusError for how the call
        ended: NotFound, Unavailable, DeadlineExceeded ...; ValueError for arguments that contradict each other.
        """
        clock = self._clock(timeout)
        target = self._target(model_name, version, version_label)
        inputs, signature = self._fit(inputs, target, signature_name, clock, check=check)
        request = messages.predict_request(
            target,
            inputs,
            signature_name=signature_name,
            output_filter=output_filter,
            specs=signature.inputs if signature else (),
        )
        try:
            answer = self._channel.call(messages.PREDICT, request, timeout=clock.remaining())
        except _OUTDATED:
            self._known.pop(target, None)
            raise
        prediction = messages.read_prediction(answer, copy=copy)
        self._forget_other_version(target, prediction.model_spec.version)
        return prediction

    def metadata(
        self,
        *,
        model_name: str | None = None,
        version: int | None = None,
        version_label: str | None = None,
        timeout: float | None = None,
    ) -> Metadata:
        """The model's signatures, and the version that they are of, asked anew; raises StatusError."""
        clock = self._clock(timeout)
        target = self._target(model_name, version, version_label)
        return self._ask_metadata(target, clock)

    def status(
        self, *, model_name: str | None = None, version: int | None = None, timeout: float | None = None
    ) -> tuple[VersionStatus, ...]:
        """How far the model's versions are, or the one `version`; raises NotFound where the server has none."""
        clock = self._clock(timeout)
        target = self._target(model_name, version)
        answer = self._channel.call(messages.STATUS, messages.status_request(target), timeout=clock.remaining())
        return messages.read_status(answer)

    def wait_until_ready(
        self, timeout: float | None = None, *, model_name: str | None = None, version: int | None = None
    ) -> VersionStatus:
        """Wait until a version of the model, or the one `version`, is AVAILABLE; returns the highest that is.

        The server may still have to start. Raises DeadlineExceeded after `timeout` seconds, with the last answer.
        """
        clock = self._clock(timeout)
        target = self._target(model_name, version)
        pause, longest = _PAUSE_SECONDS
        last, polls = "", 0
        while (left := clock.left()) > 0:
            polls += 1
            ready, answer = self._poll(target, min(left, _POLL_SECONDS))
            if ready is not None:
                return ready
            last = answer or last
            time.sleep(max(0.0, min(pause, clock.left())))
            pause = min(2 * pause, longest)
        raise DeadlineExceeded(
            f"expected model '{target.name}' to become available at {self.address} within {clock.seconds:g} s; "
            f"the last answer was: {last or 'none'}",
            attempts=polls,
        )

    def close(self) -> None:
        """Close the connection; the client cannot be used again, and what it was asked elsewhere ends as Cancelled."""
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _poll(self, target: Target, timeout: float) -> tuple[VersionStatus | None, str]:
        """The highest version that is AVAILABLE, if one is, and what the server answered; nothing if it was silent."""
        try:
            statuses = self.status(model_name=target.name, version=target.version, timeout=timeout)
        except DeadlineExceeded:
            return None, ""
        except (Unavailable, NotFound) as error:  # a server that starts, or has not found the model so far
            return None, str(error)
        available = [status for status in statuses if status.state == "AVAILABLE"]
        ready = max(available, key=lambda status: status.version, default=None)
        return ready, ", ".join(map(str, statuses)) or "no versions"

    def _fit(
        self, inputs: Any, target: Target, signature_name: str, clock: _Clock, *, check: bool
    ) -> tuple[Mapping[str, Any], Signature | None]:
        """The inputs by name, as the model takes them, and the signature that they were made to fit, if they were."""
        if not check and isinstance(inputs, Mapping):
            return inputs, None
        known, metadata = self._metadata(target, clock)
        try:
            return _fit(inputs, metadata, signature_name, check=check)
        except InvalidInput:
            if not known:
                raise
        # What was known may be of a version that is gone: nothing is refused before the server was asked again.
        self._known.pop(target, None)
        return _fit(inputs, self._metadata(target, clock)[1], signature_name, check=check)

    def _metadata(self, target: Target, clock: _Clock) -> tuple[bool, Metadata | None]:
        """Whether they were known already, and the signatures; None for a server that does not tell them."""
        try:
            return True, self._known[target]
        except KeyError:
            pass
        try:
            return False, self._ask_metadata(target, clock)
        except Unimplemented:
            self._known[target] = None
            return False, None

    def _ask_metadata(self, target: Target, clock: _Clock) -> Metadata:
        request = messages.metadata_request(target)
        metadata = messages.read_metadata(self._channel.call(messages.METADATA, request, timeout=clock.remaining()))
        self._known[target] = metadata
        return metadata

    def _forget_other_version(self, target: Target, version: int | None) -> None:
        known = self._known.get(target)
        if known is not None and None not in (version, known.version) and known.version != version:
            self._known.pop(target, None)

    def _target(self, model_name: str | None, version: int | None, version_label: str | None = None) -> Target:
        return Target(model_name or self._model_name or "", version, version_label)

    def _clock(self, timeout: float | None) -> _Clock:
        seconds = self._timeout if timeout is None else _checked(timeout)
        return _Clock(seconds, time.monotonic() + seconds)


@dataclass(frozen=True)
class _Clock:
    """A budget of seconds, and the moment at which it is spent."""

    seconds: float
    end: float

    def left(self) -> float:
        return self.end - time.monotonic()

    def remaining(self) -> float | None:
        """As gRPC wants it: None without a limit. Raises DeadlineExceeded where nothing is left."""
        left = self.left()
        if left <= 0:
            raise DeadlineExceeded(f"the {self.seconds:g} s that the call may take were over before it was sent")
        return None if math.isinf(left) else left


def _checked(timeout: float) -> float:
    if not timeout > 0:
        raise ValueError(f"expected a timeout of more than 0 seconds (math.inf for no limit); got {timeout}")
    return timeout


def _fit(
    inputs: Any, metadata: Metadata | None, signature_name: str, *, check: bool
) -> tuple[Mapping[str, Any], Signature | None]:
    if metadata is None:
        if isinstance(inputs, Mapping):
            return inputs, None
        raise InvalidInput(
            "expected arrays by name, as in {'images': array}: this server does not tell the names of a model's inputs"
        )
    signature = _signature(metadata, signature_name)
    if not isinstance(inputs, Mapping):
        inputs = {_only_input(signature): inputs}
    if not check:
        return inputs, None
    optional = metadata.optional.get(signature_name or DEFAULT_SIGNATURE, frozenset())
    wanted = tuple(spec for spec in signature.inputs if spec.name in inputs or spec.name not in optional)
    return check_inputs(replace(signature, inputs=wanted), inputs), signature


def _signature(metadata: Metadata, name: str) -> Signature:
    name = name or DEFAULT_SIGNATURE
    if name in metadata.signatures:
        return metadata.signatures[name]
    model = metadata.model_spec.name
    if name in metadata.unreadable:
        raise InvalidInput(f"signature '{name}' of model '{model}' takes no plain arrays: {metadata.unreadable[name]}")
    near = difflib.get_close_matches(name, metadata.signatures, n=1)
    meant = f", did you mean '{near[0]}'?" if near else ""
    names = ", ".join(metadata.signatures) or "none"
    raise InvalidInput(f"the model '{model}' has no signature '{name}'{meant} (signatures: {names})")


def _only_input(signature: Signature) -> str:
    if len(signature.inputs) != 1:
        names = ", ".join(spec.name for spec in signature.inputs) or "none"
        raise InvalidInput(f"expected arrays by name, as in {{'name': array}}, for the inputs {names}; got one value")
    return signature.inputs[0].name
