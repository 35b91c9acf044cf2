"""Decisions on Ray Serve: which model a prompt should go to. Nothing is sent to a model.

In this folder, with ``pip install fastroute "ray[serve]"``::

    STRONG_MODEL=gpt-4.1 WEAK_MODEL=gpt-4.1-nano serve run ray_serve:app

``POST /`` takes ``{"prompt": "..."}``, and answers with the model, the win rate and the threshold.
Each replica loads the router once and needs one core.
"""

from __future__ import annotations

import os
from typing import Any

from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse

from fastroute.decider import Decider
from fastroute.errors import RoutingError


@serve.deployment(
    num_replicas=int(os.environ.get("REPLICAS", "2")),
    max_ongoing_requests=64,
    ray_actor_options={"num_cpus": 1},
)
class Decisions:
    """Decides by one router."""

    def __init__(self, router: str, strong_model: str, weak_model: str) -> None:
        self._decider = Decider([router], strong_model, weak_model)

    async def __call__(self, request: Request) -> JSONResponse:
        """Answer one request."""
        try:
            body: Any = await request.json()
            decision = self._decider.decide(body["prompt"])
        except (ValueError, KeyError, TypeError, RoutingError) as error:
            said = f'send a JSON object such as {{"prompt": "..."}}: {error}'
            return JSONResponse({"error": said}, status_code=400)
        return JSONResponse(
            {
                "model": decision.model,
                "router": decision.router,
                "win_rate": decision.win_rate,
                "threshold": decision.threshold,
                "pid": os.getpid(),
            }
        )


app = Decisions.bind(
    os.environ.get("ROUTER", "mf"),
    os.environ.get("STRONG_MODEL", "strong"),
    os.environ.get("WEAK_MODEL", "weak"),
)
