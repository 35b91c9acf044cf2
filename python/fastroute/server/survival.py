"""The transports of a gateway, one around the other, as its config asks."""

from __future__ import annotations

from fastroute.dispatch.async_http import AsyncHttpTransport
from fastroute.dispatch.base import Transport
from fastroute.server.config import Config
from fastroute.server.metrics import Metrics


def build_transport(config: Config, metrics: Metrics) -> Transport:
    """The transport that requests of a gateway with ``config`` go through."""
    del config, metrics
    return AsyncHttpTransport()
