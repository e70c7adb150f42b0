"""`keraship serve`: takes the place of tensorflow_model_server, or serves a whole repository."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from keraship import __version__
from keraship.bundle import model_names
from keraship.cli import print_json
from keraship.errors import BundleError, InvalidArgument, ServerError, StatusError
from keraship.extras import require
from keraship.serving import config
from keraship.serving.config import BadFlag, Flags
from keraship.serving.status import text
from keraship.serving.text_proto import BadTextProto
from keraship.serving.versions import ModelConfig

_REST_PORT = 8501
_FAILED = 255  # tensorflow_model_server's status for a start that failed


class _Command(click.Command):
    """Its flags are tensorflow_model_server's, which click cannot parse: they are shown here and read in `config`."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, flags in (("tensorflow_model_server's flags", config.FLAGS), ("Flags of our own", config.OWN_FLAGS)):
            with formatter.section(title):
                formatter.write_dl([(f"--{flag.name}={flag.default}", flag.effect) for flag in flags if flag.effect])
        others = ", ".join(f"--{flag.name}" for flag in config.FLAGS if not flag.effect)
        with formatter.section("Taken, and without effect"):
            formatter.write_text(others)


@click.command(
    cls=_Command,
    options_metavar="[FLAGS]",
    add_help_option=True,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": True},
)
@click.argument("args", metavar="[REPO]", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def serve(ctx: click.Context, args: tuple[str, ...]) -> None:
    """Serve models over gRPC and REST, under TensorFlow Serving's API.

    REPO is a folder of models, each a folder of versions; all of them are served, gRPC at 8500 and REST at 8501. Or
    name the models as for tensorflow_model_server. A flag and its value are one word: --port=8500. SIGTERM finishes
    what is under way and ends with 0.

    \b
    Example:
      keraship serve repo
      keraship serve --port=8500 --rest_api_port=8501 --model_name=digits --model_base_path=/models/digits
    """
    ctx.exit(_serve(list(args)))


def _serve(args: list[str]) -> int:
    try:
        flags = config.parse_flags(args)
    except BadFlag as error:
        if _names_repository(args):
            raise click.UsageError(str(error)) from error
        click.echo(f"{error}\n{config.usage()}")
        return _FAILED
    if flags.on("version"):
        click.echo(f"TensorFlow ModelServer: {__version__}+keraship\nTensorFlow Library: {_tensorflow_version()}")
        return 0
    _log_to_stderr()
    if not flags.text("model_base_path") and not flags.text("model_config_file"):
        repositories = [arg for arg in flags.unknown if not arg.startswith("-")]
        if repositories:
            return _serve_repository(flags, repositories)
    return _serve_as_tensorflow_does(flags)


def _names_repository(args: list[str]) -> bool:
    """Whether these are our own words, and not those of tensorflow_model_server."""
    theirs = ("--model_base_path", "--model_config_file")
    return not any(arg.startswith(theirs) for arg in args) and not all(arg.startswith("-") for arg in args)


def _serve_repository(flags: Flags, repositories: list[str]) -> int:
    strange = [arg for arg in flags.unknown if arg.startswith("-")]
    if strange:
        raise click.UsageError(f"unknown argument: {strange[0]}; {config.suggestion(strange[0])}")
    if len(repositories) > 1:
        raise click.UsageError(
            f"expected one REPO; got {' '.join(repositories)} (a flag and its value are one word: --port=8500)"
        )
    if "rest_api_port" not in flags.given:
        flags = Flags({**flags.values, "rest_api_port": _REST_PORT}, flags.given)
    if not flags.number("port") and not flags.text("grpc_socket_path") and not flags.number("rest_api_port"):
        raise click.UsageError("expected a port for gRPC or for REST; both are 0")
    from keraship.serving.manager import ModelsFailedError

    models = _models_of(Path(repositories[0]))
    try:
        _run(flags, models, strict=True)
    except ModelsFailedError as error:
        if len(models) == 1:
            raise
        raise ServerError(f"{error}; --serve_what_loads serves the other models") from error
    return 0


def _models_of(repository: Path) -> list[ModelConfig]:
    try:
        names = model_names(repository)
    except BundleError as error:
        raise ServerError(str(error)) from error
    if not names:
        raise ServerError(
            f"expected models in {repository}, as in {repository / 'digits' / '1'}; found none. "
            "keraship export MODEL.keras --to REPO makes one"
        )
    return [ModelConfig(name, repository.resolve() / name) for name in names]


def _serve_as_tensorflow_does(flags: Flags) -> int:
    for arg in flags.unknown:
        click.echo(f"unknown argument: {arg}")
    if flags.unknown:
        click.echo(config.usage())
    from keraship.serving.manager import ModelsFailedError

    try:
        config.check_flags(flags)
        config.channel_arguments(flags)
        _run(flags, config.read_models(flags), strict=False)
    except StatusError as error:
        if isinstance(error, BadTextProto):
            click.echo(error.log_line, err=True)
        return _failed_to_start(text(error))
    except ModelsFailedError as error:
        return _failed_to_start(f"UNKNOWN: {error}")
    except ServerError as error:
        click.echo(f"keraship: {error}", err=True)
        return _failed_to_start("INVALID_ARGUMENT: Failed to BuildAndStart gRPC server")
    return 0


def _failed_to_start(why: str) -> int:
    click.echo(f"Failed to start server. Error: {why}")
    return _FAILED


def _run(flags: Flags, models: Sequence[ModelConfig] | None, *, strict: bool) -> None:
    from keraship.serving.memory import keep_large_blocks_apart
    from keraship.serving.server import Server, end_on_signals

    keep_large_blocks_apart()
    if flags.number("rest_api_port"):
        require("serve", "flask", "uvicorn", "httptools")
    for name in config.without_effect(flags):
        logging.getLogger(__name__).warning("--%s has no effect yet", name)
    server = Server(_options(flags, models, strict=strict))
    end_on_signals(server)
    try:
        server.start()
        if flags.on("json"):
            print_json(_report(flags, models or ()))
        server.wait()
    finally:
        all_ended = server.close()
    if not all_ended:  # the runtime that is loading a model must not see the interpreter go from under it
        logging.shutdown()
        sys.stdout.flush()
        os._exit(0)


def _options(flags: Flags, models: Sequence[ModelConfig] | None, *, strict: bool) -> Any:
    from keraship.serving.backend import BackendOptions
    from keraship.serving.engine import EngineOptions
    from keraship.serving.grpc_methods import GrpcOptions
    from keraship.serving.manager import ManagerOptions
    from keraship.serving.monitoring import read_monitoring
    from keraship.serving.repository import RepositoryOptions
    from keraship.serving.server import ServerOptions
    from keraship.serving.warmup import WarmupOptions

    timeout_ms, both = flags.number("rest_api_timeout_in_ms"), flags.number("tensorflow_session_parallelism")
    return ServerOptions(
        models=None if models is None else tuple(models),
        config_file=flags.text("model_config_file"),
        config_poll_seconds=flags.number("model_config_file_poll_wait_seconds"),
        port=flags.number("port"),
        socket_path=flags.text("grpc_socket_path"),
        rest_port=flags.number("rest_api_port"),
        grpc_threads=max(flags.number("grpc_max_threads"), 1),
        rest_threads=max(flags.number("rest_api_num_threads"), 1),
        rest_timeout=timeout_ms / 1000 if timeout_ms > 0 else None,
        rest_cors=flags.on("rest_api_enable_cors_support"),
        metrics_path=read_monitoring(flags.text("monitoring_config_file")) if flags.number("rest_api_port") else None,
        ui=flags.on("ui"),
        openapi=flags.on("openapi") or flags.on("ui"),
        channel_arguments=config.channel_arguments(flags),
        grpc_health=flags.on("enable_grpc_healthcheck_service"),
        strict=strict,
        manager=ManagerOptions(
            poll_seconds=flags.number("file_system_poll_wait_seconds"),
            allow_unavailable_labels=flags.on("allow_version_labels_for_unavailable_models"),
            until_first_failure=strict,
            serve_what_loads=flags.on("serve_what_loads"),
        ),
        repository=RepositoryOptions(
            load_retries=flags.number("max_num_load_retries"),
            retry_seconds=flags.number("load_retry_interval_micros") / 1e6,
            load_threads=flags.number("num_load_threads"),
            unload_threads=flags.number("num_unload_threads"),
            show_failures=flags.on("serve_what_loads"),
        ),
        backend=BackendOptions(
            kind=flags.text("backend") or None,
            tags=tuple(flags.text("saved_model_tags").split(",")),
            intra_op=both or flags.number("tensorflow_intra_op_parallelism"),
            inter_op=both or flags.number("tensorflow_inter_op_parallelism"),
            session_config=config.session_config(flags),
            op_libraries=config.op_libraries(flags),
            prefer_tflite=flags.on("prefer_tflite_model"),
            tflite_interpreters=flags.number("num_tflite_pools"),
        ),
        grpc_tls=_grpc_tls(flags),
        rest_tls=_rest_tls(flags),
        health_urls=flags.on("health_urls"),
        list_models=flags.on("list_models"),
        drain_seconds=flags.number("drain_seconds"),
        request_log=_request_log(flags),
        scheduling=_scheduling(flags),
        engine=EngineOptions(check_method=flags.on("enable_signature_method_name_check")),
        grpc=GrpcOptions(tensor_content=flags.on("enable_serialization_as_tensor_content")),
        warmup=WarmupOptions(
            flags.on("enable_model_warmup"),
            flags.number("num_request_iterations_for_warmup"),
            check_method=flags.on("enable_signature_method_name_check"),
        ),
    )


def _grpc_tls(flags: Flags) -> Any:
    path = flags.text("ssl_config_file")
    if not path:
        return None
    from keraship.serving.tls import read_grpc_tls

    return read_grpc_tls(path)


def _rest_tls(flags: Flags) -> Any:
    certificate, key = flags.text("rest_ssl_certificate_file"), flags.text("rest_ssl_key_file")
    if bool(certificate) != bool(key):
        raise InvalidArgument("expected both of --rest_ssl_certificate_file and --rest_ssl_key_file; got one")
    if not certificate:
        return None
    from keraship.serving.tls import read_rest_tls

    return read_rest_tls(certificate, key, flags.text("rest_ssl_client_ca_file"))


def _request_log(flags: Flags) -> Any:
    from keraship.serving.request_log import RequestLogOptions

    folder, sampling = flags.text("request_log_dir"), float(flags.values["request_log_sampling"])
    if not 0 <= sampling <= 1:
        raise InvalidArgument(f"expected --request_log_sampling from 0 to 1; got {sampling}")
    return RequestLogOptions(Path(folder), sampling) if folder else None


def _scheduling(flags: Flags) -> Any:
    from keraship.serving.batch_session import BatchingOptions, read_batching
    from keraship.serving.scheduling import SchedulingOptions

    file = flags.text("batching_parameters_file")
    batching = read_batching(file) if file else BatchingOptions()
    return SchedulingOptions(
        batching=batching if flags.on("enable_batching") else None,
        per_version=flags.on("enable_per_model_batching_parameters"),
    )


def _report(flags: Flags, models: Sequence[ModelConfig]) -> dict[str, Any]:
    port, rest_port = flags.number("port"), flags.number("rest_api_port")
    return {
        "grpc": f"localhost:{port}" if port else None,
        "rest": f"http://localhost:{rest_port}" if rest_port else None,
        "models": [model.name for model in models],
    }


def _tensorflow_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("tensorflow")
    except PackageNotFoundError:
        return "not installed"


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s.%(msecs)03d: %(levelname).1s %(message)s", "%Y-%m-%d %H:%M:%S"))
    log = logging.getLogger("keraship.serving")
    log.setLevel(logging.INFO)
    log.handlers[:] = [handler]
    log.propagate = False
