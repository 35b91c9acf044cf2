"""Makes the journal's rows of what a gateway noted, in the journal's process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastroute.gateway.journal.texts import Texts, answer_text
from fastroute.gateway.operations.usage import Usage


def request_row(noted: Mapping[str, Any], texts: Texts) -> dict[str, Any]:
    """The row of a request: columns as they are, and ``conversation`` (bytes), ``pair``,
    ``strong_share``, ``cascade``, ``calls`` (model, usage, dollars), ``answered``, ``body``."""
    row = dict(noted)
    pair, strong_share, cascade, calls, answered, body = (
        row.pop(name, None)
        for name in ("pair", "strong_share", "cascade", "calls", "answered", "body")
    )
    if row["conversation"] is not None:
        row["conversation"] = row["conversation"].hex()
    if pair is not None:
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


def shadow_row(noted: Mapping[str, Any], texts: Texts) -> dict[str, Any]:
    """As ``request_row``, of a shadow."""
    row = dict(noted)
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
