"""AsyncClient: Client's methods and answers, in one loop or several, and what cancelling does."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from keraship import dtypes, errors
from keraship.client import AsyncClient, Client


def test_the_methods_are_those_of_client() -> None:
    """By name and by argument, defaults included; so are the constructors."""
    names = [name for name in vars(Client) if not name.startswith("_")] + ["__init__"]
    assert len(names) == 11
    for name in names:
        own, other = (
            {key: (p.kind, p.default) for key, p in inspect.signature(getattr(kind, name)).parameters.items()}
            for kind in (Client, AsyncClient)
        )
        assert own == other, name


ASKS: list[tuple[str, Callable[[Any], Any]]] = [
    ("predict", lambda client: client.predict([1.0, 2.0])),
    ("copy", lambda client: client.predict([1.0], copy=True, version=4)),
    ("two", lambda client: client.predict({"a": [1], "b": [[1, 2]]}, model_name="two", output_filter=["sum"])),
    ("classify", lambda client: client.classify([{"x": 1.5}])),
    ("regress", lambda client: client.regress([{"x": 1.5}], context={"y": 1})),
    ("multi_inference", lambda client: client.multi_inference([{"x": 1.5}], tasks={"a": "classify", "b": "regress"})),
    ("metadata", lambda client: client.metadata(version_label="stable")),
    ("status", lambda client: client.status(model_name="several")),
    ("wait_until_ready", lambda client: client.wait_until_ready(model_name="several")),
    ("reload_config", lambda client: client.reload_config({"a": "/a"})),
    ("absent", lambda client: client.status(model_name="absent")),
    ("misspelt", lambda client: client.predict({"xx": [1.0]})),
    ("fails", lambda client: client.predict([1.0], model_name="fails-DATA_LOSS")),
    ("slow", lambda client: client.predict([1.0], model_name="slow", timeout=0.4)),
    ("not ready", lambda client: client.wait_until_ready(0.2, model_name="broken")),
]


@pytest.mark.parametrize("ask", [ask for _, ask in ASKS], ids=[name for name, _ in ASKS])
def test_answers_and_errors_are_those_of_client(client: Client, ask: Callable[[Any], Any]) -> None:
    """One core makes both."""

    async def run() -> str:
        async with AsyncClient(client.address, "echo", timeout=20) as other:
            return await outcome(ask(other))

    async def outcome(answer: Awaitable[Any]) -> str:
        try:
            return described(await answer)
        except errors.StatusError as error:
            return f"{type(error)} {error.code} {error.attempts}"

    try:
        expected = described(ask(client))
    except errors.StatusError as error:
        expected = f"{type(error)} {error.code} {error.attempts}"
    found = asyncio.run(run())
    if expected.startswith("<class"):  # how often one polls is a matter of luck
        assert found.split()[:3] == expected.split()[:3]
    else:
        assert found == expected


def described(answer: Any) -> str:
    if isinstance(answer, dict):
        return repr({name: described(each) for name, each in answer.items()})
    if hasattr(answer, "items"):
        return repr(
            [(name, array.tolist(), array.flags.writeable) for name, array in answer.items()] + [answer.model_spec]
        )
    return repr(list(answer)) if hasattr(answer, "__getitem__") else repr(answer)


def test_every_dtype(address: str) -> None:
    """There and back."""

    async def run() -> None:
        async with AsyncClient(address, timeout=20) as client:
            for dtype in dtypes.DTYPES[:20]:
                array = (
                    np.array([[b"a", b""]], object) if dtype.name == "string" else np.ones((1, 2)).astype(dtype.numpy)
                )
                answer = await client.predict({"x": array}, model_name=f"dtype-{dtype.number}-values")
                assert (answer.array.dtype, answer.array.tolist()) == (array.dtype, array.tolist())

    asyncio.run(run())


def test_one_client_in_several_loops(address: str) -> None:
    """One after another and side by side in threads; each loop has connections of its own."""
    client = AsyncClient(address, "echo", timeout=20)

    async def run(count: int) -> list[float]:
        answers = await asyncio.gather(*(client.predict([float(i)]) for i in range(count)))
        return [answer.array.item() for answer in answers]

    for _ in range(3):
        assert asyncio.run(run(20)) == list(range(20))
    found: list[list[float]] = []
    threads = [threading.Thread(target=lambda: found.append(asyncio.run(run(30)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [list(range(30))] * 4


def test_cancelling_ends_a_call_at_once(address: str) -> None:
    """By the task, and by asyncio's own timeout; the client is as good as before."""

    async def run() -> None:
        async with AsyncClient(address, "slow", timeout=20) as client:
            await client.metadata()
            task = asyncio.ensure_future(client.predict([1.0]))
            await asyncio.sleep(0.2)
            start = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(client.predict([1.0]), 0.2)
            assert time.monotonic() - start < 2.5
            assert (await client.predict([1.0], model_name="echo")).array.item() == 1

    asyncio.run(run())


def test_close_ends_what_is_under_way(address: str) -> None:
    """As Cancelled, which is no CancelledError: the task itself goes on."""

    async def run() -> None:
        client = AsyncClient(address, "slow", timeout=20)
        await client.metadata()
        task = asyncio.ensure_future(client.predict([1.0]))
        await asyncio.sleep(0.3)
        await client.close()
        await client.close()
        with pytest.raises(errors.Cancelled, match="the client was closed"):
            await task
        with pytest.raises(ValueError, match="this one is closed"):
            await client.status()

    asyncio.run(run())


def test_a_client_survives_a_fork(address: str) -> None:
    """Made before it, used in a loop of the child's and of the parent's own."""
    script = f"""
import asyncio, os, sys
from keraship.client import AsyncClient
client = AsyncClient({address!r}, "echo", timeout=20)
async def ask(value):
    return (await client.predict([value])).array.item() == value
pid = os.fork()
if pid == 0:
    os._exit(0 if asyncio.run(ask(1.0)) else 1)
assert os.waitpid(pid, 0)[1] == 0
assert asyncio.run(ask(2.0))
"""
    done = subprocess.run([sys.executable, "-c", script], timeout=60, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
