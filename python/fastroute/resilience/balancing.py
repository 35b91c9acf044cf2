"""Several endpoints of one model: each request goes to the one with the least to do."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace

from fastroute.errors import DispatchError, ProviderStatusError
from fastroute.http.request import AsyncResponse, AsyncTransport, Endpoint, Request
from fastroute.resilience.wrapping import WrappingTransport, is_providers_fault

#: For so long after a failure an endpoint is asked only if every other one failed too.
AVOIDED_S = 2.0


class BalancingTransport(WrappingTransport):
    """Sends a request with ``variants`` to one of them: least requests under way by weight.

    Endpoints for which ``is_open`` is true, or that failed or said 429 a moment ago, come last. So
    a second attempt, or one sent beside the first, goes elsewhere.
    """

    def __init__(
        self,
        inner: AsyncTransport,
        *,
        is_open: Callable[[Endpoint], bool] = lambda _: False,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        super().__init__(inner)
        self._is_open = is_open
        self._clock = clock
        self._rng = rng or random.Random()
        self._under_way: defaultdict[Endpoint, int] = defaultdict(int)
        self._avoided_until_s: dict[Endpoint, float] = {}

    async def asend(self, request: Request) -> AsyncResponse:
        """Choose, and send."""
        if not request.variants:
            return await self.inner.asend(request)
        chosen = min((request, *request.variants), key=self._order)
        chosen = replace(chosen, variants=(), fallback=None)
        endpoint = chosen.endpoint
        self._under_way[endpoint] += 1
        try:
            response = await self.inner.asend(chosen)
        except BaseException as error:
            self._ended(endpoint, error)
            raise
        response.add_end_callback(lambda error: self._ended(endpoint, error))
        return response

    def _order(self, request: Request) -> tuple[bool, bool, float, float]:
        endpoint = request.endpoint
        avoided = self._avoided_until_s.get(endpoint, 0.0) > self._clock()
        load = (self._under_way[endpoint] + 1) / request.weight
        return self._is_open(endpoint), avoided, load, self._rng.random()

    def _ended(self, endpoint: Endpoint, error: BaseException | None) -> None:
        self._under_way[endpoint] -= 1
        if error is None:
            return
        busy = isinstance(error, ProviderStatusError) and error.status_code == 429
        if busy or (is_providers_fault(error) and isinstance(error, DispatchError)):
            self._avoided_until_s[endpoint] = self._clock() + AVOIDED_S
