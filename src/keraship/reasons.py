"""What went wrong, in one line, out of the pages that Keras and TensorFlow write."""

from __future__ import annotations

import re

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_CAUSE = re.compile("Exception encountered(?: when calling |: )")  # Keras puts the cause behind it
_LENGTH = 400


def reason(error: BaseException) -> str:
    """An error's message on one line: of the layer that failed, less its arguments; the class where there is none."""
    text = _CAUSE.split(_COLOURS.sub("", str(error)))[-1].partition("Arguments received by ")[0]
    return " ".join(text.split())[:_LENGTH] or type(error).__name__
