"""Runs the fuzzer's inputs; started by fuzz.py: fuzz_worker.py ENGINE FOLDER INPUTS SECONDS SEED [INPUT].

FOLDER/current is memory shared with whoever looks after a crash: the input's length in 8 bytes, and the input.
FOLDER/result.json is written at the end.
"""

from __future__ import annotations

import json
import logging
import mmap
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

from fuzz import INPUT_LENGTH_BYTES
from fuzz_inputs import GRPC, LARGEST, REST, TEXT, mutate, seeds

from keraship.errors import StatusError
from keraship.serving import grpc_methods
from keraship.serving.grpc_methods import GrpcMethods
from keraship.serving.manager import ManagerOptions
from keraship.serving.model_config import read_config
from keraship.serving.reload_method import ReloadMethod
from keraship.serving.rest import Request, RestApi
from keraship.serving.server import Server, ServerOptions
from keraship.serving.text_proto import read_text_proto
from keraship.wire.messages import ModelServerConfig
from tests.conformance.models import make_config, make_models

SLOW = 5.0
PREDICT = "/tensorflow.serving.PredictionService/Predict"
RELOAD = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"

# What a client can be told of its own faults. Reloading may fail in more ways: it looks at folders.
HTTP_ALLOWED = {200, 400, 404, 501}
GRPC_ALLOWED = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED", "FAILED_PRECONDITION", "OUT_OF_RANGE"}
RELOAD_ALLOWED = GRPC_ALLOWED | {"DEADLINE_EXCEEDED", "ALREADY_EXISTS", "UNAVAILABLE", "ABORTED"}


class Defect(Exception):  # noqa: N818  # what it says is what was found
    """An answer that no client's fault explains."""


class Target:
    """The three readers, each by its transport's name."""

    def __init__(self, folder: Path) -> None:
        make_models(folder / "models", "onnx")
        (folder / "models.config").write_text(make_config(folder / "models"))
        config = read_config(read_text_proto(folder / "models.config", ModelServerConfig))
        options = ManagerOptions(until_first_failure=True, allow_unavailable_labels=True)
        self._server = Server(ServerOptions(models=tuple(config or ()), port=0, manager=options))
        self._server.start()
        self._empty = Server(ServerOptions(models=None, port=0))  # the one that is reloaded
        self._empty.start()
        self._rest = RestApi(self._server.engine)
        self._grpc = GrpcMethods(self._server.engine)
        self._reload = GrpcMethods(self._empty.engine, reload=ReloadMethod(self._empty._manager))
        self._text = folder / "config.txt"
        self._ask = {REST: self._ask_rest, GRPC: self._ask_grpc, TEXT: self._ask_text}

    def __call__(self, data: bytes) -> str:
        """Ask; returns the answer's status."""
        kind, _, rest = data.partition(b"\n")
        line, _, body = rest.partition(b"\n")
        ask = self._ask.get(kind)
        return "none" if ask is None else ask(line.decode("latin1"), body)

    def _ask_rest(self, line: str, body: bytes) -> str:
        method, _, target = line.partition(" ")
        header, _, content = body.partition(b"\n")
        value = header.decode("latin1")
        response = self._rest.handle(Request(method, target, content, {"content-encoding": value, "origin": value}))
        if response.status not in HTTP_ALLOWED:
            raise Defect(f"REST answered {response.status}: {response.body[:300]!r}")
        return f"REST {response.status}"

    def _ask_grpc(self, path: str, request: bytes) -> str:
        is_reload = path == RELOAD
        code, details = _call(self._reload, path, request, 0.002) if is_reload else _call(self._grpc, path, request)
        if code not in (RELOAD_ALLOWED if is_reload else GRPC_ALLOWED):
            raise Defect(f"gRPC answered {code}: {details[:300]}")
        if path == PREDICT:
            with patch.object(grpc_methods, "_LARGE", 0):  # what large requests go through
                walked = _call(self._grpc, path, request)
            if walked != (code, details):
                raise Defect(f"gRPC answered {(code, details)}, and {walked} by the way for large requests")
        return f"gRPC {code}"

    def _ask_text(self, _: str, text: bytes) -> str:
        self._text.write_bytes(text)
        try:
            read_config(read_text_proto(self._text, ModelServerConfig))
        except StatusError as error:
            return f"text {error.code}"
        return "text OK"


def _call(methods: GrpcMethods, path: str, request: bytes, deadline: float = 30) -> tuple[str, str]:
    """The answer's code and details."""
    try:
        methods.unary(path, request, deadline=deadline)
    except StatusError as error:
        return error.code, error.details
    return "OK", ""


