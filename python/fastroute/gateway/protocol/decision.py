"""What was decided on a request, for headers, log and ``/v1/route``."""

from __future__ import annotations

from typing import Any

from fastroute.gateway.operations.metrics import BY_CHOICE
from fastroute.gateway.protocol.replies import HeaderList
from fastroute.gateway.request.candidates import Choice
from fastroute.gateway.request.routed import Routed
from fastroute.many_models import CandidateView
from fastroute.types import Decision

#: A client may name a model of any length; logs and headers show no more of it.
SHOWN_CHARS = 200


def decision_headers(routed: Routed, answered_by: str | None = None) -> HeaderList:
    """The decision as response headers."""
    model = answered_by or routed.model
    headers: HeaderList = []
    if model.isascii() and model.isprintable() and len(model) <= SHOWN_CHARS:
        headers.append((b"x-fastroute-model", model.encode()))
    decision = routed.decision
    if routed.choice is not None:
        headers += _choice_headers(routed.choice, routed.seconds)
    elif decision is None:
        return headers
    else:
        headers += _pair_headers(decision, routed.seconds)
    if routed.stayed:
        headers.append((b"x-fastroute-sticky", b"stayed"))
    if model != routed.model and not routed.cascade:
        headers.append((b"x-fastroute-fallback-from", routed.model.encode("ascii", "replace")))
    return headers


def _pair_headers(decision: Decision, seconds: float) -> HeaderList:
    headers: HeaderList = [
        (b"x-fastroute-router", decision.router.encode()),
        (b"x-fastroute-win-rate", f"{decision.win_rate:.6g}".encode()),
        (b"x-fastroute-threshold", repr(decision.threshold).encode()),
        (b"x-fastroute-decision-us", f"{seconds * 1e6:.1f}".encode()),
    ]
    if decision.difficulty is not None:
        headers.append((b"x-fastroute-difficulty", f"{decision.difficulty:.4f}".encode()))
    return headers


def decision_json(routed: Routed) -> dict[str, Any]:
    """The answer of ``POST /v1/route``."""
    if routed.choice is not None:
        return _choice_json(routed.choice, routed.seconds)
    decision = routed.decision
    if decision is None:
        return {"model": routed.model, "router": None}
    found: dict[str, Any] = {
        "model": decision.model,
        "router": decision.router,
        "win_rate": decision.win_rate,
        "threshold": decision.threshold,
        "difficulty": decision.difficulty,
        "strong": decision.strong,
        "stayed": routed.stayed,
        "decision_us": routed.seconds * 1e6,
    }
    # The answers of the cheap models decide, and the above only where they can't be compared.
    return found | {"cascade": True} if routed.cascade else found


def _choice_headers(choice: Choice, seconds: float) -> HeaderList:
    """The decision as response headers."""
    decision = choice.decision
    return [
        (b"x-fastroute-router", BY_CHOICE.encode()),
        (b"x-fastroute-policy", decision.policy.encode("ascii", "replace")),
        (b"x-fastroute-quality", f"{decision.quality:.4f}".encode()),
        (b"x-fastroute-expected-usd", f"{decision.usd:.9f}".encode()),
        (b"x-fastroute-decision-us", f"{seconds * 1e6:.1f}".encode()),
    ]


def choice_facts(choice: Choice) -> dict[str, Any]:
    """The decision for the log."""
    decision, turn = choice.decision, choice.reading.turn
    return {
        "router": BY_CHOICE,
        "policy": decision.policy,
        "quality": round(decision.quality, 4),
        "expected_usd": round(decision.usd, 9),
        "abstained": decision.abstained,
        "stayed": decision.stayed,
        "previous_model": turn.model or None,
        "candidates": [_row(view) for view in decision.candidates],
    }


def _choice_json(choice: Choice, seconds: float) -> dict[str, Any]:
    """The answer of ``POST /v1/route``."""
    turn = choice.reading.turn
    return {
        "model": choice.decision.model,
        **choice_facts(choice),
        "cached_tokens": turn.cached_tokens,
        "nearest": [near._asdict() for near in choice.decision.nearest],
        "decision_us": seconds * 1e6,
    }


def _row(view: CandidateView) -> dict[str, Any]:
    return {
        "name": view.name,
        "quality": round(view.quality, 4),
        "low": round(view.low, 4),
        "high": round(view.high, 4),
        "usd": round(view.usd, 9),
        "eligible": view.eligible,
        "reason": view.reason,
    }
