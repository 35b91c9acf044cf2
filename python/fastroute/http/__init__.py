"""The one HTTP client: endpoints, credentials, proxies, retries, transports and a mock of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastroute._lazy import lazy_exports

if TYPE_CHECKING:
    from fastroute.http.aiohttp_transport import AiohttpTransport
    from fastroute.http.async_transport import AsyncHttpTransport
    from fastroute.http.mock import MockReply, MockTransport
    from fastroute.http.request import (
        AsyncResponse,
        AsyncTransport,
        Endpoint,
        Request,
        Response,
        Transport,
    )
    from fastroute.http.retry import RetryPolicy
    from fastroute.http.sync_transport import HttpTransport

__all__ = [
    "AiohttpTransport",
    "AsyncHttpTransport",
    "AsyncResponse",
    "AsyncTransport",
    "Endpoint",
    "HttpTransport",
    "MockReply",
    "MockTransport",
    "Request",
    "Response",
    "RetryPolicy",
    "Transport",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "AiohttpTransport": "fastroute.http.aiohttp_transport",
        "AsyncHttpTransport": "fastroute.http.async_transport",
        "AsyncResponse": "fastroute.http.request",
        "AsyncTransport": "fastroute.http.request",
        "Endpoint": "fastroute.http.request",
        "HttpTransport": "fastroute.http.sync_transport",
        "MockReply": "fastroute.http.mock",
        "MockTransport": "fastroute.http.mock",
        "Request": "fastroute.http.request",
        "Response": "fastroute.http.request",
        "RetryPolicy": "fastroute.http.retry",
        "Transport": "fastroute.http.request",
    },
)
