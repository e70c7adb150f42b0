"""Does the client keep its promises while everything breaks? `python benchmarks/chaos.py [--calls 10000] [--json]`.

Three servers, each a process, each behind a TCP proxy of our own that kills, delays, resets and truncates; one server
is killed and started anew again and again. Threads, an event loop and predict_many ask them. Three promises are checked
of every call:

- one that has time (60 s, the default) succeeds, whatever happens on the way;
- one that has little (0.02 to 0.5 s) ends in time: never more than 50 ms after its deadline;
- every call is answered once, with its own answer.

Exit status 1 where one is broken. A machine that is busy with other things is late by itself: how late a thread is that
does nothing but sleep is measured beside the calls, and told with them.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from keraship.client import AsyncClient, Client, Retry, StatusError
from keraship.client.testing import FakeModel, FakeServer

LATE_SECONDS = 0.05
PATIENT_SECONDS = 60.0
THREADS = 6
IN_FLIGHT = 6
SIZES = (1, 100, 10_000, 150_000)
RETRY = Retry(attempts=1000, pause=0.01, longest=0.25, attempt_timeout=2.0)


@dataclass
class Findings:
    """What came of all calls: those with time, those in a hurry; seconds are after the deadline."""

    calls: int = 0
    answered: int = 0
    hurried: int = 0
    hurried_answered: int = 0
    failed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    latest_seconds: float = -1.0
    late: int = 0
    late_with_sleeper: int = 0
    sleeper_latest_seconds: float = 0.0
    faults: dict[str, int] = field(default_factory=dict)
    restarts: int = 0
    seconds: float = 0.0

    @property
    def is_good(self) -> bool:
        return not self.failed and not self.wrong and not self.late


class Sleeper:
    """A process that sleeps: how late it wakes is how late the machine is, without our doing."""

    def __init__(self) -> None:
        self._process = Process("--sleep")
        self.naps: list[tuple[float, float]] = []
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Sleeper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.__exit__()

    def latest(self, start: float, end: float) -> float:
        """Seconds by which it was late at most, between two moments of time.monotonic."""
        return max((late for at, late in list(self.naps) if start <= at <= end + 0.2), default=0.0)

    def _work(self) -> None:
        while line := self._process._line():
            at, late = line.split()
            self.naps.append((float(at), float(late)))


def sleep() -> None:
    print(0, flush=True)
    while True:
        start = time.monotonic()
        time.sleep(0.005)
        late = time.monotonic() - start - 0.005
        if late > 0.01:
            print(time.monotonic(), late, flush=True)


class Judge:
    """Notes every call; an id may be answered once."""

    def __init__(self, sleeper: Sleeper) -> None:
        self.findings = Findings()
        self.late_calls: list[tuple[float, float]] = []
        self.sleeper = sleeper
        self._answered: collections.Counter[int] = collections.Counter()
        self._lock = threading.Lock()

    def note(self, ident: int, *, timeout: float, seconds: float, outcome: Any, expected: float) -> None:
        with self._lock:
            found = self.findings
            found.calls += 1
            is_patient = timeout >= PATIENT_SECONDS
            found.hurried += not is_patient
            found.latest_seconds = max(found.latest_seconds, seconds - timeout)
            if seconds - timeout > LATE_SECONDS:
                found.late += 1
                self.late_calls.append((time.monotonic(), seconds - timeout))
            if isinstance(outcome, StatusError):
                if is_patient:
                    found.failed.append(f"call {ident} after {seconds:.2f} s: {outcome!r}")
                return
            found.answered += is_patient
            found.hurried_answered += not is_patient
            self._answered[ident] += 1
            if self._answered[ident] > 1 or outcome["id"].item() != ident or not (outcome["y"] == expected).all():
                found.wrong.append(f"call {ident}: {outcome!r}")


def run(calls: int, *, seed: int = 0) -> Findings:
    """All of it, with this many calls."""
    start = time.monotonic()
    with contextlib.ExitStack() as stack:
        judge = Judge(stack.enter_context(Sleeper()))
        servers = [stack.enter_context(Server()) for _ in range(3)]
        proxies = [stack.enter_context(Proxy(server.port, seed=seed + index)) for index, server in enumerate(servers)]
        addresses = [f"127.0.0.1:{proxy.port}" for proxy in proxies]
        restarter = stack.enter_context(Restarter(servers[1]))
        idents = Idents(calls)
        by_threads, by_many = calls * 6 // 10, calls * 2 // 10
        with Client(addresses, "model", retry=RETRY) as client:
            threads = [
                threading.Thread(target=ask_one_by_one, args=(client, idents.take(by_threads // THREADS), judge, index))
                for index in range(THREADS)
            ]
            threads.append(threading.Thread(target=ask_many, args=(client, idents.take(by_many), judge)))
            rest = idents.take(calls)
            threads.append(threading.Thread(target=lambda: asyncio.run(ask_asynchronously(addresses, rest, judge))))
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        for proxy in proxies:
            for name, count in proxy.faults().items():
                judge.findings.faults[name] = judge.findings.faults.get(name, 0) + count
        judge.findings.restarts = restarter.restarts
        time.sleep(0.3)  # the sleeper's last words
        found = judge.findings
        found.sleeper_latest_seconds = max((late for _, late in judge.sleeper.naps), default=0.0)
        found.late_with_sleeper = sum(
            judge.sleeper.latest(at - late - 0.1, at) > late - LATE_SECONDS for at, late in judge.late_calls
        )
    judge.findings.seconds = time.monotonic() - start
    return judge.findings


class Idents:
    """The numbers of the calls, given out in pieces."""

    def __init__(self, count: int) -> None:
        self._left = iter(range(count))

    def take(self, count: int) -> list[int]:
        return [ident for _, ident in zip(range(count), self._left, strict=False)]


def question(ident: int) -> tuple[dict[str, np.ndarray], float]:
    x = np.full(SIZES[ident % len(SIZES)], ident, np.float32)
    return {"id": np.int64([ident]), "x": x}, 2.0 * ident


def timeout_of(ident: int) -> float:
    """One call of eight is in a hurry."""
    return random.Random(ident).uniform(0.02, 0.5) if ident % 8 == 3 else PATIENT_SECONDS


def ask_one_by_one(client: Client, idents: list[int], judge: Judge, _index: int) -> None:
    for ident in idents:
        inputs, expected = question(ident)
        timeout, start = timeout_of(ident), time.monotonic()
        outcome: Any
        try:
            outcome = client.predict(inputs, check=False, timeout=timeout)
        except StatusError as error:
            outcome = error
        judge.note(ident, timeout=timeout, seconds=time.monotonic() - start, outcome=outcome, expected=expected)


def ask_many(client: Client, idents: list[int], judge: Judge) -> None:
    """In order, one answer for each."""
    inputs = (question(ident)[0] for ident in idents)
    answers = client.predict_many(inputs, in_flight=IN_FLIGHT, errors="return", check=False, timeout=PATIENT_SECONDS)
    for ident, outcome in zip(idents, answers, strict=True):
        judge.note(ident, timeout=PATIENT_SECONDS, seconds=0, outcome=outcome, expected=question(ident)[1])


async def ask_asynchronously(addresses: list[str], idents: list[int], judge: Judge) -> None:
    turn = asyncio.Semaphore(IN_FLIGHT)
    async with AsyncClient(addresses, "model", retry=RETRY) as client:

        async def ask(ident: int) -> None:
            async with turn:
                inputs, expected = question(ident)
                timeout, start = timeout_of(ident), time.monotonic()
                outcome: Any
                try:
                    outcome = await client.predict(inputs, check=False, timeout=timeout)
                except StatusError as error:
                    outcome = error
                seconds = time.monotonic() - start
                judge.note(ident, timeout=timeout, seconds=seconds, outcome=outcome, expected=expected)

        await asyncio.gather(*map(ask, idents))


# What is asked, and what breaks.


class Process:
    """This program in another role; its first line is its port."""

    def __init__(self, *role: str) -> None:
        self._role = role
        self._process = self._start(*role)
        self.port = int(self._line())

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def _start(self, *role: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [sys.executable, __file__, *role], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
        )

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


class Server(Process):
    """A server that doubles x and gives the id back."""

    def __init__(self) -> None:
        super().__init__("--serve", "0")

    def restart(self) -> None:
        self._process.kill()
        self._process.communicate()
        time.sleep(random.uniform(0, 0.5))
        self._process = self._start("--serve", str(self.port))
        self._line()


class Proxy(Process):
    """A way to a port on which things break."""

    def __init__(self, port: int, *, seed: int) -> None:
        super().__init__("--proxy", str(port), str(seed))

    def faults(self) -> dict[str, int]:
        assert self._process.stdin is not None
        self._process.stdin.write("faults\n")
        self._process.stdin.flush()
        found: dict[str, int] = json.loads(self._line())
        return found


class Restarter:
    """Kills a server and starts it anew, until the block ends."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self.restarts = 0

    def __enter__(self) -> Restarter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._over.wait(random.uniform(0.5, 2.0)):
            self._server.restart()
            self.restarts += 1


