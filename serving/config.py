"""tensorflow_model_server's flags, and the files that they name.

Source: tensorflow_serving/model_servers/main.cc, server.cc, server_core.cc.
"""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from keraship.errors import InvalidArgument
from keraship.extras import require
from keraship.serving.model_config import read_config, single_model
from keraship.serving.text_proto import read_text_proto
from keraship.serving.versions import ModelConfig
from keraship.wire.messages import ModelServerConfig

_LOG = logging.getLogger(__name__)

_CORES = os.cpu_count() or 1
_INT32 = range(-(2**31), 2**31)
_INT64 = range(-(2**63), 2**63)
_PORTS = range(2**16)

Value = bool | int | float | str


@dataclass(frozen=True)
class Flag:
    """One flag. effect: what it does here; "" where it is taken and has none yet."""

    name: str
    default: Value
    effect: str = ""
    limits: range = _INT32


FLAGS = (
    Flag("port", 8500, "gRPC port; 0 for none", _PORTS),
    Flag("grpc_socket_path", "", "gRPC on a unix socket too"),
    Flag("rest_api_port", 0, "REST port; 0 for none (8501 with REPO)", _PORTS),
    Flag("rest_api_num_threads", 4 * _CORES, "REST requests at once"),
    Flag("rest_api_timeout_in_ms", 30000, "how long a REST prediction may take"),
    Flag("rest_api_enable_cors_support", False, "let pages of other sites ask"),
    Flag("enable_batching", False, "batch with a timer and the parameters below, as TensorFlow Serving does"),
    Flag("allow_version_labels_for_unavailable_models", False, "new labels may point to versions that are not loaded"),
    Flag("batching_parameters_file", "", "text BatchingParameters"),
    Flag("enable_per_model_batching_parameters", False, "a version's batching_params.pbtxt comes first"),
    Flag("model_config_file", "", "text ModelServerConfig; replaces the two flags below"),
    Flag("model_config_file_poll_wait_seconds", 0, "between two looks at the config file; 0 never"),
    Flag("model_name", "default", "the model's name"),
    Flag("model_base_path", "", "the folder that holds its versions, absolute"),
    Flag("num_load_threads", 0, "loads at once after the start; 0 for 4 a core"),
    Flag("num_unload_threads", 0, "unloads at once; 0 for 4 a core"),
    Flag("max_num_load_retries", 5, "tries after a load that failed"),
    Flag("load_retry_interval_micros", 60_000_000, "pause between them", _INT64),
    Flag("file_system_poll_wait_seconds", 1, "between two looks for versions; 0 once, -1 never"),
    Flag("flush_filesystem_caches", True),
    Flag("tensorflow_session_parallelism", 0, "sets both of the next", _INT64),
    Flag("tensorflow_session_config_file", "", "text ConfigProto of TensorFlow's sessions"),
    Flag("tensorflow_intra_op_parallelism", 0, "threads within an operation (ONNX: 1 without it)", _INT64),
    Flag("tensorflow_inter_op_parallelism", 0, "operations of a run at once (ONNX: 1 without it)", _INT64),
    Flag("use_alts_credentials", False),
    Flag("ssl_config_file", "", "text SSLConfig: gRPC over TLS"),
    Flag("platform_config_file", ""),
    Flag("per_process_gpu_memory_fraction", 0.0),
    Flag("saved_model_tags", "serve", "which graph of a SavedModel, comma list"),
    Flag("grpc_channel_arguments", "", "gRPC's own settings, k=v,k=v"),
    Flag("grpc_max_threads", 4 * _CORES, "gRPC calls at once"),
    Flag("enable_model_warmup", True, "run a version's recorded requests before it is served"),
    Flag("num_request_iterations_for_warmup", 0, "how often each of them is run"),
    Flag("version", False, "print the version and end"),
    Flag("monitoring_config_file", "", "text MonitoringConfig: a page for Prometheus"),
    Flag("remove_unused_fields_from_bundle_metagraph", True),
    Flag("prefer_tflite_model", False, "run a version's model.tflite where it has one"),
    Flag("num_tflite_pools", _CORES, "runs of a model.tflite at once"),
    Flag("num_tflite_interpreters_per_pool", 1),
    Flag("enable_signature_method_name_check", False, "refuse Predict on signatures made for other things"),
    Flag("xla_cpu_compilation_enabled", False),
    Flag("xla_gpu_compilation_enabled", False),
    Flag("enable_profiler", True),
    Flag("thread_pool_factory_config_file", ""),
    Flag("mixed_precision", ""),
    Flag("skip_initialize_tpu", False),
    Flag("enable_grpc_healthcheck_service", False, "grpc.health.v1.Health beside the API"),
    Flag("enable_serialization_as_tensor_content", False, "gRPC answers in tensor_content"),
)  # fmt: skip

