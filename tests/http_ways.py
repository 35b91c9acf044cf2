"""The three ways to send a request over HTTP, for tests that hold of each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fastroute.http import (
    AiohttpTransport,
    AsyncHttpTransport,
    HttpTransport,
    Request,
    RetryPolicy,
)

Send = Callable[..., list[bytes]]
QUICK = RetryPolicy(backoff_s=0.01)


def by_threads(*requests: Request) -> list[bytes]:
    """Send one after the other by one HttpTransport."""
    with HttpTransport(retry=QUICK) as transport:
        return [transport.send(request).read() for request in requests]


def by_httpx2(*requests: Request) -> list[bytes]:
    """The same by one AsyncHttpTransport."""

    async def go() -> list[bytes]:
        async with AsyncHttpTransport(retry=QUICK) as transport:
            return [await (await transport.asend(request)).read() for request in requests]

    return asyncio.run(go())


def by_aiohttp(*requests: Request) -> list[bytes]:
    """The same by one AiohttpTransport."""

    async def go() -> list[bytes]:
        async with AiohttpTransport() as transport:
            return [await (await transport.asend(request)).read() for request in requests]

    return asyncio.run(go())


WAYS = {"threads": by_threads, "httpx2": by_httpx2, "aiohttp": by_aiohttp}
