"""Writes simulated traffic into a journal, as a gateway would have."""

from __future__ import annotations

import numpy as np
from sqlalchemy import Engine, insert

from fastroute.journal.database import writing
from fastroute.journal.schema import FEEDBACK, JUDGEMENTS, PRICES, REQUESTS, SHADOWS
from fastroute.learning.replay.log import Log
from loop_traffic import PRICES as DOLLARS
from loop_traffic import Traffic

MODELS = ("weak", "strong")


def write_prices(engine: Engine, time: float = 0.0) -> None:
    """The prices of the two models, from ``time`` on."""
    names = ("input_usd_per_mtok", "cached_input_usd_per_mtok", "output_usd_per_mtok")
    rows = [
        {"model": model, "role": model, "time": time}
        | dict(zip(names, (1e6 * DOLLARS[k]).tolist(), strict=True))
        for k, model in enumerate(MODELS)
    ]
    with writing(engine) as connection:
        connection.execute(insert(PRICES), rows)


def write_traffic(
    engine: Engine,
    traffic: Traffic,
    log: Log,
    *,
    start: float = 0.0,
    arms: list[str] | None = None,
    threshold: float = 0.6,
    name: str = "c",
) -> None:
    """What ``traffic.log`` made, a request a second from ``start`` on; conversations come one after
    another, and judges see both answers where there is a shadow."""
    requests, feedback, shadows = [], [], []
    for i in range(len(log)):
        model = MODELS[log.sent.model[i]]
        request_id, time = f"{name}{i}", start + i
        strong = float(log.probabilities[i, 1])
        propensity = strong if model == "strong" else 1.0 - strong
        requests.append(
            {
                "request_id": request_id,
                "time": time,
                "conversation": f"{name}-{log.conversation[i]}",
                "path": "/chat/completions",
                "router": "mf",
                "policy": "mf",
                "arm": None if arms is None else arms[i],
                "win_rate": float(traffic.win_rate[i]),
                "threshold": threshold,
                "probabilities": {"strong": strong, "weak": 1.0 - strong},
                "chosen": model,
                "answered_by": model,
                "propensity": propensity,
                "explored": propensity < 0.5,
                "input_tokens": int(log.input_tokens[i]),
                "cached_tokens": int(log.cached_tokens[i]),
                "output_tokens": int(log.sent.output_tokens[i]),
                "cost_usd": float(log.sent.cost_usd[i]),
                "latency_ms": float(log.sent.latency_ms[i]),
                "status": 200,
                "prompt": None if log.prompts is None else log.prompts[i],
                "prompt_characters": 100,
            }
        )
        if np.isfinite(log.sent.grade[i]):
            feedback.append(_feedback(request_id, "user", time + 1.0, log.sent.grade[i]))
    judged = []
    for j, i in enumerate(log.shadows.row):
        model = MODELS[log.shadows.model[j]]
        request_id = f"{name}{i}"
        shadows.append(
            {
                "request_id": request_id,
                "model": model,
                "time": start + i,
                "weight": float(log.shadows.weight[j]),
                "input_tokens": int(log.input_tokens[i]),
                "output_tokens": int(log.shadows.output_tokens[j]),
                "cost_usd": float(log.shadows.cost_usd[j]),
                "latency_ms": float(log.shadows.latency_ms[j]),
            }
        )
        judged.append(
            {
                "request_id": request_id,
                "judge": "judge",
                "model_a": "strong",
                "model_b": "weak",
                "score_a": float(traffic.grade[i, 1]),
                "score_b": float(traffic.grade[i, 0]),
                "time": start + i + 1.0,
            }
        )
    with writing(engine) as connection:
        for table, rows in (
            (REQUESTS, requests), (FEEDBACK, feedback), (SHADOWS, shadows), (JUDGEMENTS, judged),
        ):  # fmt: skip
            if rows:
                connection.execute(insert(table), rows)


def _feedback(request_id: str, source: str, time: float, score: float) -> dict[str, object]:
    return {
        "request_id": request_id,
        "source": source,
        "idempotency_key": "",
        "time": time,
        "score": float(score),
    }
