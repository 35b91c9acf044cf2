"""Tasks in this process, or in several that end with it, or on Ray."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import Any, Literal, NoReturn, TypeVar, get_args

from fastroute._progress import Advance
from fastroute._validate import available_threads, check_count, limit_threads
from fastroute.errors import InvalidInputError, WorkerError

Engine = Literal["local", "ray"]
#: What a process does with an item; it says how far it is by the second argument.
Task = Callable[[Any, Advance], Any]
_T = TypeVar("_T")


def check_workers(workers: int, engine: str) -> None:
    """Raise InvalidInputError where there can't be such workers."""
    check_count("workers", workers, least=1)
    if engine not in get_args(Engine):
        raise InvalidInputError(f"engine must be one of {get_args(Engine)}, got {engine!r}")


def run_tasks(
    make: Callable[[], Task],
    items: Mapping[int, _T],
    *,
    workers: int,
    engine: Engine,
    advance: Advance,
) -> Iterator[tuple[int, Any]]:
    """The key and the result of each item, in any order.

    Each process calls ``make``, which must be picklable, for its task. Raises WorkerError where
    a process was killed.
    """
    if engine == "ray":
        from fastroute._tasks.on_ray import run_on_ray

        yield from run_on_ray(make, items, workers, advance)
    elif workers == 1:
        task = make()
        for i, item in items.items():
            yield i, task(item, advance)
    else:
        yield from _run_in_processes(make, items, workers, advance)


class Count:
    """Counts for a bar in another process."""

    def __init__(self, check: Callable[[], None] = lambda: None) -> None:
        self.total = 0
        self._check = check

    def __call__(self, count: int = 1) -> None:
        self._check()
        self.total += count


def _run_in_processes(
    make: Callable[[], Task], items: Mapping[int, Any], workers: int, advance: Advance
) -> Iterator[tuple[int, Any]]:
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    threads = max(1, available_threads() // workers)
    count = min(workers, max(len(items), 1))
    pool = ProcessPoolExecutor(count, context, _start, (make, threads, stop))
    try:
        running = {pool.submit(_run, item): i for i, item in items.items()}
        for done in as_completed(running):
            total, result = done.result()
            advance(total)
            yield running[done], result
    except BrokenProcessPool:
        raise WorkerError(
            "a worker process was killed, perhaps because memory ran out; run the same command "
            "again, with fewer workers if need be"
        ) from None
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


class _Worker:
    """What a worker process has."""

    task: Task
    stop: Any


def _start(make: Callable[[], Task], threads: int, stop: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to stop
    threading.Thread(target=_end_with_parent, daemon=True).start()
    limit_threads(threads)
    # Not as an attribute of the class, which would make a method of a function.
    _Worker.task, _Worker.stop = staticmethod(make()), stop


def _end_with_parent() -> NoReturn:
    """A parent that is killed leaves its workers waiting for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _run(item: Any) -> tuple[int, Any]:
    count = Count(_check_stopped)
    result = _Worker.task(item, count)
    return count.total, result


def _check_stopped() -> None:
    if _Worker.stop.is_set():
        raise WorkerError("stopped")