class Runner:
    """Counts inputs, watches over them, and ends the process at the first defect, or when it is enough."""

    def __init__(self, target: Callable[[bytes], str], folder: Path, inputs: int, seconds: float) -> None:
        self._target, self._folder, self._inputs = target, folder, inputs
        self._end = time.monotonic() + seconds
        self._count = 0
        self._answers: Counter[str] = Counter()
        self._began: float | None = None
        self._shared = _share(folder / "current")
        threading.Thread(target=self._watch, daemon=True).start()

    def __call__(self, data: bytes) -> None:
        data = data[:LARGEST]
        self._shared[INPUT_LENGTH_BYTES : INPUT_LENGTH_BYTES + len(data)] = data
        self._shared[:INPUT_LENGTH_BYTES] = len(data).to_bytes(INPUT_LENGTH_BYTES, "little")
        self._began = begin = time.monotonic()
        try:
            self._answers[self._target(data)] += 1
        except Defect as defect:
            self.end(str(defect))
        except BaseException as error:
            logging.getLogger().exception("raised")
            self.end(f"raised {error!r}")
        self._began = None
        self._count += 1
        now = time.monotonic()
        if now - begin > SLOW:
            self.end(f"took {now - begin:.1f} s")
        if self._count >= self._inputs or now > self._end:
            self.end("")
        if self._count % 50_000 == 0:
            print(f"{self._count:,} inputs", dict(self._answers), file=sys.stderr, flush=True)

    def end(self, defect: str) -> NoReturn:
        """Say what came of it, and end at once; libFuzzer has no other end."""
        result = {"inputs": self._count, "defect": defect, "answers": dict(self._answers.most_common())}
        (self._folder / "result.json").write_text(json.dumps(result))
        sys.stderr.flush()
        os._exit(1 if defect else 0)

    def _watch(self) -> None:
        while True:
            time.sleep(1)
            began = self._began
            if began is not None and time.monotonic() - began > 2 * SLOW:
                self.end(f"took more than {2 * SLOW} s")


def _share(path: Path) -> mmap.mmap:
    path.write_bytes(bytes(INPUT_LENGTH_BYTES + LARGEST))
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), 0)


def _run_random(run: Runner, seed: int) -> NoReturn:
    numbers = random.Random(seed)
    kept = seeds()
    first = len(kept)
    for each in kept:
        run(each)
    while True:
        chosen = kept if numbers.random() < 0.3 else kept[:first]
        data = mutate(numbers.choice(chosen), numbers.choice(kept), numbers)
        run(data)
        if numbers.random() < 0.1:  # changes pile up on some
            kept[first:] = [*kept[first:], data][-2000:]


def _run_coverage(run: Runner, seed: int, folder: Path) -> NoReturn:
    import atheris

    corpus = folder / "corpus"
    corpus.mkdir(exist_ok=True)
    known = seeds()
    for index, each in enumerate(known):
        (corpus / f"seed-{index}").write_bytes(each)

    def change(data: bytes, largest: int, number: int) -> bytes:
        numbers = random.Random(number)
        if numbers.random() < 0.3:
            return bytes(atheris.Mutate(data, largest))
        return mutate(data, numbers.choice(known), numbers)[:largest]

    flags = [
        f"-seed={seed + 1}",
        f"-max_len={LARGEST}",
        "-timeout=60",
        "-rss_limit_mb=0",
        "-len_control=0",
        f"-artifact_prefix={folder}/",
    ]
    atheris.Setup([sys.argv[0], *flags, str(corpus)], run, custom_mutator=change)
    atheris.Fuzz()
    raise AssertionError("libFuzzer ends the process")


def _instrument() -> None:
    """Before anything of ours is imported by name: coverage is counted in what reads bytes."""
    try:
        import atheris
    except ImportError:
        sys.exit("benchmarks/fuzz.py needs atheris for inputs led by coverage: pip install atheris, or --engine random")
    import keraship.serving.examples
    import keraship.serving.grpc_methods
    import keraship.serving.json_numbers
    import keraship.serving.json_read
    import keraship.serving.model_config
    import keraship.serving.prediction
    import keraship.serving.rest
    import keraship.serving.rest_examples
    import keraship.serving.rest_json
    import keraship.wire.read
    import keraship.wire.tensor

    modules: list[Any] = [
        keraship.serving.examples, keraship.serving.grpc_methods, keraship.serving.json_numbers,
        keraship.serving.json_read, keraship.serving.model_config, keraship.serving.prediction, keraship.serving.rest,
        keraship.serving.rest_examples, keraship.serving.rest_json, keraship.wire.read, keraship.wire.tensor,
    ]  # fmt: skip
    for module in modules:
        _instrument_module(module, atheris.instrument_func)


def _instrument_module(module: Any, instrument: Callable[[Any], Any]) -> None:
    """Its functions and methods, in place."""
    for owner in [module, *(each for each in vars(module).values() if isinstance(each, type))]:
        if getattr(owner, "__module__", module.__name__) != module.__name__:
            continue
        for each in list(vars(owner).values()):
            if hasattr(each, "__code__") and each.__module__ == module.__name__:
                instrument(each)


def main() -> None:
    engine, name, inputs, seconds, seed, *replay = sys.argv[1:]
    logging.basicConfig(level=logging.CRITICAL)
    logging.getLogger("keraship.serving.rest").setLevel(logging.ERROR)
    logging.getLogger("keraship.serving.grpc_methods").setLevel(logging.ERROR)
    if engine == "coverage":
        _instrument()
    with tempfile.TemporaryDirectory() as work:
        run = Runner(Target(Path(work)), Path(name), int(inputs), float(seconds))
        if replay:
            run(bytes.fromhex(Path(replay[0]).read_text()))
            run.end("")
        if engine == "coverage":
            _run_coverage(run, int(seed), Path(name))
        _run_random(run, int(seed))


if __name__ == "__main__":
    main()
