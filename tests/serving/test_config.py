"""Flags and config files: what tensorflow_model_server takes is taken, what it refuses is refused in its words."""

# ruff: noqa: E501 - a case of a table is a line
from __future__ import annotations

from pathlib import Path

import pytest

from keraship.errors import InvalidArgument
from keraship.serving.config import BadFlag, Flags, channel_arguments, check_flags, parse_flags, read_models
from keraship.serving.versions import All, Latest, ModelConfig, Policy, Specific

TAKEN: list[tuple[str, str, object]] = [
    ("--port=1", "port", 1),
    ("--enable_batching", "enable_batching", True),
    ("--enable_model_warmup=false", "enable_model_warmup", False),
    ("--enable_batching=TRUE", "enable_batching", True),
    ("--model_name=a=b", "model_name", "a=b"),
    ("--per_process_gpu_memory_fraction=.5", "per_process_gpu_memory_fraction", 0.5),
    ("--load_retry_interval_micros=-1", "load_retry_interval_micros", -1),
    ("--backend=onnx", "backend", "onnx"),
]


@pytest.mark.parametrize(("arg", "name", "value"), TAKEN)
def test_flags_are_read(arg: str, name: str, value: object) -> None:
    flags = parse_flags([arg])
    assert (flags.values[name], flags.given, flags.unknown) == (value, {name}, ())


@pytest.mark.parametrize("args", [["--port", "1"], ["-port=1"], ["--nonsense=1"], ["repo"]])
def test_what_is_no_flag_is_handed_back(args: list[str]) -> None:
    """A value in a word of its own is one of those, as in tensorflow_model_server."""
    flags = parse_flags(args)
    assert flags.unknown == tuple(args)
    assert flags.number("port") == 8500


@pytest.mark.parametrize(
    "arg",
    [
        "--port=x",
        "--port=",
        "--port=99999999999",
        "--port=65536",
        "--rest_api_port=-1",
        "--enable_batching=maybe",
        "--backend=x",
    ],
)
def test_values_that_cannot_be(arg: str) -> None:
    with pytest.raises(BadFlag, match=arg.partition("=")[0]):
        parse_flags([arg])


BASE = "--model_base_path=/m"
TOGETHER = [
    (["--port=0", BASE], "At least one of server_options.grpc_port or server_options.grpc_socket_path must be set."),
    (
        [BASE, "--use_alts_credentials", "--ssl_config_file=a"],
        "Either use_alts_credentials must be false or ssl_config_file must be empty.",
    ),
    ([], "Both server_options.model_base_path and server_options.model_config_file are empty!"),
    (
        [BASE, "--batching_parameters_file=a"],
        "server_options.batching_parameters_file is set without setting server_options.enable_batching to true.",
    ),
]


@pytest.mark.parametrize(("args", "details"), TOGETHER)
def test_flags_that_do_not_go_together(args: list[str], details: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_flags(parse_flags(args))
    assert caught.value.details == details


def config_file(tmp_path: Path, entries: str) -> list[str]:
    path = tmp_path / "models"
    path.write_text(f"model_config_list {{ {entries} }}" if entries else "")
    return [f"--model_config_file={path}"]


def models(flags: Flags) -> list[ModelConfig]:
    found = read_models(flags)
    assert found is not None
    return found


T = 'model_platform: "tensorflow"'
POLICIES: list[tuple[str, Policy]] = [
    ("", Latest(0)),
    ("model_version_policy { latest { num_versions: 2 } }", Latest(2)),
    ("model_version_policy { all {} }", All()),
    ("model_version_policy { specific { versions: 4 versions: 7 } }", Specific(frozenset({4, 7}))),
]


@pytest.mark.parametrize(("text", "policy"), POLICIES)
def test_policies_are_read(tmp_path: Path, text: str, policy: Policy) -> None:
    (model,) = models(parse_flags(config_file(tmp_path, f'config {{ name: "a" base_path: "/a" {T} {text} }}')))
    assert (model.name, model.base_path, model.policy) == ("a", Path("/a"), policy)


REFUSED = [
    (
        f'config {{ name: "a" base_path: "/a" {T} }} config {{ name: "a" base_path: "/b" {T} }}',
        "Illegal to list model a multiple times in config list",
    ),
    (
        f'config {{ name: "a" base_path: "a" {T} }}',
        "Expected model a to have an absolute path or URI; got base_path()=a",
    ),
    (
        'config { name: "a" base_path: "/a" }',
        "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform, model name is a",
    ),
    ('config { name: "a" base_path: "/a" model_platform: "x" }', "Model a requests unsupported platform x"),
    (
        'config { name: "a" base_path: "/a" model_platform: "tensorflow" model_type: TENSORFLOW }',
        "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform, model name is a",
    ),
    (f'config {{ name: "a" base_path: "/a" {T} logging_config {{}} }}', "No request-logger-creator provided."),
]


@pytest.mark.parametrize(("entries", "details"), REFUSED)
def test_models_that_are_refused(tmp_path: Path, entries: str, details: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        models(parse_flags(config_file(tmp_path, entries)))
    assert caught.value.details == details


def test_an_empty_file_says_nothing_of_models(tmp_path: Path) -> None:
    """An empty list is another thing: it is one."""
    assert read_models(parse_flags(config_file(tmp_path, ""))) is None
    assert models(parse_flags(config_file(tmp_path, " "))) == []


def test_channel_arguments() -> None:
    flags = parse_flags(["--grpc_channel_arguments=grpc.max_concurrent_streams=8,a=b,c=-1"])
    assert channel_arguments(flags) == {"grpc.max_concurrent_streams": 8, "a": "b", "c": -1}
    with pytest.raises(InvalidArgument, match="key=value"):
        channel_arguments(parse_flags(["--grpc_channel_arguments=a"]))