OWN_FLAGS = (
    Flag(
        "backend",
        "",
        "onnx, tensorflow or tflite; without it, ONNX where a version has model.onnx with all its signatures",
    ),
    Flag("op_library", "", "files with more operations for TensorFlow's models, comma list"),
    Flag("serve_what_loads", False, "a model that is missing or broken keeps no other one from being served"),
    Flag("rest_ssl_certificate_file", "", "REST over TLS: the certificate, as PEM"),
    Flag("rest_ssl_key_file", "", "and its key"),
    Flag("rest_ssl_client_ca_file", "", "and who signs the certificates that clients then must show"),
    Flag("health_urls", False, "/livez and /readyz at the REST port"),
    Flag("list_models", False, "GET /v1/models lists the models and their versions"),
    Flag("request_log_dir", "", "keep requests and answers there, as TFRecords that a version can be warmed up with"),
    Flag("request_log_sampling", 1.0, "which share of them, from 0 to 1"),
    Flag("drain_seconds", 0, "how long /readyz says no before SIGTERM ends the taking of requests"),
    Flag("json", False, "print addresses and models as JSON once all is served"),
    Flag("ui", False, "a page for people at the REST port: models, versions, signatures, and a form to try them"),
    Flag("openapi", False, "/openapi.json at the REST port describes the REST API of these models; --ui brings it too"),
)
"""What tensorflow_model_server does not have."""

_BY_NAME = {flag.name: flag for flag in (*FLAGS, *OWN_FLAGS)}


class BadFlag(Exception):  # noqa: N818 - it is answered by the usage, not raised to anybody
    """A value that its flag cannot take."""


@dataclass(frozen=True)
class Flags:
    """The command line, read. given: those that were there. unknown: arguments that are no flag, as they came."""

    values: dict[str, Value]
    given: frozenset[str] = frozenset()
    unknown: tuple[str, ...] = ()

    def text(self, name: str) -> str:
        """A flag that holds text."""
        return str(self.values[name])

    def number(self, name: str) -> int:
        """A flag that holds a whole number."""
        return int(self.values[name])

    def on(self, name: str) -> bool:
        """A flag that is on or off."""
        return bool(self.values[name])


def parse_flags(args: Sequence[str]) -> Flags:
    """Read `--flag=value`; for switches `--flag` too. Raises BadFlag for a value that its flag cannot take."""
    values = {name: flag.default for name, flag in _BY_NAME.items()}
    given, unknown = set(), []
    for arg in args:
        name, equals, text = arg.removeprefix("--").partition("=")
        flag = _BY_NAME.get(name) if arg.startswith("--") else None
        if flag is None or not (equals or isinstance(flag.default, bool)):
            unknown.append(arg)
            continue
        values[name] = _READERS[type(flag.default)](flag, text if equals else "true")
        given.add(name)
    if values["backend"] not in ("", "onnx", "tensorflow", "tflite"):
        raise BadFlag(f"expected --backend=onnx, --backend=tensorflow or --backend=tflite; got {values['backend']!r}")
    return Flags(values, frozenset(given), tuple(unknown))


def suggestion(arg: str) -> str:
    """What may have been meant by an unknown argument."""
    name = arg.removeprefix("--").partition("=")[0]
    if name in _BY_NAME:
        return f"write it --{name}=VALUE"
    near = difflib.get_close_matches(name, _BY_NAME, n=1)
    return f"did you mean --{near[0]}?" if near else "--help lists the flags"


def _read_bool(flag: Flag, text: str) -> bool:
    words = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in words:
        raise BadFlag(f"expected --{flag.name}=true or --{flag.name}=false; got {text!r}")
    return words[text.lower()]


