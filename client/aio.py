"""The client for asyncio: Client's methods, to be awaited; it performs the core's steps without blocking the loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal

from keraship.client.aio_many import AsyncPredictions, predict_many
from keraship.client.connect import connect
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


class AsyncClient:
    """Client for asyncio: the same arguments, the same methods, each to be awaited.

    It may be used from several event loops, one after another or side by side: each has connections of its own. A call
    that is cancelled ends at once, on the server too. interceptors: those of grpc.aio.

    >>> async with AsyncClient("localhost:8500", "digits") as client:  # doctest: +SKIP
    ...     answers = await asyncio.gather(*(client.predict({"images": batch}) for batch in batches))
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
            asynchronous=True,
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

    async def predict(
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
        """As Client.predict."""
        core = self._core
        return await self._run(
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
        inputs: Mapping[str, Any] | Iterable[Any] | AsyncIterable[Any],
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
    ) -> AsyncPredictions:
        """As Client.predict_many; iterate with `async for`, or await `.join()`. The iterator may be asynchronous."""
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

    async def classify(
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
        """As Client.classify."""
        core = self._core
        return await self._run(
            core.classify(
                examples,
                target=core.target(model_name, version, version_label),
                context=context,
                signature_name=signature_name,
                clock=core.clock(timeout),
            )
        )

    async def regress(
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
        """As Client.regress."""
        core = self._core
        return await self._run(
            core.regress(
                examples,
                target=core.target(model_name, version, version_label),
                context=context,
                signature_name=signature_name,
                clock=core.clock(timeout),
            )
        )

    async def multi_inference(
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
        """As Client.multi_inference."""
        core = self._core
        return await self._run(
            core.multi_inference(
                examples,
                tasks=tasks,
                target=core.target(model_name, version, version_label),
                context=context,
                clock=core.clock(timeout),
            )
        )

    async def metadata(
        self,
        *,
        model_name: str | None = None,
        version: int | None = None,
        version_label: str | None = None,
        timeout: float | None = None,
    ) -> Metadata:
        """As Client.metadata."""
        core = self._core
        return await self._run(
            core.metadata(target=core.target(model_name, version, version_label), clock=core.clock(timeout))
        )

    async def status(
        self, *, model_name: str | None = None, version: int | None = None, timeout: float | None = None
    ) -> tuple[VersionStatus, ...]:
        """As Client.status."""
        core = self._core
        return await self._run(core.status(target=core.target(model_name, version), clock=core.clock(timeout)))

    async def reload_config(
        self, models: Mapping[str, str] | Sequence[ModelConfig], *, timeout: float | None = None
    ) -> None:
        """As Client.reload_config."""
        await self._run(self._core.reload_config(models, clock=self._core.clock(timeout)))

    async def wait_until_ready(
        self, timeout: float | None = None, *, model_name: str | None = None, version: int | None = None
    ) -> VersionStatus:
        """As Client.wait_until_ready."""
        core = self._core
        return await self._run(
            core.wait_until_ready(target=core.target(model_name, version), clock=core.clock(timeout))
        )

    async def close(self) -> None:
        """Close the running loop's connections; the client cannot be used again."""
        await self._transport.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self, steps: Steps[Result]) -> Result:
        """Perform steps until they have their result."""
        try:
            step = next(steps)
            while True:
                try:
                    outcome = await self._perform(step)
                except StatusError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(outcome)
        except StopIteration as done:
            result: Result = done.value
            return result

    async def _perform(self, step: Any) -> bytes | None:
        if isinstance(step, Attempt):
            answer: bytes = await self._transport.send(step)
            return answer
        if isinstance(step, Race):
            first: bytes = await self._transport.race(step)
            return first
        await asyncio.sleep(step.seconds)
        return None
