"""What transports that wrap another share. They serve the gateway, so event loops only."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from fastroute.errors import DispatchError, ProviderResponseError, ProviderStatusError
from fastroute.http.request import AsyncResponse, AsyncTransport, Request

#: Told of what a transport did beside sending: the word for it, and the request.
Observer: TypeAlias = Callable[[str, Request], None]


def unobserved(event: str, request: Request) -> None:
    """An observer that has seen nothing."""
    del event, request


class WrappingTransport:
    """An AsyncTransport around another."""

    def __init__(self, inner: AsyncTransport) -> None:
        self.inner = inner

    async def asend(self, request: Request) -> AsyncResponse:
        """Send by the transport inside."""
        return await self.inner.asend(request)

    async def aclose(self) -> None:
        """Close the transport inside."""
        await self.inner.aclose()


def is_providers_fault(error: BaseException) -> bool:
    """Whether an error is a failure of the endpoint rather than of the request."""
    if isinstance(error, ProviderStatusError):
        return error.status_code >= 500
    if isinstance(error, ProviderResponseError):
        return True
    return isinstance(error, (ConnectionError, TimeoutError)) and isinstance(error, DispatchError)
