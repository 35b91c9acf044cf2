"""fastroute: decides in microseconds which language model should answer a prompt.

Start with ``Controller``: it decides, and calls the chosen model. Names are imported at first use.
The page "Public modules" of the documentation lists what else is public.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastroute._lazy import lazy_exports

if TYPE_CHECKING:
    from fastroute.controller import Controller as Controller
    from fastroute.errors import FastRouteError as FastRouteError
    from fastroute.errors import RoutingError as RoutingError
    from fastroute.http import Endpoint as Endpoint
    from fastroute.routers import create_router as create_router
    from fastroute.types import Battle as Battle
    from fastroute.types import Decision as Decision
    from fastroute.types import ModelPair as ModelPair

__version__ = "0.1.0"

__all__, __getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "fastroute.controller": "Controller",
        "fastroute.errors": "FastRouteError RoutingError",
        "fastroute.http": "Endpoint",
        "fastroute.routers": "create_router",
        "fastroute.types": "Battle Decision ModelPair",
    },
)
__all__ += ["__version__"]
