"""What the client costs beside the bare wire and beside tensorflow-serving-api: `python benchmarks/client.py [--json]`.

Everything that is compared is measured in the same run, in turns. Of each way the fastest tenth counts, for whatever
else the machine does only adds; the medians stand beside it:

- start: import and first call, seconds and peak memory, in fresh processes;
- call: `Client.predict` beside the same bytes through a bare grpcio channel: bytes that are there already, and bytes
  that are made anew by one copy of the array, which no client can do without;
- codec: a request written and a response read, beside tf.make_tensor_proto and tf.make_ndarray;
- async: calls a second of AsyncClient with 32 in flight, beside 32 threads on tensorflow-serving-api's stubs.

The server is a process that answers bytes made before, so that what is measured is the client's side.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

SIZES = {"3 KB": 768, "600 KB": 150_000, "10 MB": 2_500_000}
TARGETS = {
    "start seconds": 1.0, "start MB": 70.0, "import seconds / stubs": 0.1, "import MB / stubs": 0.1,
    "call / bare": 1.1, "stubs / encode": 5.0, "stubs / decode": 5.0, "async / threads on stubs": 2.5,
}  # fmt: skip
PREDICT = "/tensorflow.serving.PredictionService/Predict"
METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"

OURS = "import keraship.client"
STUBS = "from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc"
OUR_CALL = """
import numpy as np
from keraship.client import Client
with Client({address!r}, "floats") as client:
    client.predict(np.zeros((1, 768), np.float32))
"""
STUBS_CALL = """
import grpc, numpy as np, tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
stub = prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel({address!r}))
request = predict_pb2.PredictRequest()
request.model_spec.name = "floats"
request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.zeros((1, 768), np.float32)))
tf.make_ndarray(stub.Predict(request, 60).outputs["y"])
"""


def start(address: str) -> Iterator[tuple[str, Any]]:
    """Seconds and megabytes of fresh processes, the interpreter's own included."""
    ours = [_process(OURS) for _ in range(5)]
    call = [_process(OUR_CALL.format(address=address)) for _ in range(5)]
    stubs = [_process(STUBS) for _ in range(2)]
    stubs_call = [_process(STUBS_CALL.format(address=address))]
    bare = [_process("pass") for _ in range(5)]
    seconds, megabytes = _median(call)
    yield (
        "start",
        {
            "python alone": _median(bare),
            "import keraship.client": _median(ours),
            "import and first call": (seconds, megabytes),
            "import of the stubs": _median(stubs),
            "import and first call of the stubs": _median(stubs_call),
        },
    )
    yield "start seconds", seconds
    yield "start MB", megabytes
    yield "import seconds / stubs", _median(ours)[0] / _median(stubs)[0]
    yield "import MB / stubs", _median(ours)[1] / _median(stubs)[1]


def call(address: str) -> Iterator[tuple[str, Any]]:
    """The same request and answer, with and without the client."""
    import grpc

    from keraship.client import Client

    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with Client(address, "floats") as client, grpc.insecure_channel(address, options=options) as channel:
        bare = channel.unary_unary(PREDICT)
        for name, count in SIZES.items():
            array = np.random.default_rng(0).random((1, count), np.float32)
            request = _request(array)
            start = request[: len(request) - array.nbytes]
            times = _in_turns(
                {
                    "bare": lambda request=request: bare(request, timeout=60),
                    "one copy": lambda array=array, start=start: bare(b"".join((start, array)), timeout=60),
                    "client": lambda array=array: client.predict({"x": array}),
                },
                seconds=6.0,
            )
            yield f"call {name}", _microseconds(times)
            yield f"call / bare {name}", _ratio(times, "client", "bare")
            yield f"call / one copy {name}", _ratio(times, "client", "one copy")


