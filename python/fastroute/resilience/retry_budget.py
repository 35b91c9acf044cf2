"""Retries within a budget: when everything fails, retries must not double the load."""

from __future__ import annotations

import asyncio
import datetime
import random
from collections.abc import Awaitable, Callable

from fastroute.errors import DispatchError, ProviderConnectionError, ProviderStatusError
from fastroute.http.async_transport import never_arrived
from fastroute.http.request import (
    AsyncResponse,
    Request,
    Transport,
    may_ask_again,
    may_retry,
)
from fastroute.http.retry import backoff, retry_after_s
from fastroute.http.wrapping import Observer, WrappingTransport, unobserved

BACKOFF_S = 0.25
#: A provider that asks for a longer wait gets none: the client is told, and can decide better.
MAX_RETRY_AFTER_S = 10.0


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
    """Sends again what failed before its first byte, as far as the budget goes.

    Again: no connection, a broken one, 408, 409, 429 and 5xx (not 501, 505 or an exhausted quota).
    Not again: an answer that is late or, without the endpoint's ``retry_cut_answers``, one whose
    body began and broke off, because they may have been paid for. The wait doubles from a
    quarter of a second with full jitter, and is at least what Retry-After asks for; where the model
    has other endpoints, the next one is asked at once.
    """

    def __init__(
        self,
        inner: Transport,
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
                wait_s = self._wait_s(request, error, attempts)
                if wait_s is None:
                    raise
            self._observer("retry", request)
            if wait_s > 0:
                await self._sleep(wait_s)

    def _wait_s(self, request: Request, error: DispatchError, attempts: int) -> float | None:
        asked_s = 0.0
        if isinstance(error, ProviderStatusError):
            now = datetime.datetime.now(datetime.UTC)
            asked_s = retry_after_s(error.headers, now) or 0.0
            again = may_retry(error)
        else:
            again = isinstance(error, ProviderConnectionError) or never_arrived(error)
            again = again and may_ask_again(request, error)
        elsewhere = attempts <= len(request.variants)
        if elsewhere:
            asked_s = 0.0
        if not again or attempts > self._retries or asked_s > MAX_RETRY_AFTER_S:
            return None
        if not self._budget.spend():
            self._observer("retry_budget_spent", request)
            return None
        return 0.0 if elsewhere else max(asked_s, backoff(attempts - 1, BACKOFF_S, self._rng))
