"""grpc.health.v1.Health, asked as grpcio's own stubs would write it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest


def test_health(serve: Any, tmp_path: Path, save_linear: Callable[..., Path]) -> None:
    """Known services serve, others are not found; a watcher learns of the end; the server ends with 0."""
    save_linear(tmp_path / "m", 1)
    server = serve("--model_name=m", f"--model_base_path={tmp_path}/m", "--enable_grpc_healthcheck_service")
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        for service in (b"", b"\n\x0cModelService", b"\n\x11PredictionService"):
            assert check(service, timeout=30) == b"\x08\x01"
        with pytest.raises(grpc.RpcError) as caught:
            check(b"\n\x02no", timeout=30)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        watched = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=60)
        assert next(watched) == b"\x08\x01"
        server.process.send_signal(signal.SIGTERM)
        assert next(watched) == b"\x08\x02"
    assert server.finish() == 0
