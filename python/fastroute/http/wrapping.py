"""What transports that wrap another share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TypeAlias

from fastroute.errors import DispatchError, ProviderStatusError
from fastroute.http.request import AsyncResponse, Request, Response, Transport

#: Told of what a transport did beside sending: the word for it, and the request.
Observer: TypeAlias = Callable[[str, Request], None]


def unobserved(event: str, request: Request) -> None:
    """An observer that has seen nothing."""
    del event, request


class WrappingTransport:
    """A transport around another, for event loops only."""

    def __init__(self, inner: Transport) -> None:
        self.inner = inner

    def send(self, request: Request) -> Response:
        """Not for threads. Raises DispatchError."""
        raise DispatchError(
            f"{request.path}: {type(self).__name__} sends from event loops only; use HttpTransport"
        )

    async def asend(self, request: Request) -> AsyncResponse:
        """Send by the transport inside."""
        return await self.inner.asend(request)

    def close(self) -> None:
        """Close the transport inside."""
        self.inner.close()

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
    """Whether an error says that the endpoint is ill, and not that the request is."""
    if isinstance(error, ProviderStatusError):
        return error.status_code >= 500
    return isinstance(error, (ConnectionError, TimeoutError)) and isinstance(error, DispatchError)
