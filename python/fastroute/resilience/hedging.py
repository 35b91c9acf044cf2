"""Redundancy against stragglers: a second request beside a late one, or in its place.

Aktas and Soljanin (arXiv 1906.10664, 1710.00748) show what it costs and gains; ``fastroute
simulate`` shows it for given latencies.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right, insort
from collections import defaultdict, deque
from typing import Literal, TypeAlias

from fastroute.http.request import AsyncResponse, AsyncTransport, Request
from fastroute.resilience.retry_budget import Budget
from fastroute.resilience.wrapping import Observer, WrappingTransport, unobserved

Redundancy: TypeAlias = Literal["hedge", "delayed", "relaunch"]
#: A quantile of fewer latencies than these means nothing.
MIN_SAMPLES = 20
_SAMPLES = 256
_MODEL_CHARS = 200
_MOST_MODELS = 1000


class RecentLatencies:
    """The last 256 latencies of one model, seconds."""

    def __init__(self) -> None:
        self._in_order_of_time: deque[float] = deque()
        self._sorted: list[float] = []

    def add(self, seconds: float) -> None:
        """Note one."""
        if len(self._sorted) == _SAMPLES:
            oldest = self._in_order_of_time.popleft()
            del self._sorted[bisect_right(self._sorted, oldest) - 1]
        self._in_order_of_time.append(seconds)
        insort(self._sorted, seconds)

    def quantile(self, q: float) -> float | None:
        """The least latency that a share ``q`` of them does not pass; None for too few."""
        n = len(self._sorted)
        return None if n < MIN_SAMPLES else self._sorted[min(n - 1, int(q * n))]


class RedundantTransport(WrappingTransport):
    """Sends a late request once more. The first answer to begin wins, the other is cancelled.

    - "hedge": beside the first, after the ``quantile`` of the model's recent latencies.
    - "delayed": beside the first, after ``delay_s``.
    - "relaunch": instead of the first, which is cancelled, after ``delay_s``.

    At most one more a request, and at most ``budget`` of all requests. Latency is the time until
    the transport inside returns the answer: to the first byte of a stream, to the whole of a short
    answer. What has been returned is never sent again.
    """

    def __init__(
        self,
        inner: AsyncTransport,
        mode: Redundancy,
        *,
        budget: Budget,
        quantile: float = 0.95,
        delay_s: float | None = None,
        observer: Observer = unobserved,
    ) -> None:
        super().__init__(inner)
        self._mode = mode
        self._budget = budget
        self._quantile = quantile
        self._delay_s = delay_s
        self._observer = observer
        self._latencies: defaultdict[str, RecentLatencies] = defaultdict(RecentLatencies)

    async def asend(self, request: Request) -> AsyncResponse:
        """Send, once or twice."""
        self._budget.earn()
        # Clients may name any model: beyond so many they share one record.
        model = request.model[:_MODEL_CHARS]  # nor may a name be as long as a body
        known = model in self._latencies or len(self._latencies) < _MOST_MODELS
        recent = self._latencies[model if known else ""]
        delay_s = recent.quantile(self._quantile) if self._mode == "hedge" else self._delay_s
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        if delay_s is None:
            response = await self.inner.asend(request)
            recent.add(loop.time() - began_s)
            return response
        tasks = [loop.create_task(self.inner.asend(request))]
        winner = None
        try:
            await asyncio.wait(tasks, timeout=delay_s)
            if not tasks[0].done():
                self._send_again(request, tasks)
            winner = await _first_answer(tasks[-1:] if self._mode == "relaunch" else tasks)
            response = winner.result()
        finally:
            for task in tasks:
                if task is not winner:
                    _give_up(task)
        recent.add(loop.time() - began_s)
        return response

    def _send_again(self, request: Request, tasks: list[asyncio.Task[AsyncResponse]]) -> None:
        if not self._budget.spend():
            self._observer("redundancy_budget_spent", request)
            return
        self._observer(self._mode, request)
        again = asyncio.get_running_loop().create_task(self.inner.asend(request))
        if self._mode == "relaunch":
            _give_up(tasks[0])
        tasks.append(again)


def _give_up(task: asyncio.Task[AsyncResponse]) -> None:
    """Cancel a request, or close an answer that came although it was not wanted any more."""
    closing: list[asyncio.Task[None]] = []

    def close(done: asyncio.Task[AsyncResponse]) -> None:
        if not done.cancelled() and done.exception() is None:
            closing.append(done.get_loop().create_task(done.result().aclose()))

    task.cancel()
    task.add_done_callback(close)


async def _first_answer(tasks: list[asyncio.Task[AsyncResponse]]) -> asyncio.Task[AsyncResponse]:
    """The first task that has an answer; if none gets one, the first that failed."""
    pending = set(tasks)
    failed: list[asyncio.Task[AsyncResponse]] = []
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if not task.cancelled() and task.exception() is None:
                return task
            failed.append(task)
    return failed[0]
