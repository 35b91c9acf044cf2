"""Transports around others: retries, circuit breakers, balancing, fallback, hedging."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastroute._lazy import lazy_exports

if TYPE_CHECKING:
    from fastroute.resilience.balancing import BalancingTransport
    from fastroute.resilience.breaker import BreakerTransport
    from fastroute.resilience.fallback import FallbackTransport
    from fastroute.resilience.hedging import RedundantTransport
    from fastroute.resilience.retry_budget import Budget, RetryTransport

__all__ = [
    "BalancingTransport",
    "BreakerTransport",
    "Budget",
    "FallbackTransport",
    "RedundantTransport",
    "RetryTransport",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "BalancingTransport": "fastroute.resilience.balancing",
        "BreakerTransport": "fastroute.resilience.breaker",
        "Budget": "fastroute.resilience.retry_budget",
        "FallbackTransport": "fastroute.resilience.fallback",
        "RedundantTransport": "fastroute.resilience.hedging",
        "RetryTransport": "fastroute.resilience.retry_budget",
    },
)
