"""The page at ``/`` and what it asks for: live counts, the curve, the most similar battles."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import web

from fastroute import __version__
from fastroute.data.battles import read_battles
from fastroute.errors import FastRouteError, InvalidInputError, JournalError
from fastroute.gateway.dashboard.cascade import CascadeEndpoint
from fastroute.gateway.dashboard.journal import JournalEndpoint
from fastroute.gateway.dashboard.label import has_pairs, label_routes
from fastroute.gateway.gateway import Gateway
from fastroute.gateway.operations.metrics import BY_EVIDENCE, spend_state
from fastroute.gateway.operations.state import State
from fastroute.gateway.protocol.limits import read_body
from fastroute.gateway.protocol.replies import RefusalError, json_response
from fastroute.gateway.request.conversation import (
    messages_of,
    messages_of_long,
    prompt_to_route_on,
)
from fastroute.gateway.request.document import LONG_BYTES, read_document
from fastroute.labelling.page import Handler, file_handler
from fastroute.routers.base import Router
from fastroute.types import Battle

_FOLDER = Path(__file__).parent / "page"
_SCRIPTS = ("page", "tabs", "rollout", "journal")
_FILES = {
    "/": ("index.html", "text/html"),
    "/ui/page.css": ("page.css", "text/css"),
    **{
        f"/ui/{name}.js": (f"{name}.js", "text/javascript")
        for name in ("page", "tabs", "rollout", "journal")
    },
}
_NEIGHBORS = 5


def page_routes(state: State) -> list[tuple[str, str, Handler, bool]]:
    """The page's paths, each with its method, its handler, and whether it needs a key."""
    neighbors = _Neighbors()

    async def about(_: web.BaseRequest) -> web.Response:
        gateway = state.gateway
        routing, cascade = gateway.config.routing, gateway.config.cascade
        return json_response(
            {
                "version": __version__,
                "strong_model": routing.strong_model,
                "weak_model": routing.weak_model,
                "routers": list(gateway.decider.routers),
                "default_router": routing.router,
                "threshold": gateway.threshold,
                "helpers": () if cascade is None else cascade.helpers,
                "has_pairs": has_pairs(gateway.config.journal),
                "candidates": [candidate.name for candidate in gateway.config.candidates],
                "policy": gateway.config.policy.choose,
            }
        )

    async def stats(_: web.BaseRequest) -> web.Response:
        return json_response(counts(state))

    async def rollout(_: web.BaseRequest) -> web.Response:
        from fastroute.gateway.operations.rollout import rollout_json

        try:
            config, watching = state.gateway.config, state.watching
            return json_response(await asyncio.to_thread(rollout_json, config, watching))
        except (InvalidInputError, JournalError) as error:
            raise RefusalError(503, "state_unreadable", str(error)) from error

    async def curve(request: web.BaseRequest) -> web.Response:
        router = state.gateway.decider.routers.get(request.query.get("router", ""))
        return json_response(curve_of(router, state.gateway))

    async def similar(request: web.BaseRequest) -> web.Response:
        try:
            raw = await read_body(request, state.gateway.config.server)
            prompt = await asyncio.to_thread(_prompt, raw)
        except FastRouteError:
            return json_response({"battles": []})
        found = await asyncio.to_thread(neighbors.find, state.gateway, prompt)
        return json_response({"battles": found})

    files: list[tuple[str, str, Handler, bool]] = [
        (path, "GET", file_handler(_FOLDER / name, kind), False)
        for path, (name, kind) in _FILES.items()
    ]
    data: tuple[tuple[str, str, Handler], ...] = (
        ("/ui/about", "GET", about),
        ("/ui/stats", "GET", stats),
        ("/ui/curve", "GET", curve),
        ("/ui/neighbors", "POST", similar),
        ("/ui/rollout", "GET", rollout),
        ("/ui/journal", "GET", JournalEndpoint(state)),
        ("/ui/cascade", "POST", CascadeEndpoint(state)),
    )
    routes = [*files, *((*route, True) for route in data), *label_routes(state)]
    return [
        (path, method, _if_on(state, handler), needs_key)
        for path, method, handler, needs_key in routes
    ]  # fmt: skip


def _prompt(raw: bytes) -> str:
    fields = read_document(raw).fields
    read = messages_of if len(raw) <= LONG_BYTES else partial(messages_of_long, window=1)
    return prompt_to_route_on(read(fields, "/chat/completions"), 1)