def serve(port: int) -> None:
    model = FakeModel(lambda inputs: {"id": inputs["id"], "y": inputs["x"] * 2})
    with FakeServer(model, port=port) as server:
        print(server.port, flush=True)
        signal.pause()


FAULTS = {"kill": 0.003, "delay": 0.02, "reset": 0.003, "truncate": 0.003}
"""How likely each is, for every piece of bytes that passes."""


def proxy(port: int, seed: int) -> None:
    asyncio.run(_proxy(port, random.Random(seed)))


async def _proxy(port: int, dice: random.Random) -> None:
    faults: collections.Counter[str] = collections.Counter()
    pipes: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            other_reader, other_writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.close()
            return
        for source, sink in ((reader, other_writer), (other_reader, writer)):
            task = asyncio.ensure_future(_pipe(source, sink, (writer, other_writer), dice, faults))
            pipes.add(task)
            task.add_done_callback(pipes.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(faults), flush=True)


async def _pipe(
    source: asyncio.StreamReader,
    sink: asyncio.StreamWriter,
    both: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
    dice: random.Random,
    faults: collections.Counter[str],
) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65536):
            fault = _fault(dice)
            faults[fault or "none"] += 1
            if fault == "delay":
                await asyncio.sleep(dice.uniform(0.01, 0.4))
            elif fault == "truncate":
                sink.write(data[: len(data) // 2])
                await sink.drain()
                break
            elif fault == "reset":
                for writer in both:
                    raw = writer.get_extra_info("socket")
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                break
            elif fault == "kill":
                break
            sink.write(data)
            await sink.drain()
    for writer in both:
        writer.close()


def _fault(dice: random.Random) -> str | None:
    drawn = dice.random()
    for name, share in FAULTS.items():
        if drawn < share:
            return name
        drawn -= share
    return None


def lines(found: Findings) -> Iterator[str]:
    """For people."""
    faults = ", ".join(f"{count} {name}" for name, count in sorted(found.faults.items()) if name != "none")
    yield f"{found.calls} calls in {found.seconds:.0f} s; {faults}; one server restarted {found.restarts} times"
    yield f"with time:  {found.answered} answered, {len(found.failed)} failed"
    yield f"in a hurry: {found.hurried_answered} of {found.hurried} answered"
    yield f"latest end: {found.latest_seconds * 1e3:.0f} ms after the deadline; {found.late} later than 50 ms"
    yield (
        f"the machine: a sleeping thread was {found.sleeper_latest_seconds * 1e3:.0f} ms late at most; "
        f"{found.late_with_sleeper} of the late calls were no later than 50 ms and it"
    )
    yield f"wrong or answered twice: {len(found.wrong)}"
    yield from (f"  {text}" for text in (found.failed + found.wrong)[:20])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--sleep", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--proxy", type=int, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve is not None:
        serve(args.serve)
    elif args.sleep:
        sleep()
    elif args.proxy is not None:
        proxy(*args.proxy)
    else:
        found = run(args.calls, seed=args.seed)
        print(json.dumps(asdict(found), indent=2) if args.json else "\n".join(lines(found)))
        sys.exit(0 if found.is_good else 1)


if __name__ == "__main__":
    if not hasattr(os, "fork"):
        sys.exit("this needs a POSIX system")
    main()
