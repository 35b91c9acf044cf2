"""Retries within a budget: when everything fails, retries must not double the load."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from fastroute.errors import DispatchError
from fastroute.http.request import AsyncResponse, AsyncTransport, Request
from fastroute.http.retry import RetryPolicy
from fastroute.resilience.wrapping import Observer, WrappingTransport, unobserved


class Budget:
    """Lets at most ``share`` of the requests be followed by one more.

    Every request earns ``share``, one more costs 1. ``reserve`` is there at the start and the most
    that can be saved, so that the first failures of a quiet hour may be tried again.
    """

    def __init__(self, share: float, reserve: float = 10.0) -> None:
        self.share = share
        self._most = reserve if share > 0 else 0.0
        self._saved = self._most

    def earn(self) -> None:
        """A request came."""
        self._saved = min(self._most, self._saved + self.share)

    def spend(self) -> bool:
        """Whether one more may be sent; it is then paid for."""
        if self._saved < 1.0:
            return False
        self._saved -= 1.0
        return True


class RetryTransport(WrappingTransport):
    """Sends again what failed before its first byte, within the budget.

    What is sent again, and when, is ``RetryPolicy``'s; where the model has another endpoint, that
    one is asked at once.
    """

    def __init__(
        self,
        inner: AsyncTransport,
        *,
        retries: int = 2,
        budget: Budget | None = None,
        observer: Observer = unobserved,
        rng: random.Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        super().__init__(inner)
        self._retries = retries
        self._budget = budget or Budget(0.2)
        self._observer = observer
        self._policy = RetryPolicy()
        self._rng = rng or random.Random()
        self._sleep = sleep

    async def asend(self, request: Request) -> AsyncResponse:
        """Send, with retries. The last error is raised."""
        self._budget.earn()
        attempts = 0
        while True:
            try:
                return await self.inner.asend(request)
            except DispatchError as error:
                attempts += 1
                elsewhere = attempts <= len(request.variants)
                wait_s = self._policy.wait_s(
                    request, error, attempts, self._rng, elsewhere=elsewhere
                )
                if wait_s is None or attempts > self._retries:
                    raise
                if not self._budget.spend():
                    self._observer("retry_budget_spent", request)
                    raise
            self._observer("retry", request)
            if wait_s > 0:
                await self._sleep(wait_s)
