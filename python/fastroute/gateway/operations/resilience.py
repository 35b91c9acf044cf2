"""The transports of a gateway, one around the other, as its config asks."""

from __future__ import annotations

import logging

from fastroute.gateway.config.settings import Config
from fastroute.gateway.operations.books import MeteredTransport
from fastroute.gateway.operations.logs import log
from fastroute.gateway.operations.metrics import Metrics
from fastroute.gateway.operations.shared import Circuits
from fastroute.gateway.request.candidates import CandidateTransport, RefusedStreams
from fastroute.http.aiohttp_transport import AiohttpTransport
from fastroute.http.request import AsyncTransport, Request
from fastroute.resilience.balancing import BalancingTransport
from fastroute.resilience.breaker import BreakerTransport
from fastroute.resilience.fallback import FallbackTransport
from fastroute.resilience.hedging import RedundantTransport
from fastroute.resilience.retry_budget import Budget, RetryTransport


def build_transport(config: Config, metrics: Metrics, circuits: Circuits) -> AsyncTransport:
    """The transport that requests of a gateway with ``config`` go through.

    From the outside: another candidate for a prompt that is too long, fallback, retries,
    redundancy, balancing, breaker, meter, refusals in streams, HTTP. So every attempt is balanced,
    known to the breaker and billed, and another model is the last resort.
    """
    resilience = config.resilience
    known = set(config.model_names)

    def observe(event: str, request: Request) -> None:
        model = request.model if request.model in known else "other"
        metrics.events.labels(model, event).inc()
        log(event, logging.INFO, model=model, path=request.path)
        circuits.observe(event, request)

    http = AiohttpTransport(max_header_bytes=config.server.max_provider_header_bytes)
    named = (target.endpoint for model in config.models.values() for target in model.targets)
    endpoints = {config.endpoint, *named}
    for endpoint in endpoints:
        http.check_proxy(endpoint)
    sender = RefusedStreams(http) if config.candidates else http
    breaker = BreakerTransport(
        MeteredTransport(sender),
        failures=resilience.breaker_failures,
        open_s=resilience.breaker_open_s,
        observer=observe,
    )
    circuits.attach(breaker, endpoints, resilience.breaker_open_s)
    transport: AsyncTransport = BalancingTransport(breaker, is_open=breaker.is_open)
    if resilience.redundancy != "none":
        transport = RedundantTransport(
            transport,
            resilience.redundancy,
            budget=Budget(resilience.redundancy_budget),
            quantile=resilience.redundancy_quantile,
            delay_s=resilience.redundancy_delay_s,
            observer=observe,
        )
    if resilience.retries:
        transport = RetryTransport(
            transport,
            retries=resilience.retries,
            budget=Budget(resilience.retry_budget),
            observer=observe,
        )
    if resilience.fallback != "none":
        transport = FallbackTransport(transport, observer=observe)
    if config.candidates:
        transport = CandidateTransport(transport, observe)
    return transport