def codec() -> Iterator[tuple[str, Any]]:
    """Bytes from an array, an array from bytes (in tensor_content, and in float_val as TensorFlow Serving answers)."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    from keraship.client import messages
    from keraship.client.results import Target
    from keraship.wire import to_tensor
    from keraship.wire.messages import PredictResponse

    target = Target("floats")

    def encode_stubs(array: np.ndarray[Any, Any]) -> bytes:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "floats"
        request.model_spec.signature_name = "serving_default"
        request.inputs["x"].CopyFrom(tf.make_tensor_proto(array))
        data: bytes = request.SerializeToString()
        return data

    def encode(array: np.ndarray[Any, Any]) -> bytes:
        return messages.predict_call(target, {"x": array}, signature_name="serving_default").body

    for name, count in SIZES.items():
        array = np.random.default_rng(0).random((1, count), np.float32)
        assert encode(array) == encode_stubs(array)
        times = _in_turns({"ours": lambda a=array: encode(a), "stubs": lambda a=array: encode_stubs(a)}, seconds=2.0)
        yield f"encode {name}", _microseconds(times)
        yield f"stubs / encode {name}", _ratio(times, "stubs", "ours")
        for encoding in ("tensor_content", "values"):
            response = PredictResponse()
            to_tensor(array, encoding=encoding, into=response.outputs["y"])  # type: ignore[arg-type]
            data = response.SerializeToString()
            times = _in_turns(
                {
                    "ours": lambda d=data: messages.read_prediction(d)["y"],
                    "stubs": lambda d=data: tf.make_ndarray(predict_pb2.PredictResponse.FromString(d).outputs["y"]),
                },
                seconds=2.0,
            )
            yield f"decode {name}, {encoding}", _microseconds(times)
            yield f"stubs / decode {name}, {encoding}", _ratio(times, "stubs", "ours")


def asynchronous(address: str, *, in_flight: int = 32, calls: int = 2000) -> Iterator[tuple[str, Any]]:
    """Calls a second, arrays in and arrays out, in turns of `calls`."""
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    from keraship.client import AsyncClient

    for name in ("3 KB", "600 KB"):
        array = np.random.default_rng(0).random((1, SIZES[name]), np.float32)
        count = calls if name == "3 KB" else calls // 10

        async def ours(array: np.ndarray[Any, Any] = array, count: int = count) -> float:
            async with AsyncClient(address, "floats") as client:
                await client.predict({"x": array})
                left = iter(range(count))

                async def work() -> None:
                    for _ in left:
                        (await client.predict({"x": array})).array  # noqa: B018  # what users do

                begin = time.perf_counter()
                await asyncio.gather(*(work() for _ in range(in_flight)))
                return count / (time.perf_counter() - begin)

        def stubs(array: np.ndarray[Any, Any] = array, count: int = count) -> float:
            options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
            with grpc.insecure_channel(address, options=options) as channel, ThreadPoolExecutor(in_flight) as pool:
                stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

                def ask(_: int) -> Any:
                    request = predict_pb2.PredictRequest()
                    request.model_spec.name = "floats"
                    request.inputs["x"].CopyFrom(tf.make_tensor_proto(array))
                    return tf.make_ndarray(stub.Predict(request, 60).outputs["y"])

                list(pool.map(ask, range(in_flight)))
                begin = time.perf_counter()
                list(pool.map(ask, range(count)))
                return count / (time.perf_counter() - begin)

        rates = [(asyncio.run(ours()), stubs()) for _ in range(3)]
        one, other = (statistics.median(side) for side in zip(*rates, strict=True))
        yield f"async {name}, {in_flight} in flight", {"AsyncClient calls/s": one, "threads on stubs calls/s": other}
        yield f"async / threads on stubs {name}", one / other


# How it is measured.


@dataclass(frozen=True)
class _Times:
    """Seconds of one way."""

    fastest_tenth: float
    median: float


def _in_turns(ways: dict[str, Callable[[], Any]], *, seconds: float) -> dict[str, _Times]:
    """The times of each way, taken in turns until the seconds are over: what disturbs one disturbs all."""
    for way in ways.values():
        for _ in range(3):
            way()
    times: dict[str, list[float]] = {name: [] for name in ways}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or min(map(len, times.values())) < 15:
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - begin)
    return {
        name: _Times(statistics.mean(sorted(found)[: max(len(found) // 10, 1)]), statistics.median(found))
        for name, found in times.items()
    }


def _microseconds(times: dict[str, _Times]) -> dict[str, float]:
    found = {f"{name} us": each.fastest_tenth * 1e6 for name, each in times.items()}
    return found | {f"{name} median us": each.median * 1e6 for name, each in times.items()}


def _ratio(times: dict[str, _Times], one: str, other: str) -> float:
    return times[one].fastest_tenth / times[other].fastest_tenth


def _process(code: str) -> tuple[float, float]:
    """Seconds and peak megabytes of a fresh interpreter that runs `code`."""
    script = f"{code}\nimport resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd="/", env=dict(os.environ)
    )
    return time.perf_counter() - begin, int(done.stdout.split()[-1]) / 1024


def _median(found: list[tuple[float, float]]) -> tuple[float, float]:
    seconds, megabytes = zip(*found, strict=True)
    return statistics.median(seconds), statistics.median(megabytes)


def _request(array: np.ndarray[Any, Any]) -> bytes:
    from keraship.client import messages
    from keraship.client.results import Target

    return messages.predict_call(Target("floats"), {"x": array}, signature_name="serving_default").body


@contextmanager
def _server() -> Iterator[str]:
    with subprocess.Popen(
        [sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield f"127.0.0.1:{process.stdout.readline().strip()}"
        process.terminate()


async def _serve() -> None:
    """An answer of as many floats as came, in float_val, as TensorFlow Serving answers; made once for each size."""
    import grpc

    from keraship.signature import Signature, TensorSpec
    from keraship.wire import to_tensor
    from keraship.wire.messages import GetModelMetadataResponse, PredictResponse
    from keraship.wire.signatures import to_signature_def_map

    answers: dict[int, bytes] = {}
    for count in SIZES.values():
        response = PredictResponse()
        array = np.random.default_rng(1).random((1, count), np.float32)
        to_tensor(array, encoding="values", into=response.outputs["y"])
        response.model_spec.name = "floats"
        response.model_spec.version.value = 1
        answers[count // 64] = response.SerializeToString()
    spec = TensorSpec("x", "float32", (None, None))
    metadata = GetModelMetadataResponse()
    metadata.model_spec.version.value = 1
    map_ = to_signature_def_map({"serving_default": Signature((spec,), (TensorSpec("y", "float32", (None, None)),))})
    metadata.metadata["signature_def"].value = map_.SerializeToString()
    known = metadata.SerializeToString()

    async def predict(request: bytes, _context: Any) -> bytes:
        return answers[len(request) // 256]

    async def tell(_request: bytes, _context: Any) -> bytes:
        return known

    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    server = grpc.aio.server(options=options)
    handlers = {
        "Predict": grpc.unary_unary_rpc_method_handler(predict),
        "GetModelMetadata": grpc.unary_unary_rpc_method_handler(tell),
    }
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("tensorflow.serving.PredictionService", handlers)]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


PARTS: dict[str, Callable[[str], Iterator[tuple[str, Any]]]] = {
    "start": start, "call": call, "codec": lambda _address: codec(), "async": asynchronous,
}  # fmt: skip


def line(name: str, value: Any) -> str:
    """For people; a figure with a target says whether it is met."""
    if isinstance(value, dict):
        parts = ", ".join(f"{key} {_shown(each)}" for key, each in value.items())
        return f"{name:36} {parts}"
    target = next((goal for start_, goal in TARGETS.items() if name.startswith(start_)), None)
    if target is None:
        return f"{name:36} {value:9.3g}"
    is_met = value >= target if target > 2 and "/" in name else value <= target
    return f"{name:36} {value:9.3g}   target {target:g} {'met' if is_met else 'MISSED'}"


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return f"{value[0]:.2f} s {value[1]:.0f} MB"
    return f"{value:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, help="one part")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        asyncio.run(_serve())
        return
    found: dict[str, Any] = {}
    with _server() as address:
        for part, measure in PARTS.items():
            if args.only in (None, part):
                for name, value in measure(address):
                    found[name] = value
                    if not args.json:
                        print(line(name, value), flush=True)
    if args.json:
        print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
