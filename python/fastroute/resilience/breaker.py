"""A circuit breaker for each endpoint: one that keeps failing is skipped for a while."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from fastroute.errors import CircuitOpenError
from fastroute.http.request import AsyncResponse, AsyncTransport, Endpoint, Request
from fastroute.resilience.wrapping import (
    Observer,
    WrappingTransport,
    is_providers_fault,
    unobserved,
)


@dataclass
class _Circuit:
    failures: int = 0  # in a row
    open_until_s: float | None = None
    probing: bool = False
    succeeded_s: float = -math.inf  # when a request succeeded last
    adopted: bool = False  # opened by what another process found


class BreakerTransport(WrappingTransport):
    """Refuses at once requests to an endpoint that failed ``failures`` times in a row.

    After ``open_s`` seconds one request is let through: its success closes the circuit, its failure
    opens it for as long again. Failures are 5xx, no connection, a broken one and a late
    answer; an interrupted answer is one. 0 ``failures``: never refuses.
    """

    def __init__(
        self,
        inner: AsyncTransport,
        *,
        failures: int = 5,
        open_s: float = 10.0,
        observer: Observer = unobserved,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(inner)
        self._failures = failures
        self._open_s = open_s
        self._observer = observer
        self._clock = clock
        self._circuits: dict[Endpoint, _Circuit] = {}

    def is_open(self, endpoint: Endpoint) -> bool:
        """Whether a request to ``endpoint`` would be refused now."""
        circuit = self._circuits.get(endpoint)
        if circuit is None or circuit.open_until_s is None:
            return False
        return circuit.probing or self._clock() < circuit.open_until_s

    def adopt(self, endpoint: Endpoint, *, opened: bool, ago_s: float) -> bool:
        """Take over that another process opened, or closed, its circuit ``ago_s`` seconds ago.

        An opening is not believed if a request from here has succeeded since; a closing only ends
        what was taken over. Returns whether it opened the circuit here.
        """
        circuit = self._circuits.setdefault(endpoint, _Circuit())
        now = self._clock()
        if not opened:
            if circuit.adopted and not circuit.probing:
                circuit.failures, circuit.open_until_s, circuit.adopted = 0, None, False
            return False
        until_s = now - max(0.0, ago_s) + self._open_s
        believed = self._failures > 0 and circuit.succeeded_s < until_s - self._open_s
        if not believed or circuit.open_until_s is not None or until_s <= now:
            return False
        circuit.open_until_s, circuit.adopted = until_s, True
        return True

    async def asend(self, request: Request) -> AsyncResponse:
        """Send, or raise CircuitOpenError."""
        if self._failures == 0:
            return await self.inner.asend(request)
        circuit = self._circuits.setdefault(request.endpoint, _Circuit())
        if self.is_open(request.endpoint):
            raise CircuitOpenError(
                f"{request.endpoint.address(request.path).shown}: not sent, because the circuit is "
                f"open: the endpoint failed {max(circuit.failures, self._failures)} times in a row"
            )
        probe = circuit.probing = circuit.open_until_s is not None
        try:
            response = await self.inner.asend(request)
        except BaseException as error:
            if probe:
                circuit.probing = False
            if is_providers_fault(error):
                self._failed(circuit, request)
            elif isinstance(error, Exception):  # the endpoint answered, such as with 400 or 429
                self._succeeded(circuit, request)
            raise
        if probe:
            circuit.probing = False
        self._succeeded(circuit, request)

        def ended(error: BaseException | None) -> None:
            if error is not None and is_providers_fault(error):
                self._failed(circuit, request)

        response.add_end_callback(ended)
        return response

    def _succeeded(self, circuit: _Circuit, request: Request) -> None:
        if circuit.open_until_s is not None:
            self._observer("breaker_closed", request)
        circuit.failures, circuit.open_until_s, circuit.adopted = 0, None, False
        circuit.succeeded_s = self._clock()

    def _failed(self, circuit: _Circuit, request: Request) -> None:
        circuit.failures += 1
        if circuit.failures >= self._failures or circuit.adopted:
            if circuit.open_until_s is None:
                self._observer("breaker_opened", request)
            circuit.open_until_s = self._clock() + self._open_s
