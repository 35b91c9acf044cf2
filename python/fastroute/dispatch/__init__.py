"""Decision in, answer out: model APIs over HTTP, or a mock of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastroute._lazy import lazy_exports

if TYPE_CHECKING:
    from fastroute.dispatch.async_http import AsyncHttpTransport
    from fastroute.dispatch.base import AsyncResponse, Endpoint, Request, Response, Transport
    from fastroute.dispatch.completion import AsyncChatStream, ChatCompletion, ChatStream, Record
    from fastroute.dispatch.http import HttpTransport
    from fastroute.dispatch.mock import MockReply, MockTransport

__all__ = [
    "AsyncChatStream",
    "AsyncHttpTransport",
    "AsyncResponse",
    "ChatCompletion",
    "ChatStream",
    "Endpoint",
    "HttpTransport",
    "MockReply",
    "MockTransport",
    "Record",
    "Request",
    "Response",
    "Transport",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "AsyncChatStream": "fastroute.dispatch.completion",
        "AsyncHttpTransport": "fastroute.dispatch.async_http",
        "AsyncResponse": "fastroute.dispatch.base",
        "ChatCompletion": "fastroute.dispatch.completion",
        "ChatStream": "fastroute.dispatch.completion",
        "Endpoint": "fastroute.dispatch.base",
        "HttpTransport": "fastroute.dispatch.http",
        "MockReply": "fastroute.dispatch.mock",
        "MockTransport": "fastroute.dispatch.mock",
        "Record": "fastroute.dispatch.completion",
        "Request": "fastroute.dispatch.base",
        "Response": "fastroute.dispatch.base",
        "Transport": "fastroute.dispatch.base",
    },
)
