"""The ``cascade`` router: a fast router, and a slow one where the fast one is uncertain.

``router`` calls both within the latency budget (``latency_estimate``). ``band`` decides which
prompts are sent on, and combines the two win rates. ``artifact`` saves and loads a calibrated one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastroute._lazy import lazy_exports

if TYPE_CHECKING:
    from fastroute.routers.cascade.artifact import load_cascade, save_cascade
    from fastroute.routers.cascade.band import Band
    from fastroute.routers.cascade.router import (
        CascadeExplanation,
        CascadeRouter,
        CascadeStatistics,
    )

__all__ = [
    "Band",
    "CascadeExplanation",
    "CascadeRouter",
    "CascadeStatistics",
    "load_cascade",
    "save_cascade",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Band": "fastroute.routers.cascade.band",
        "CascadeExplanation": "fastroute.routers.cascade.router",
        "CascadeRouter": "fastroute.routers.cascade.router",
        "CascadeStatistics": "fastroute.routers.cascade.router",
        "load_cascade": "fastroute.routers.cascade.artifact",
        "save_cascade": "fastroute.routers.cascade.artifact",
    },
)
