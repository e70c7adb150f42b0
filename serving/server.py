"""The server, put together: models first, then the ports; and how it ends."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from keraship.errors import ServerError
from keraship.serving.backend import Backend, BackendOptions, open_backend
from keraship.serving.config_poller import ConfigPoller
from keraship.serving.engine import Engine, EngineOptions
from keraship.serving.grpc_methods import GrpcMethods, GrpcOptions
from keraship.serving.manager import ManagerOptions, ModelManager
from keraship.serving.reload_method import ReloadMethod
from keraship.serving.repository import Repository, RepositoryOptions
from keraship.serving.request_log import RequestLog, RequestLogOptions
from keraship.serving.request_metrics import REGISTRY, counted_load, traffic
from keraship.serving.scheduling import SchedulingOptions, scheduled
from keraship.serving.servable import Servable
from keraship.serving.versions import ModelConfig
from keraship.serving.warmup import WarmupOptions, warm_up

if TYPE_CHECKING:
    import ssl

    from keraship.serving.grpc_server import GrpcTls
    from keraship.serving.rest import Page

_LOG = logging.getLogger(__name__)

GRACE_SECONDS = 30


@dataclass(frozen=True)
class ServerOptions:
    """Everything that can be said about a server.

    models: None where they come later, by a call. port, rest_port: 0 for none.
    config_file: read again every config_poll_seconds, where that is not 0.
    strict: a REST port that cannot be had is the end; otherwise gRPC is served without REST.
    rest_timeout: seconds; None for ever. ui, openapi: whether the REST port has the page for people and /openapi.json.
    metrics_path: where REST has the page for Prometheus; None for nowhere.
    grpc_health: whether gRPC has the service for health checks. grpc_tls, rest_tls: None for plain text.
    health_urls: whether REST has /livez and /readyz. list_models: whether GET /v1/models lists them.
    drain_seconds: how long the end is announced by /readyz before no more requests are taken.
    request_log: None to keep no requests.
    """

    models: tuple[ModelConfig, ...] | None
    config_file: str = ""
    config_poll_seconds: float = 0
    port: int = 8500
    socket_path: str = ""
    rest_port: int = 0
    grpc_threads: int = 8
    rest_threads: int = 8
    rest_timeout: float | None = 30
    rest_cors: bool = False
    ui: bool = False
    openapi: bool = False
    channel_arguments: dict[str, int | str] = field(default_factory=dict)
    strict: bool = True
    manager: ManagerOptions = field(default_factory=lambda: ManagerOptions(until_first_failure=True))
    repository: RepositoryOptions = field(default_factory=RepositoryOptions)
    backend: BackendOptions = field(default_factory=BackendOptions)
    scheduling: SchedulingOptions = field(default_factory=SchedulingOptions)
    engine: EngineOptions = field(default_factory=EngineOptions)
    grpc: GrpcOptions = field(default_factory=GrpcOptions)
    warmup: WarmupOptions = field(default_factory=WarmupOptions)
    metrics_path: str | None = None
    grpc_health: bool = False
    grpc_tls: GrpcTls | None = None
    rest_tls: ssl.SSLContext | None = None
    health_urls: bool = False
    list_models: bool = False
    drain_seconds: float = 0
    request_log: RequestLogOptions | None = None


class Server:
    """A running server.

        with Server(ServerOptions(models=(ModelConfig("digits", Path("/repo/digits")),))) as server:
            server.start()
            ...   # answers, in threads of its own, until the block ends

    Raises ServerError where a port cannot be had or a model cannot be loaded.
    """

    def __init__(self, options: ServerOptions) -> None:
        self._options = options
        repository = Repository(self._load, options.repository)
        self._manager = ModelManager(repository, options.manager)
        self._poller = ConfigPoller(options.config_file, options.config_poll_seconds, self._manager)
        self.engine = Engine(repository, options.engine)
        self._grpc: Any = None
        self._rest: Any = None
        self._ended = threading.Event()
        self._log = RequestLog(options.request_log) if options.request_log else None

    def start(self) -> None:
        """Load the models, wait for them, open the ports."""
        self._manager.start(self._options.models)
        if self._ended.is_set():
            return
        if self._options.config_file and self._options.config_poll_seconds > 0:
            self._poller.start()
        if self._options.port or self._options.socket_path:
            self._start_grpc()
        if self._options.rest_port:
            self._start_rest()

    def wait(self) -> None:
        """Return once `end` was called."""
        self._ended.wait()

    def end(self) -> None:
        """Let `wait` return, and `start` too where it still waits for models; may be called by a signal's handler."""
        self._ended.set()
        self._manager.end_waiting()

    def close(self) -> bool:
        """Take no more requests, finish those under way, unload the models; False where a load was left behind."""
        self.end()
        self._poller.close()
        if self._grpc or self._rest:
            time.sleep(self._options.drain_seconds)
        finish_grpc = self._grpc.stop(GRACE_SECONDS) if self._grpc else None
        if self._rest:
            self._rest.stop()
        if finish_grpc:
            finish_grpc()
        if self._log:
            self._log.close()
        return self._manager.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _load(self, name: str, version: int, path: Path) -> Servable:
        with counted_load(str(path)):
            servable = Servable(name, version, self._open(path), path)
        try:
            warm_up(servable, path, self._options.warmup)
        except BaseException:
            servable.backend.close()
            raise
        return servable

    def _open(self, path: Path) -> Backend:
        backend = open_backend(path, self._options.backend)
        try:
            return scheduled(backend, path, self._options.scheduling)
        except BaseException:
            backend.close()
            raise

    def _start_grpc(self) -> None:
        from keraship.serving.grpc_server import GrpcServer, GrpcServerOptions

        options = self._options
        self._grpc = GrpcServer(
            GrpcMethods(
                self.engine, options.grpc, reload=ReloadMethod(self._manager, REGISTRY.first_value), log=self._log
            ),
            GrpcServerOptions(
                options.port,
                options.socket_path,
                options.grpc_threads,
                options.channel_arguments,
                options.grpc_health,
                options.grpc_tls,
            ),
        )
        self._grpc.start()
        if options.port:
            _LOG.info("Running gRPC ModelServer at 0.0.0.0:%d ...", options.port)
        if options.socket_path:
            _LOG.info("Running gRPC ModelServer at UNIX socket %s ...", options.socket_path)

    def _start_rest(self) -> None:
        port = self._options.rest_port
        if port == self._options.port:
            _LOG.error(
                "server_options.http_port cannot be same as grpc_port. Please use a different port for HTTP/REST API. "
                "Skipped exporting HTTP/REST API."
            )
            return
        try:
            self._rest = self._make_rest(port)
        except ServerError as error:
            if self._options.strict:
                raise
            _LOG.error("Failed to start HTTP Server at localhost:%d: %s", port, error)
            return
        self._rest.start()
        _LOG.info("Exporting HTTP/REST API at:localhost:%d ...", port)

    def _make_rest(self, port: int) -> Any:
        from keraship.serving.rest import RestApi, RestOptions, wsgi_app
        from keraship.serving.rest_server import RestServer

        options = self._options
        api = RestApi(
            self.engine,
            RestOptions(options.rest_timeout, cors=options.rest_cors, list_models=options.list_models),
            list(self._pages()),
            self._placed(),
            self._log,
        )
        return RestServer(wsgi_app(api), port, threads=options.rest_threads, tls=options.rest_tls)

    def _placed(self) -> dict[str, Page]:
        from keraship.serving.monitoring import metrics_page

        path = self._options.metrics_path
        return {} if path is None else {path: metrics_page(path, REGISTRY.text)}

    def _pages(self) -> Iterator[Page]:
        if self._options.health_urls:
            from keraship.serving.health_pages import health_page

            yield health_page(self.engine.models, self._ended.is_set)
        if self._options.ui:
            from keraship.serving.ui import Ui

            yield Ui(self.engine, traffic)
        if self._options.openapi:
            from keraship.serving.openapi import OpenApi

            yield OpenApi(self.engine, f"http://localhost:{self._options.rest_port}")


def end_on_signals(server: Server) -> None:
    """SIGTERM and SIGINT end the server in good order; a second one at once."""

    def first(number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        _LOG.info("%s: finishing what is under way", signal.Signals(number).name)
        server.end()

    signal.signal(signal.SIGTERM, first)
    signal.signal(signal.SIGINT, first)
