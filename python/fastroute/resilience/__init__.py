"""Transports around others: retries, circuit breakers, balancing, fallback, hedging."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastroute._lazy import lazy_exports

if TYPE_CHECKING:
    from fastroute.resilience.balancing import BalancingTransport as BalancingTransport
    from fastroute.resilience.breaker import BreakerTransport as BreakerTransport
    from fastroute.resilience.fallback import FallbackTransport as FallbackTransport
    from fastroute.resilience.hedging import RedundantTransport as RedundantTransport
    from fastroute.resilience.retry_budget import Budget as Budget
    from fastroute.resilience.retry_budget import RetryTransport as RetryTransport

__all__, __getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "fastroute.resilience.balancing": "BalancingTransport",
        "fastroute.resilience.breaker": "BreakerTransport",
        "fastroute.resilience.fallback": "FallbackTransport",
        "fastroute.resilience.hedging": "RedundantTransport",
        "fastroute.resilience.retry_budget": "Budget RetryTransport",
    },
)
