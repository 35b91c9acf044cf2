"""The one HTTP client: endpoints, credentials, proxies, retries, transports and a mock of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastroute._lazy import lazy_exports

if TYPE_CHECKING:
    from fastroute.http.aiohttp_transport import AiohttpTransport as AiohttpTransport
    from fastroute.http.async_transport import AsyncHttpTransport as AsyncHttpTransport
    from fastroute.http.mock import MockReply as MockReply
    from fastroute.http.mock import MockTransport as MockTransport
    from fastroute.http.request import AsyncResponse as AsyncResponse
    from fastroute.http.request import AsyncTransport as AsyncTransport
    from fastroute.http.request import Endpoint as Endpoint
    from fastroute.http.request import Request as Request
    from fastroute.http.request import Response as Response
    from fastroute.http.request import Transport as Transport
    from fastroute.http.retry import RetryPolicy as RetryPolicy
    from fastroute.http.sync_transport import HttpTransport as HttpTransport

__all__, __getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "fastroute.http.aiohttp_transport": "AiohttpTransport",
        "fastroute.http.async_transport": "AsyncHttpTransport",
        "fastroute.http.mock": "MockReply MockTransport",
        "fastroute.http.request": (
            "AsyncResponse AsyncTransport Endpoint Request Response Transport"
        ),
        "fastroute.http.retry": "RetryPolicy",
        "fastroute.http.sync_transport": "HttpTransport",
    },
)
