"""Makes the journal's rows of what a gateway noted, in the journal's process.

What is noted is a tuple, as its names would take the gateway longer than its values.
"""

from __future__ import annotations

from typing import Any

from fastroute.gateway.journal.texts import Texts, answer_text
from fastroute.gateway.operations.usage import Usage

#: What is noted of a request, in order: columns as they are, but for ``calls`` (model, usage,
#: dollars), ``answered``, ``body``, and what decided, or None.
REQUEST = (
    *("request_id", "time", "caller", "conversation", "path", "chosen", "arm", "answered_by"),
    *("stream", "latency_ms", "first_byte_ms", "status", "error", "prompt", "prompt_characters"),
    *("calls", "answered", "body", "decision", "choice"),
)
#: Of a decision between two models, and of a choice among candidates.
DECISION = (
    *("router", "router_checksum", "cascade", "strong_share", "win_rate", "threshold"),
    *("difficulty", "pair", "probabilities", "explored"),
)
CHOICE = (
    *("router", "router_checksum", "policy", "candidates", "scores", "probabilities"),
    *("propensity", "explored"),
)
#: Of a shadow.
SHADOW = (
    *("request_id", "model", "time", "weight", "cost_usd", "latency_ms", "error"),
    *("calls", "answered", "body", "stream"),
)


def request_row(noted: tuple[Any, ...], texts: Texts) -> dict[str, Any]:
    """The row of a request, of the values of ``REQUEST``."""
    row = dict(zip(REQUEST, noted, strict=True))
    decision, choice, calls, answered, body = (
        row.pop(name) for name in ("decision", "choice", "calls", "answered", "body")
    )
    if choice is not None:
        row |= zip(CHOICE, choice, strict=True)
    if row["conversation"] is not None:
        row["conversation"] = row["conversation"].hex()
    if decision is not None:
        row |= zip(DECISION, decision, strict=True)
        cascade, strong_share, pair = (row.pop(n) for n in ("cascade", "strong_share", "pair"))
        strong, weak = pair
        point = (
            f"threshold={row['threshold']:g}"
            if strong_share is None
            else f"strong_share={strong_share:g}"
        )
        row["policy"] = "cascade" if cascade else f"{row['router']} {point}"
        row["candidates"] = [strong, weak]
        row["scores"] = {strong: row["win_rate"], weak: 1 - row["win_rate"]}
        if row["probabilities"] is None:
            row["probabilities"] = {model: float(model == row["chosen"]) for model in pair}
        row["propensity"] = row["probabilities"].get(row["chosen"])
    if calls:
        row |= _tokens(calls, answered)
        costs = [cost for _, _, cost in calls]
        row["cost_usd"] = None if None in costs else sum(costs)
        if len(calls) > 1:
            row["calls"] = [
                {"model": model, **_tokens([call], 0), "cost_usd": cost, "is_answer": i == answered}
                for i, call in enumerate(calls)
                for model, _, cost in [call]
            ]
    else:
        row["answered_by"] = None
    if row["prompt"]:
        row["prompt"] = texts.kept(row["prompt"])
    if body:
        row["answer"] = texts.kept(answer_text(body, is_stream=row["stream"]))
    return row


def shadow_row(noted: tuple[Any, ...], texts: Texts) -> dict[str, Any]:
    """The row of a shadow, of the values of ``SHADOW``."""
    row = dict(zip(SHADOW, noted, strict=True))
    calls, answered, body, is_stream = (
        row.pop(name) for name in ("calls", "answered", "body", "stream")
    )
    if calls:
        row |= _tokens(calls, answered)
        del row["cache_write_tokens"]
    if body:
        row["answer"] = texts.kept(answer_text(body, is_stream=is_stream))
    return row


def _tokens(calls: list[Any], answered: int | None) -> dict[str, Any]:
    usages = [Usage(*usage) for _, usage, _ in calls]
    usage = usages[answered or 0]
    return {
        "input_tokens": usage.all_input_tokens,
        "cached_tokens": usage.cached_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "output_tokens": usage.output_tokens,
        "tokens_are_estimates": any(each.is_estimate for each in usages),
    }
