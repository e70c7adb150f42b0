"""Are some bytes a pickle, which runs code when it is loaded? Reads its operations; loads nothing."""

from __future__ import annotations

import pickletools
from collections.abc import Iterator

from keraship.danger import Finding, danger

HEAD = 1 << 20
"""How many bytes of a file are looked at: a pickle that runs code may be longer, and begins like one."""

_OPERATIONS = 10_000
_CALLS = {"GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "REDUCE", "BUILD"}
_NAMES = {"GLOBAL", "INST"}
_STRINGS = {"SHORT_BINUNICODE", "BINUNICODE", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING"}


def check_pickle(head: bytes, where: str = "") -> Iterator[Finding]:
    """head: the first bytes of a file or member. One finding, where they are a pickle's."""
    operations, names, whole = _operations(head)
    if "PROTO" not in operations[:1] and not (whole and _CALLS & set(operations)):
        return
    if not (whole or len(operations) > 3):
        return
    calls = f", and calls {', '.join(names[:3])}" if names else ""
    yield danger(
        "pickle",
        where,
        f"it is a pickle, which can run any code when it is loaded{calls}",
        "do not load it; ask for a .keras, .onnx or .safetensors file",
    )


def _operations(head: bytes) -> tuple[list[str], list[str], bool]:
    """The operations up to STOP or the first that is none; what they import; whether STOP was reached."""
    operations: list[str] = []
    names: list[str] = []
    strings: list[str] = []
    try:
        for operation, argument, _ in pickletools.genops(head[:HEAD]):
            operations.append(operation.name)
            if operation.name in _NAMES:
                names.append(str(argument).replace(" ", "."))
            elif operation.name in _STRINGS:
                strings = [*strings[-1:], str(argument)]
            elif operation.name == "STACK_GLOBAL" and len(strings) == 2:
                names.append(".".join(strings))
            if operation.name == "STOP":
                return operations, names, True
            if len(operations) > _OPERATIONS:
                break
    except Exception:  # noqa: S110  # pickletools raises anything on bytes that are no pickle: that is the answer
        pass
    return operations, names, False
