"""Writes simulated traffic into a journal, as a gateway would have."""

from __future__ import annotations

import numpy as np
from sqlalchemy import Engine, insert

from fastroute.journal.database import writing
from fastroute.journal.schema import FEEDBACK, JUDGEMENTS, PRICES, REQUESTS, SHADOWS
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
    p_strong: np.ndarray,
    rng: np.random.Generator,
    *,
    start: float = 0.0,
    graded: float = 1.0,
    shadow: float = 0.0,
    shadow_graded: bool = True,
    prompts: list[str] | None = None,
    arms: np.ndarray | None = None,
    threshold: float = 0.5,
    name: str = "c",
) -> None:
    """A request a second from ``start`` on; conversations come one after another."""
    log = traffic.log(p_strong, rng, graded=graded, shadow=shadow)
    requests, feedback, shadows = [], [], []
    for i in range(len(log)):
        model = MODELS[log.sent.model[i]]
        request_id, time = f"{name}{i}", start + i
        strong = float(p_strong[i])
        propensity = strong if model == "strong" else 1.0 - strong
        requests.append(
            {
                "request_id": request_id,
                "time": time,
                "conversation": f"{name}-{log.conversation[i]}",
                "path": "/chat/completions",
                "router": "mf",
                "policy": "mf",
                "arm": None if arms is None else str(arms[i]),
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
                "prompt": None if prompts is None else prompts[i],
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
        if shadow_graded:
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
