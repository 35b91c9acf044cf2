"""Locks and threads that work in the child of a fork, whatever the parent was doing.

A child of fork has one thread: threads of a pool do not exist there, and a lock that another
thread held at that moment is never released. So each child gets new ones. What such a lock guards
must be whole between any two steps of Python, or harmless where it is not: counters and caches are.
"""

from __future__ import annotations

import contextvars
import os
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

_T = TypeVar("_T")
_all: weakref.WeakSet[ForkSafe] = weakref.WeakSet()


class ForkSafe(ABC):
    """Something that is set up when it is made, and again in each child of a fork."""

    def __init__(self) -> None:
        self._start_anew()
        _all.add(self)

    @abstractmethod
    def _start_anew(self) -> None:
        """Set up, without a look at what was there: another thread may have held it."""


class ForkSafeLock(ForkSafe):
    """``threading.Lock`` for ``with``."""

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def _start_anew(self) -> None:
        self._lock = threading.Lock()


class ScoringThreads(ForkSafe):
    """Threads in which an event loop scores prompts, made at first use.

    Not the loop's own threads: a slow router would keep name look-ups waiting there.
    """

    _pool: ThreadPoolExecutor | None

    async def run(self, job: Callable[[], _T]) -> _T:
        """The result of ``job``, which runs in a thread, in this task's context."""
        import asyncio  # heavier than all of fastroute, and of no use to a plain decision
        from concurrent.futures import ThreadPoolExecutor

        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(thread_name_prefix="fastroute-scoring")
            pool = self._pool
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(pool, lambda: context.run(_finite, job))

    def close(self) -> None:
        """Let the threads end once they are idle; later jobs get new ones."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False)

    def _start_anew(self) -> None:
        self._lock = threading.Lock()
        self._pool = None


def _finite(job: Callable[[], _T]) -> _T:
    try:
        return job()
    except StopIteration as error:  # no future can carry it: its caller would wait indefinitely
        raise RuntimeError("a router raised StopIteration") from error


def _start_all_anew() -> None:
    for one in list(_all):
        one._start_anew()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_start_all_anew)
