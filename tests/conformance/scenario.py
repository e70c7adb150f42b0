"""Runs a scenario: a server of its own, and steps; the first that goes wrong ends it.

Each step is a table with one of these keys. $dir is the scenario's folder, $free a port that is free.
    copy, to      a version out of the models, `copy = "versions/1"`, into $dir, all at once; `only`: those files
    remove        a file or folder in $dir
    write, text   a file in $dir, all at once; `records`: PredictionLogs (text protobuf) as a TFRecord file instead
    make          a folder
    start         the server, with the scenario's flags; false: without waiting until it answers
    ended         its exit status, within `within` seconds
    closed        true: nobody listens at its ports
    log           a regular expression, found in what it wrote, within `within` seconds; `stream`: "stderr", "stdout"
    sleep         seconds
    signal        "TERM"
    a case        (get, post, call ...) `within`: asked again and again, so many seconds, until the answer is right;
                  `during`: the answer must be right all the time; `at`: gRPC at another address, unix:$dir/socket
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from keraship.serving.tfrecord import record
from keraship.wire.messages import PredictionLog

from .ask import Server
from .case import ASKING, Scenario, fill, make_case
from .compare import differences
from .process import ServerProcess, free_port

_WITHIN = 30.0
_PAUSE = 0.05


def run_scenario(scenario: Scenario, models: Path, folder: Path, command: Sequence[str]) -> list[str]:
    """What went wrong, with the number of its step; empty where nothing did.

    models: as make_models wrote them. folder: an empty one. command: what starts the server, without flags.
    """
    run = _Run(scenario, models, folder.resolve(), command)
    try:
        for number, step in enumerate(scenario.steps, 1):
            found = list(run.step(step))
            if found:
                return [f"step {number}, {_title(step)}: {each}" for each in found] + run.last_words()
        return []
    finally:
        run.end()


def _title(step: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {str(value)[:80]}" for key, value in step.items() if key not in ("text", "answer"))


class _Run:
    def __init__(self, scenario: Scenario, models: Path, folder: Path, command: Sequence[str]) -> None:
        self._scenario, self._models, self._folder, self._command = scenario, models, folder, command
        self._process: ServerProcess | None = None
        self._free = free_port()

    def step(self, step: Mapping[str, Any]) -> Iterator[str]:
        filled = fill(dict(step), self._places())
        if ASKING & filled.keys():
            return self._ask(filled)
        (act,) = (each for each in _ACTS if each in filled)
        return _ACTS[act](self, filled)

    def end(self) -> None:
        if self._process:
            self._process.end()

    def last_words(self) -> list[str]:
        return [f"the log: {self._process.output('stderr')[-1500:]}"] if self._process else []

    def _places(self) -> dict[str, str]:
        return {"dir": str(self._folder), "free": str(self._free)}

    @property
    def _running(self) -> ServerProcess:
        if self._process is None:
            raise ValueError(f"{self._scenario.id}: a step needs a server, and none was started")
        return self._process

    def _path(self, name: str) -> Path:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _copy(self, step: Mapping[str, Any]) -> Iterator[str]:
        source, target = self._version(step["copy"]), self._path(step["to"])
        staged = self._path(f".staged/{target.name}")
        only = step.get("only")
        shutil.copytree(source, staged)
        for path in staged.iterdir() if only is not None else ():
            if path.name not in only:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        if target.exists():
            shutil.copytree(staged, target, dirs_exist_ok=True)
            shutil.rmtree(staged)
        else:
            staged.rename(target)
        return iter(())

    def _version(self, name: str) -> Path:
        """A version's folder; TensorFlow Serving's own models have zeros before their numbers."""
        model, _, number = name.partition("/")
        return next(path for path in (self._models / model).iterdir() if int(path.name) == int(number))

    def _remove(self, step: Mapping[str, Any]) -> Iterator[str]:
        path = self._path(step["remove"])
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        return iter(())

    def _write(self, step: Mapping[str, Any]) -> Iterator[str]:
        path = self._path(step["write"])
        staged = path.with_name(f".{path.name}.staged")
        records = [text_format.Parse(each, PredictionLog()).SerializeToString() for each in step.get("records", ())]
        staged.write_bytes(b"".join(map(record, records)) if records else step["text"].encode())
        staged.replace(path)
        return iter(())

    def _make(self, step: Mapping[str, Any]) -> Iterator[str]:
        self._path(step["make"]).mkdir()
        return iter(())

    def _start(self, step: Mapping[str, Any]) -> Iterator[str]:
        self._process = ServerProcess(self._command, fill(list(self._scenario.flags), self._places()))
        if step["start"]:
            try:
                self._process.wait_until_ready()
            except OSError as error:
                yield str(error)

    def _ended(self, step: Mapping[str, Any]) -> Iterator[str]:
        status = self._running.exit_status(step.get("within", _WITHIN))
        if status != step["ended"]:
            yield f"expected exit status {step['ended']}, got {'no end' if status is None else status}"

    def _closed(self, _step: Mapping[str, Any]) -> Iterator[str]:
        for port in (self._running.port, self._running.rest_port):
            if self._running.listens(port):
                yield "expected nobody to listen; a port is open"

    def _log(self, step: Mapping[str, Any]) -> Iterator[str]:
        def look() -> list[str]:
            text = self._running.output(step.get("stream", "stderr"))
            return [] if re.search(step["log"], text, re.DOTALL) else [f"not found in {text[-2000:]!r}"]

        return iter(_until_good(look, step.get("within", _WITHIN)))

    def _sleep(self, step: Mapping[str, Any]) -> Iterator[str]:
        time.sleep(step["sleep"])
        return iter(())

    def _signal(self, step: Mapping[str, Any]) -> Iterator[str]:
        self._running.signal(step["signal"])
        return iter(())

    def _ask(self, step: Mapping[str, Any]) -> Iterator[str]:
        values = {key: value for key, value in step.items() if key not in ("within", "during", "at")}
        case = make_case(self._scenario.id, values)
        server = Server(None, step["at"]) if "at" in step else self._running.server

        def ask() -> list[str]:
            try:
                return differences(case, server.ask(case))
            except OSError as error:
                return [f"no answer: {error}"]

        if "during" in step:
            return iter(_while_good(ask, step["during"]))
        return iter(_until_good(ask, step.get("within", 0)))


_ACTS: dict[str, Callable[[_Run, Mapping[str, Any]], Iterator[str]]] = {
    "copy": _Run._copy,
    "remove": _Run._remove,
    "write": _Run._write,
    "make": _Run._make,
    "start": _Run._start,
    "ended": _Run._ended,
    "closed": _Run._closed,
    "log": _Run._log,
    "sleep": _Run._sleep,
    "signal": _Run._signal,
}


def _until_good(look: Callable[[], list[str]], seconds: float) -> list[str]:
    end = time.monotonic() + seconds
    while (found := look()) and time.monotonic() < end:
        time.sleep(_PAUSE)
    return found


def _while_good(look: Callable[[], list[str]], seconds: float) -> list[str]:
    end = time.monotonic() + seconds
    while not (found := look()) and time.monotonic() < end:
        time.sleep(_PAUSE)
    return found
