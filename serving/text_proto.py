"""Files that hold a message in protobuf's text form, and where the mistake is when they do not."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from keraship.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied, StatusError

_NO_FIELD = re.compile(r'Message type "(.+)" has no field named')
_NO_VALUE = re.compile(r'Enum type "(.+)" has no value named')
_ENDLESS = "String missing ending quote"


class BadTextProto(InvalidArgument):
    """A file that is no message in text form.

    details are tensorflow_model_server's; log_line is what protobuf logs beside it, with line and column; the
    exception's own text says all of it in one sentence.
    """

    def __init__(self, path: str, message: str, mistake: str) -> None:
        super().__init__(
            f"Invalid protobuf file: '{path}'", message=f"expected a {message} as text in {path}; {mistake}"
        )
        self.log_line = f"Error parsing text-format {message}: {mistake}"


def read_text_proto(path: str | Path, message_class: Callable[[], Any]) -> Any:
    """The message that a file holds as text; an empty file holds an empty one.

    Raises BadTextProto for a file with a mistake, and NotFound or PermissionDenied for one that cannot be read.
    """
    message = message_class()
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise _cannot_read(str(path), error) from error
    name = message.DESCRIPTOR.full_name
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise BadTextProto(str(path), name, _place(raw, error)) from error
    try:
        return text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise BadTextProto(str(path), name, _explain(text, error, message)) from None


def _cannot_read(path: str, error: OSError) -> StatusError:
    """In the words of TensorFlow's file system."""
    kinds = {errno.ENOENT: NotFound, errno.EACCES: PermissionDenied}
    return kinds.get(error.errno or 0, FailedPrecondition)(f"{path}; {error.strerror}")


def _place(raw: bytes, error: UnicodeDecodeError) -> str:
    before = raw[: error.start].decode()
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    return f"{line}:{column}: Expected UTF-8; got the byte 0x{raw[error.start]:02x}."


def _explain(text: str, mistake: text_format.ParseError, message: Any) -> str:
    """`line:column: what is wrong. What was expected.`"""
    line = mistake.GetLine()
    if line is None:
        return str(mistake)
    what = str(mistake).partition(" : ")[2]
    # protobuf repeats the line, and a string that does not end. There may be a private key in them.
    lines = [*text.split("\n"), ""]
    what = what.removeprefix(f"'{lines[line - 1]}': ")
    if what.startswith(_ENDLESS):
        what = f"{_ENDLESS}."
    return f"{line}:{mistake.GetColumn()}: {what}{_expected(what, message)}"


def _expected(what: str, message: Any) -> str:
    pool = message.DESCRIPTOR.file.pool
    if found := _NO_FIELD.match(what):
        names = [field.name for field in pool.FindMessageTypeByName(found[1]).fields]
    elif found := _NO_VALUE.match(what):
        names = [value.name for value in pool.FindEnumTypeByName(found[1]).values]
    else:
        return ""
    return f" Expected one of {', '.join(names)}."
