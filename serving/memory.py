"""Memory that a model leaves behind goes back to the system, where the C library can give it back (glibc)."""

from __future__ import annotations

import ctypes
import functools
import gc
import os
from collections.abc import Callable
from typing import Any

_M_MMAP_THRESHOLD = -3  # malloc.h
_LARGE_BYTES = 1 << 20


def keep_large_blocks_apart() -> None:
    """Have malloc map blocks of 1 MiB and more by themselves, for good: weights then leave no holes behind.

    By itself glibc raises that limit, up to 32 MiB, each time such a block is freed. For the whole process, so it is
    for programs to call and not for libraries. MALLOC_MMAP_THRESHOLD_ in the environment has precedence.
    """
    if (mallopt := _c_function("mallopt")) and "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)


@functools.cache
def set_imports_aside() -> None:
    """Have the collector pass over everything that is there now: once TensorFlow is imported and holds no model yet.

    Its 400,000 objects would cost each collection, and with it all requests, .2 s.
    """
    gc.freeze()


def give_back() -> None:
    """Free what is unreachable, and hand free pages to the system."""
    gc.collect()
    if trim := _c_function("malloc_trim"):
        trim(0)


@functools.cache
def _c_function(name: str) -> Callable[..., Any] | None:
    try:
        function: Callable[..., Any] | None = getattr(ctypes.CDLL(None), name, None)
    except (OSError, TypeError):  # another system's way to load libraries
        return None
    return function