def _read_int(flag: Flag, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = None
    if value is None or value not in flag.limits:
        limits = f"from {flag.limits.start} to {flag.limits.stop - 1}"
        raise BadFlag(f"expected a whole number for --{flag.name}; got {text!r}; it may be {limits}")
    return value


def _read_float(flag: Flag, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise BadFlag(f"expected a number for --{flag.name}; got {text!r}") from None


_READERS: dict[type, Callable[[Flag, str], Value]] = {
    bool: _read_bool, int: _read_int, float: _read_float, str: lambda _, text: text,
}  # fmt: skip


def usage() -> str:
    """The flags with their defaults, as tensorflow_model_server prints them after a mistake."""
    lines = [f"\t--{flag.name}={_show(flag.default)}\t{flag.effect}" for flag in (*FLAGS, *OWN_FLAGS)]
    return "usage: keraship serve [REPO]\nFlags:\n" + "\n".join(lines)


def _show(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


# What the flags must be together.


@dataclass(frozen=True)
class _Rule:
    broken: Callable[[Flags], bool]
    text: str


# In tensorflow_model_server's order: the first that is broken is reported.
_RULES = (
    _Rule(
        lambda flags: not flags.number("port") and not flags.text("grpc_socket_path"),
        "At least one of server_options.grpc_port or server_options.grpc_socket_path must be set.",
    ),
    _Rule(
        lambda flags: flags.on("use_alts_credentials") and bool(flags.text("ssl_config_file")),
        "Either use_alts_credentials must be false or ssl_config_file must be empty.",
    ),
    _Rule(
        lambda flags: not flags.text("model_base_path") and not flags.text("model_config_file"),
        "Both server_options.model_base_path and server_options.model_config_file are empty!",
    ),
    _Rule(
        lambda flags: bool(flags.text("batching_parameters_file")) and not flags.on("enable_batching"),
        "server_options.batching_parameters_file is set without setting server_options.enable_batching to true.",
    ),
    _Rule(
        lambda flags: all(
            flags.number(f"tensorflow_{each}_parallelism") > 0 for each in ("session", "intra_op", "inter_op")
        ),
        "Either configure server_options.tensorflow_session_parallelism or "
        "(server_options.tensorflow_intra_op_parallelism, server_options.tensorflow_inter_op_parallelism) separately. "
        "You cannot configure all.",
    ),
)


def check_flags(flags: Flags) -> None:
    """Raises InvalidArgument, in tensorflow_model_server's words, for flags that do not go together."""
    for rule in _RULES:
        if rule.broken(flags):
            raise InvalidArgument(rule.text)


# Models.


def read_models(flags: Flags) -> list[ModelConfig] | None:
    """The models that the flags, or the file that they name, ask for; None where the file says nothing.

    Raises StatusError, in tensorflow_model_server's words, for configurations that it refuses.
    """
    if flags.text("model_config_file"):
        return read_config(read_text_proto(flags.text("model_config_file"), ModelServerConfig))
    name, base_path = flags.text("model_name"), flags.text("model_base_path")
    _LOG.info("Building single TensorFlow model file config:  model_name: %s model_base_path: %s", name, base_path)
    return [single_model(name, base_path)]


def channel_arguments(flags: Flags) -> dict[str, int | str]:
    """gRPC's own settings; what looks like a whole number is one. Raises InvalidArgument for an entry without `=`."""
    found: dict[str, int | str] = {}
    for entry in filter(None, flags.text("grpc_channel_arguments").split(",")):
        key, equals, value = entry.partition("=")
        if not equals:
            raise InvalidArgument(f"expected key=value in --grpc_channel_arguments; got {entry!r}")
        found[key] = int(value) if value.lstrip("-").isdecimal() else value
    return found


def op_libraries(flags: Flags) -> tuple[str, ...]:
    """The files of --op_library; raises InvalidArgument for one that is not there."""
    paths = tuple(filter(None, flags.text("op_library").split(",")))
    missing = [path for path in paths if not Path(path).is_file()]
    if missing:
        raise InvalidArgument(f"expected files with TensorFlow's operations in --op_library; there is no {missing[0]}")
    return paths


def session_config(flags: Flags) -> bytes:
    """What --tensorflow_session_config_file says, as a serialized ConfigProto; raises BadTextProto."""
    path = flags.text("tensorflow_session_config_file")
    if not path:
        return b""
    require("tensorflow", "tensorflow")
    from keraship.serving.backend_tensorflow import ConfigProto

    serialized: bytes = read_text_proto(path, ConfigProto).SerializeToString()
    return serialized


def without_effect(flags: Flags) -> list[str]:
    """The flags that were given and that do nothing yet."""
    return sorted(name for name in flags.given if not _BY_NAME[name].effect)
