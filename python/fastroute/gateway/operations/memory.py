"""Memory that a replaced gateway has freed goes back to the system."""

from __future__ import annotations

import ctypes
import sys


def give_back_memory() -> None:
    """Give free pages back to the system, where libc can (glibc).

    glibc keeps the pages of arrays that were freed, up to 40 MB here over the first reloads: once a
    large array has been freed, it takes the next one from its heap, which then can't shrink.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
