"""Runs parts in this process, or in several that end with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import Any, NoReturn

from fastroute._validate import available_threads, limit_threads
from fastroute.errors import ScoringError
from fastroute.scoring.batch import BatchScorer
from fastroute.scoring.parts import Job, Part, score_part

Counts = tuple[int, int]


def run_here(
    job: Job, scorer: BatchScorer, parts: Mapping[int, Part], advance: Callable[[int], None]
) -> Iterator[tuple[int, Counts]]:
    """Score the parts one after another."""
    for i, part in parts.items():
        yield i, score_part(job, scorer, part, advance)


def run_in_processes(
    job: Job, parts: Mapping[int, Part], workers: int, advance: Callable[[int], None]
) -> Iterator[tuple[int, Counts]]:
    """Score the parts in so many processes, which share the processors."""
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    threads = max(1, available_threads() // workers)
    pool = ProcessPoolExecutor(
        min(workers, max(len(parts), 1)), context, _start, (job, threads, stop)
    )
    try:
        running = {pool.submit(_score, part): i for i, part in parts.items()}
        for done in as_completed(running):
            counts = done.result()
            i = running[done]
            advance(parts[i].rows or sum(counts))
            yield i, counts
    except BrokenProcessPool:
        raise ScoringError(
            "a worker process was killed, perhaps for want of memory; the same command again "
            "goes on with the parts that are left, with fewer workers if need be"
        ) from None
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


class _Worker:
    """What a worker process has."""

    job: Job
    scorer: BatchScorer
    stop: Any


def _start(job: Job, threads: int, stop: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to stop
    threading.Thread(target=_end_with_parent, daemon=True).start()
    limit_threads(threads)
    _Worker.job, _Worker.scorer, _Worker.stop = job, job.scorer(), stop


def _end_with_parent() -> NoReturn:
    """A parent that is killed leaves its workers waiting for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _score(part: Part) -> Counts:
    return score_part(_Worker.job, _Worker.scorer, part, _check_stopped)


def _check_stopped(_: int) -> None:
    if _Worker.stop.is_set():
        raise ScoringError("stopped")
