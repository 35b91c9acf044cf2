"""The transports of a gateway, one around the other, as its config asks."""

from __future__ import annotations

import logging
from typing import cast

from fastroute.dispatch.async_http import AsyncHttpTransport
from fastroute.dispatch.balancing import BalancingTransport
from fastroute.dispatch.base import Request, Transport
from fastroute.dispatch.breaker import BreakerTransport
from fastroute.dispatch.fallback import FallbackTransport
from fastroute.dispatch.hedging import Redundancy, RedundantTransport
from fastroute.dispatch.retry_budget import Budget, RetryTransport
from fastroute.server.config import Config
from fastroute.server.logs import log
from fastroute.server.metrics import Metrics


def build_transport(config: Config, metrics: Metrics) -> Transport:
    """The transport that requests of a gateway with ``config`` go through.

    From the outside: fallback, retries, redundancy, balancing, breaker, HTTP. So every attempt is
    balanced and known to the breaker, and another model is the last resort.
    """
    survival, routing = config.survival, config.routing
    known = {routing.strong_model, routing.weak_model, *config.models}

    def observe(event: str, request: Request) -> None:
        model = request.model if request.model in known else "other"
        metrics.events.labels(model, event).inc()
        log(event, logging.INFO, model=model, path=request.path)

    breaker = BreakerTransport(
        AsyncHttpTransport(max_header_bytes=config.server.max_provider_header_bytes),
        failures=survival.breaker_failures,
        open_s=survival.breaker_open_s,
        observer=observe,
    )
    transport: Transport = BalancingTransport(breaker, is_open=breaker.is_open)
    if survival.redundancy != "none":
        transport = RedundantTransport(
            transport,
            cast(Redundancy, survival.redundancy),
            budget=Budget(survival.redundancy_budget),
            quantile=survival.redundancy_quantile,
            delay_s=survival.redundancy_delay_s,
            observer=observe,
        )
    if survival.retries:
        transport = RetryTransport(
            transport,
            retries=survival.retries,
            budget=Budget(survival.retry_budget),
            observer=observe,
        )
    if survival.fallback != "none":
        transport = FallbackTransport(transport, observer=observe)
    return transport