def counts(state: State) -> dict[str, Any]:
    """Live counts, of all workers together."""
    totals: dict[str, float] = {}
    by_model: list[dict[str, Any]] = []
    cascades: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    saved = {"fastroute_saved_dollars_total": 1.0, "fastroute_overspent_dollars_total": -1.0}
    saved_by_evidence = 0.0
    routing = state.gateway.config.routing
    for family in state.metrics.collected().collect():
        for sample in family.samples:
            totals[sample.name] = totals.get(sample.name, 0.0) + sample.value
            if sample.labels.get("source") == "estimate":
                name = f"{sample.name} estimate"
                totals[name] = totals.get(name, 0.0) + sample.value
            if sample.labels.get("side") == "strong":
                name = f"{sample.name} strong"
                totals[name] = totals.get(name, 0.0) + sample.value
            if sample.name == "fastroute_decisions_total":
                by_model.append({**sample.labels, "count": int(sample.value)})
            elif sample.name == "fastroute_cascades_total":
                cascades.append({**sample.labels, "count": int(sample.value)})
            elif sample.name == "fastroute_cascade_calls_total":
                calls.append({**sample.labels, "count": int(sample.value)})
            elif sample.labels.get("router") == BY_EVIDENCE:
                saved_by_evidence += saved.get(sample.name, 0.0) * sample.value
    by_model.sort(key=lambda row: (row["router"], -row["count"]))
    pair = [routing.strong_model, routing.weak_model] if routing.strong_model else []
    chosen = (candidate.name for candidate in state.gateway.config.candidates)
    prices = [state.gateway.model_config(m) for m in (*pair, *chosen)]
    return {
        "requests": int(totals.get("fastroute_requests_total", 0)),
        "in_flight": int(totals.get("fastroute_requests_in_flight", 0)),
        "decisions": sum(row["count"] for row in by_model),
        "strong": sum(r["count"] for r in by_model if r["model"] == routing.strong_model),
        "by_model": by_model,
        "has_prices": all(p is not None and p.input_usd_per_mtok is not None for p in prices),
        "spent_usd": totals.get("fastroute_spent_dollars_total", 0.0),
        "estimated_usd": totals.get("fastroute_spent_dollars_total estimate", 0.0),
        "saved_usd": sum(sign * totals.get(name, 0.0) for name, sign in saved.items()),
        "held": _held(totals, state),
        "spending": _spending(totals, state),
        "cascades": sorted(cascades, key=lambda row: -row["count"]),
        "cascade_calls": sorted(calls, key=lambda row: (row["model"], -row["count"])),
        "saved_by_evidence_usd": saved_by_evidence,
    }


def _held(totals: Mapping[str, float], state: State) -> dict[str, Any] | None:
    """The share that is held, what it has been, and this worker's threshold; None without one."""
    control = state.gateway.decider.share_control
    if control is None:
        return None
    return {
        "strong_share": control.held.strong_share,
        "threshold": control.threshold,
        "decisions": int(totals.get("fastroute_held_decisions_total", 0)),
        "strong": int(totals.get("fastroute_held_decisions_total strong", 0)),
        "at_bound": int(totals.get("fastroute_held_at_bound_total", 0)),
    }


def _spending(totals: Mapping[str, float], state: State) -> dict[str, float] | None:
    """The account of the policy that chooses among candidates, of all workers together, and this
    worker's price of money; None where there is no ceiling."""
    account = spend_state(state.gateway.candidates)
    if account is None:
        return None
    sums = ("spent_usd", "balance_usd", "overdrafts")
    found = {name: totals.get(f"fastroute_policy_{name}", 0.0) for name in sums}
    return found | {"quality_per_usd": account.quality_per_usd}


def curve_of(router: Router | None, gateway: Gateway) -> dict[str, Any]:
    """Share of strong calls and share of the advantage kept, by threshold.

    From the router's calibration: win rates w of prompts that it was not trained on. Thresholds
    are quantiles of them, from where every call goes to the strong model to where none does, so
    that each step moves the same share of calls. At threshold t the strong model answers where
    w >= t; of its advantage, the sum of w, that keeps their part.
    """
    prices = [
        None if model is None else model.output_usd_per_mtok
        for model in map(
            gateway.model_config,
            (gateway.config.routing.strong_model, gateway.config.routing.weak_model),
        )
    ]
    ratio = prices[1] / prices[0] if prices[0] and prices[1] is not None else None
    if router is None or router.provenance.calibration is None:
        return {"thresholds": [], "shares": [], "kept": [], "price_ratio": ratio}
    rates = np.sort(router.provenance.calibration.astype(np.float64))
    steps = np.quantile(rates, np.linspace(0.0, 1.0, 500))
    thresholds = np.unique(np.floor(np.r_[steps, rates[-1] + 1e-4] * 1e6) / 1e6)
    first = np.searchsorted(rates, thresholds, side="left")
    above = np.r_[np.cumsum(rates[::-1])[::-1], 0.0]
    return {
        "thresholds": thresholds.tolist(),
        "shares": (1 - first / len(rates)).round(6).tolist(),
        "kept": (above[first] / max(above[0], 1e-12)).round(6).tolist(),
        "price_ratio": ratio,
    }


def _if_on(state: State, handler: Handler) -> Handler:
    """``handler``, while the config wants the page."""

    async def checked(request: web.BaseRequest) -> web.StreamResponse:
        if not state.gateway.config.server.page:
            raise RefusalError(404, "not_found", "the page is off")
        return await handler(request)

    return checked


class _Neighbors:
    """The battles of an ``sw_ranking`` router that explain the win rate of a prompt."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._checksum: str | None = None
        self._battles: list[Battle] = []

    def find(self, gateway: Gateway, prompt: str) -> list[dict[str, Any]]:
        """The most similar battles, best first; none where no router has battles."""
        from fastroute.routers.sw_ranking import SimilarityWeightedRouter

        router = gateway.decider.routers.get("sw_ranking")
        path = gateway.config.router_config.get("sw_ranking", {}).get("battles")
        if not isinstance(router, SimilarityWeightedRouter) or path is None:
            return []
        try:
            nearest = router.explain(prompt, _NEIGHBORS).nearest
        except InvalidInputError:  # a prompt without tokens is near nothing
            return []
        with self._lock:
            if self._checksum != router.provenance.checksum:
                # The router knows battles by number; the file has their prompts.
                self._battles = read_battles(path)
                self._checksum = router.provenance.checksum
            battles = self._battles
        return [
            {**battles[near.battle]._asdict(), "similarity": round(near.similarity, 4)}
            for near in nearest
        ]
