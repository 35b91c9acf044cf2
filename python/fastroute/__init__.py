"""fastroute: decides in microseconds which language model should answer a prompt.

Start with ``Controller``: it decides, and calls the chosen model. Names are imported at first use.
The page "Public modules" of the documentation lists what else is public.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastroute._lazy import lazy_exports

if TYPE_CHECKING:
    from fastroute.controller import Controller
    from fastroute.errors import FastRouteError, RoutingError
    from fastroute.http import Endpoint
    from fastroute.routers import create_router
    from fastroute.types import Battle, Decision, ModelPair

__version__ = "0.1.0"

__all__ = [
    "Battle",
    "Controller",
    "Decision",
    "Endpoint",
    "FastRouteError",
    "ModelPair",
    "RoutingError",
    "__version__",
    "create_router",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Battle": "fastroute.types",
        "Controller": "fastroute.controller",
        "Decision": "fastroute.types",
        "Endpoint": "fastroute.http",
        "FastRouteError": "fastroute.errors",
        "ModelPair": "fastroute.types",
        "RoutingError": "fastroute.errors",
        "create_router": "fastroute.routers",
    },
)
