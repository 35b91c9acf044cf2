"""How a cascade chose an answer and what each of its calls cost, for headers, log and page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastroute.evidence.cascade import CascadeCall, Evidence
from fastroute.gateway.operations.books import BilledCall
from fastroute.gateway.protocol.replies import HeaderList
from fastroute.http.request import AsyncResponse

_SHOWN_CHARS = 200


def call_rows(evidence: Evidence | None, billed: Sequence[BilledCall]) -> list[dict[str, Any]]:
    """One plain object for each call: model, outcome, tokens, dollars where prices are given.

    A call that was sent more than once, by a retry or a hedge, has a row for each that is billed;
    the others have the outcome "repeated". Without ``evidence``, because the client left before an
    answer was chosen or every call failed, each billed call is "not_sent" or "cancelled".
    """
    if evidence is None:
        outcomes = ("cancelled", "not_sent")
        return [{"model": b.model, "outcome": outcomes[b.is_answered]} | _costs(b) for b in billed]
    rows: list[dict[str, Any]] = []
    left = list(billed)
    for call in evidence.calls:
        mine = _take(left, call)
        row: dict[str, Any] = {
            "model": call.model,
            "outcome": call.outcome,
            "seconds": round(call.seconds, 6),
        }
        rows.append(row if mine is None else row | _costs(mine))
    rows += [{"model": b.model, "outcome": "repeated"} | _costs(b) for b in left]
    return rows


def _take(left: list[BilledCall], call: CascadeCall) -> BilledCall | None:
    """The billed call of ``left`` that is ``call``, which is removed from it."""
    if call.request is None:
        found = next((b for b in left if b.model == call.model and not b.is_answered), None)
    else:
        found = next((b for b in left if b.request is call.request and b.is_answered), None)
    if found is not None:
        left.remove(found)
    return found


def _costs(billed: BilledCall) -> dict[str, Any]:
    usage = billed.usage
    found: dict[str, Any] = {
        "input_tokens": usage.all_input_tokens,
        "output_tokens": usage.output_tokens,
    }
    if usage.is_estimate:
        found["tokens_are_estimates"] = True
    if billed.cost_usd is not None:
        found["cost_usd"] = round(billed.cost_usd, 9)
    return found


def evidence_headers(answer: AsyncResponse, billed: Sequence[BilledCall]) -> HeaderList:
    """``x-fastroute-evidence: agree 2/2``, and an ``x-fastroute-call`` for each call of a cascade's
    ``answer``. The tokens of an answer that is still coming are not known."""
    evidence = answer.evidence
    assert isinstance(evidence, Evidence)
    headers: HeaderList = [(b"x-fastroute-evidence", str(evidence).encode())]
    for row in call_rows(evidence, billed):
        if row["outcome"] == "sent" and answer.body is None:
            row = {name: row[name] for name in ("model", "outcome", "seconds")}
        model = str(row.pop("model"))[:_SHOWN_CHARS]
        parts = [model if model.isascii() and model.isprintable() else "?"]
        parts += [f"{name}={_shown(value)}" for name, value in row.items()]
        headers.append((b"x-fastroute-call", "; ".join(parts).encode()))
    return headers


def _shown(value: Any) -> str:
    return f"{value:.9f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
