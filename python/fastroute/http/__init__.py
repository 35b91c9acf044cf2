"""Requests to model APIs: endpoints, transports and a mock of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastroute._lazy import lazy_exports

if TYPE_CHECKING:
    from fastroute.http.async_transport import AsyncHttpTransport
    from fastroute.http.mock import MockReply, MockTransport
    from fastroute.http.request import AsyncResponse, Endpoint, Request, Response, Transport
    from fastroute.http.sync_transport import HttpTransport

__all__ = [
    "AsyncHttpTransport",
    "AsyncResponse",
    "Endpoint",
    "HttpTransport",
    "MockReply",
    "MockTransport",
    "Request",
    "Response",
    "Transport",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "AsyncHttpTransport": "fastroute.http.async_transport",
        "AsyncResponse": "fastroute.http.request",
        "Endpoint": "fastroute.http.request",
        "HttpTransport": "fastroute.http.sync_transport",
        "MockReply": "fastroute.http.mock",
        "MockTransport": "fastroute.http.mock",
        "Request": "fastroute.http.request",
        "Response": "fastroute.http.request",
        "Transport": "fastroute.http.request",
    },
)
