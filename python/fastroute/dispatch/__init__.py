"""Decision in, answer out: model APIs over HTTP, or a mock of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastroute._lazy import lazy_exports

if TYPE_CHECKING:
    from fastroute.dispatch.async_http import AsyncHttpTransport
    from fastroute.dispatch.balancing import BalancingTransport
    from fastroute.dispatch.base import AsyncResponse, Endpoint, Request, Response, Transport
    from fastroute.dispatch.breaker import BreakerTransport
    from fastroute.dispatch.completion import AsyncChatStream, ChatCompletion, ChatStream, Record
    from fastroute.dispatch.fallback import FallbackTransport
    from fastroute.dispatch.hedging import RedundantTransport
    from fastroute.dispatch.http import HttpTransport
    from fastroute.dispatch.mock import MockReply, MockTransport
    from fastroute.dispatch.retry_budget import Budget, RetryTransport

__all__ = [
    "AsyncChatStream",
    "AsyncHttpTransport",
    "AsyncResponse",
    "BalancingTransport",
    "BreakerTransport",
    "Budget",
    "ChatCompletion",
    "ChatStream",
    "Endpoint",
    "FallbackTransport",
    "HttpTransport",
    "MockReply",
    "MockTransport",
    "Record",
    "RedundantTransport",
    "Request",
    "Response",
    "RetryTransport",
    "Transport",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "AsyncChatStream": "fastroute.dispatch.completion",
        "AsyncHttpTransport": "fastroute.dispatch.async_http",
        "AsyncResponse": "fastroute.dispatch.base",
        "BalancingTransport": "fastroute.dispatch.balancing",
        "BreakerTransport": "fastroute.dispatch.breaker",
        "Budget": "fastroute.dispatch.retry_budget",
        "ChatCompletion": "fastroute.dispatch.completion",
        "ChatStream": "fastroute.dispatch.completion",
        "Endpoint": "fastroute.dispatch.base",
        "FallbackTransport": "fastroute.dispatch.fallback",
        "HttpTransport": "fastroute.dispatch.http",
        "MockReply": "fastroute.dispatch.mock",
        "MockTransport": "fastroute.dispatch.mock",
        "Record": "fastroute.dispatch.completion",
        "RedundantTransport": "fastroute.dispatch.hedging",
        "Request": "fastroute.dispatch.base",
        "Response": "fastroute.dispatch.base",
        "RetryTransport": "fastroute.dispatch.retry_budget",
        "Transport": "fastroute.dispatch.base",
    },
)
