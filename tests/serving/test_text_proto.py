"""A text file with a mistake is answered with the file, the line, the column and what was expected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st

from keraship.errors import NotFound
from keraship.serving.text_proto import BadTextProto, read_text_proto
from keraship.wire.messages import BatchingParameters, ModelServerConfig, MonitoringConfig, SSLConfig

CONFIG = "tensorflow.serving.ModelConfig"
FIELDS = "name, base_path, model_type, model_platform, logging_config, model_version_policy, version_labels"
MISTAKES = [
    ("model_config_list {\n  config { nme: 1 }\n}", f'2:12: Message type "{CONFIG}" has no field named "nme". '
     f"Expected one of {FIELDS}."),
    ("model_config_list { config { name: 1 } }", "1:36: Expected string but found: '1'"),
    ("model_config_list { config { name 'a' } }", '1:35: Expected ":".'),
    ("model_config_list {\n config { name: 'secret\n} }", "2:17: String missing ending quote."),
    ("model_config_list { config { ", '1:28: Expected "}".'),
    ("model_config_list { }\n}", "2:1: Expected identifier or number, got }."),
    ("model_config_list { config { model_type: BLA } }", '1:42: Enum type "tensorflow.serving.ModelType" has no value '
     "named BLA. Expected one of MODEL_TYPE_UNSPECIFIED, TENSORFLOW, OTHER."),
    ("model_config_list { config { version_labels { key: 'a' value: 1.5 } } }", "1:63: Couldn't parse integer: 1.5"),
    ("# \u00e4\n\u00e4\xff".encode("latin1"), "1:3: Expected UTF-8; got the byte 0xe4."),
    ("# \u00e4\n # \u00e4".encode() + b"\xff", "2:5: Expected UTF-8; got the byte 0xff."),
]  # fmt: skip


@pytest.mark.parametrize(("text", "mistake"), MISTAKES)
def test_a_mistake_is_placed(tmp_path: Path, text: str | bytes, mistake: str) -> None:
    path = tmp_path / "models.config"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BadTextProto) as caught:
        read_text_proto(path, ModelServerConfig)
    assert caught.value.details == f"Invalid protobuf file: '{path}'"
    assert caught.value.log_line == f"Error parsing text-format tensorflow.serving.ModelServerConfig: {mistake}"
    assert str(caught.value) == f"expected a tensorflow.serving.ModelServerConfig as text in {path}; {mistake}"


GOOD = [
    (MonitoringConfig, 'prometheus_config { enable: true path: "/p" }', "prometheus_config.path", "/p"),
    (SSLConfig, "server_key: 'a' 'b' client_verify: true", "server_key", "ab"),
    (BatchingParameters, "max_batch_size { value: 8 } allowed_batch_sizes: [2, 8]", "max_batch_size.value", 8),
    (ModelServerConfig, "# nothing", "model_config_list.config", []),
    (ModelServerConfig, "", "model_config_list.config", []),
]


@pytest.mark.parametrize(("kind", "text", "field", "value"), GOOD)
def test_messages_are_read(tmp_path: Path, kind: Any, text: str, field: str, value: Any) -> None:
    path = tmp_path / "file"
    path.write_text(text)
    message = read_text_proto(path, kind)
    for name in field.split("."):
        message = getattr(message, name)
    assert message == value


def test_a_file_that_is_not_there_is_none_with_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no; No such file or directory"):
        read_text_proto(tmp_path / "no", SSLConfig)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("text") / "file"


PIECES = st.sampled_from(
    ["model_config_list", "config", "name", "{", "}", ":", '"', "'", "\n", "<", ">", "[", "]", ",", "1", "-1", "all",
     "#", "version_labels", "key", "value", "latest", "custom_model_config", "type.googleapis.com/x",
     " ", "\t", "\0", "\u00e4"]
)  # fmt: skip


@given(text=st.lists(PIECES, max_size=20).map("".join))
def test_whatever_the_file_holds_it_is_a_message_or_a_mistake(scratch: Path, text: str) -> None:
    scratch.write_bytes(text.encode())
    try:
        expected = text_format.Parse(text, ModelServerConfig())
    except text_format.ParseError:
        with pytest.raises(BadTextProto, match=r"expected a tensorflow\.serving\.ModelServerConfig as text in "):
            read_text_proto(scratch, ModelServerConfig)
    else:
        assert read_text_proto(scratch, ModelServerConfig) == expected
