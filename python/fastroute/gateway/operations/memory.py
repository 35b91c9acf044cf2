"""Memory that a replaced gateway has freed goes back to the system, where libc can (glibc)."""

from __future__ import annotations

import ctypes
import gc
import sys
from typing import Any

_M_MMAP_THRESHOLD = -3  # of malloc.h
_LARGE_BYTES = 2**20


def map_large_arrays() -> None:
    """Give each array of a megabyte or more pages of its own, which go back when it is freed.

    glibc does so by itself only until the first of them is freed: then it takes the next one from
    its heap, which can't shrink below whatever else lies there.
    """
    mallopt = _libc("mallopt")
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)


def give_back_memory() -> None:
    """Give free pages of the heap back."""
    gc.collect()
    trim = _libc("malloc_trim")
    if trim is not None:
        trim(0)


def _libc(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
