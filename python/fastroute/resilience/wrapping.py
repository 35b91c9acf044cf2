"""What transports that wrap another share. They serve the gateway, so event loops only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
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


def watched(
    response: AsyncResponse, on_end: Callable[[BaseException | None], None]
) -> AsyncResponse:
    """``response``, whose end calls ``on_end`` once: with None when it was read to its end or
    closed, else with what was raised instead of a piece. At once, if the whole answer is here."""
    if response.body is not None:
        on_end(None)
        return response
    ended = False

    def end(error: BaseException | None) -> None:
        nonlocal ended
        if not ended:
            ended = True
            on_end(error)

    async def pieces() -> AsyncIterator[bytes]:
        try:
            async for piece in response.iter_bytes():
                yield piece
        except BaseException as error:
            end(error)
            raise
        end(None)

    async def close() -> None:
        end(None)
        await response.aclose()

    headers = response.raw_headers or response.headers
    return AsyncResponse(response.status_code, headers, pieces(), close, response.request)


def is_providers_fault(error: BaseException) -> bool:
    """Whether an error is a failure of the endpoint rather than of the request."""
    if isinstance(error, ProviderStatusError):
        return error.status_code >= 500
    if isinstance(error, ProviderResponseError):
        return True
    return isinstance(error, (ConnectionError, TimeoutError)) and isinstance(error, DispatchError)
