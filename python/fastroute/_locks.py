"""A lock that is free in a forked child, whoever held it in the parent.

A child of fork has one thread, so a lock that another thread held at that moment is never let go:
the first call in the child would wait for ever. What such a lock guards must be whole between any
two steps of Python, or harmless where it is not: counters and caches are.
"""

from __future__ import annotations

import os
import threading
import weakref
from types import TracebackType

_locks: weakref.WeakSet[ForkSafeLock] = weakref.WeakSet()


class ForkSafeLock:
    """``threading.Lock`` for ``with``, new in each child of a fork."""

    def __init__(self) -> None:
        self._start_anew()
        _locks.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lock.release()

    def _start_anew(self) -> None:
        self._lock = threading.Lock()


def _start_all_anew() -> None:
    for lock in list(_locks):
        lock._start_anew()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_start_all_anew)
