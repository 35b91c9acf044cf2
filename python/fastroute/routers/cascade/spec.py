"""Creates a cascade of routers from its config."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from fastroute.errors import InvalidInputError
from fastroute.routers.base import Router
from fastroute.routers.cascade.artifact import load_cascade, make_member
from fastroute.routers.cascade.router import CascadeRouter
from fastroute.routers.spec import RouterSpec


def _make_cascade(
    *,
    create: Callable[..., Router],
    fast: str | Any = None,
    slow: str | Any = None,
    band: Sequence[float] | None = None,
    share: float | None = None,
    latency_budget_ms: float | None = None,
    checkpoint_path: str | os.PathLike[str] | None = None,
) -> Router:
    if checkpoint_path is not None:
        if any(value is not None for value in (fast, slow, band, share)):
            raise InvalidInputError(
                "checkpoint_path is a calibrated cascade with its own members and band; only "
                "latency_budget_ms may be given with it"
            )
        return load_cascade(checkpoint_path, create, latency_budget_ms=latency_budget_ms)
    if fast is None or slow is None or (band is None and share is None):
        raise InvalidInputError(
            "cascade needs checkpoint_path, the folder of one that fastroute calibrate wrote, or "
            "fast, slow and either band or share"
        )
    return CascadeRouter(
        make_member("fast", fast, create),
        make_member("slow", slow, create),
        band=band,
        share=share,
        latency_budget_ms=latency_budget_ms,
    )


SPEC = RouterSpec(
    "cascade",
    "a fast router, and a slow one for the uncertain middle",
    _make_cascade,
    composite=True,
)
