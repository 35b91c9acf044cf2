"""Asks another model if the chosen one fails."""

from __future__ import annotations

from fastroute.errors import CircuitOpenError, DispatchError, ProviderStatusError
from fastroute.http.request import AsyncResponse, AsyncTransport, Request
from fastroute.http.retry import is_unpaid
from fastroute.resilience.wrapping import (
    Observer,
    WrappingTransport,
    is_providers_fault,
    unobserved,
)


class FallbackTransport(WrappingTransport):
    """Makes and sends a request's ``fallback`` when the request fails by no fault of its own.

    That is 408, 429, 5xx, no connection, a broken one, a late response and an open circuit, each
    before the first byte. If the fallback fails too, the first error is raised.
    """

    def __init__(self, inner: AsyncTransport, *, observer: Observer = unobserved) -> None:
        super().__init__(inner)
        self._observer = observer

    async def asend(self, request: Request) -> AsyncResponse:
        """Send the request, or its fallback."""
        try:
            return await self.inner.asend(request)
        except DispatchError as error:
            if request.fallback is None or not _elsewhere(request, error):
                raise
            first = error
        self._observer("fallback", request)
        try:
            return await self.inner.asend(request.fallback())
        except DispatchError as second:
            raise first from second


def _elsewhere(request: Request, error: DispatchError) -> bool:
    """Whether another model may do better."""
    if not is_unpaid(request, error):
        return False
    if isinstance(error, ProviderStatusError) and error.status_code in (408, 429):
        return True
    return isinstance(error, CircuitOpenError) or is_providers_fault(error)
