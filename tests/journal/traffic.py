"""A journal with made-up traffic of two models, for tests."""

from __future__ import annotations

import random
from typing import Any

from sqlalchemy import Engine, insert

from fastroute.journal.database import writing
from fastroute.journal.schema import FEEDBACK, JUDGEMENTS, PRICES, REQUESTS, SHADOWS

#: Dollars per million tokens: input, cached input, output.
STRONG, WEAK = (10.0, 2.5, 30.0), (1.0, 1.0, 2.0)
START_S = 1_790_000_000.0  # 2026-09-21
DAY_S = 86400.0


def dollars(prices: tuple[float, float, float], full: int, cached: int, output: int) -> float:
    return (full * prices[0] + cached * prices[1] + output * prices[2]) / 1e6


class Traffic:
    """``count`` requests in ``days`` days; of each what both models would have cost.

    The strong model writes 1.5 times as many tokens; one in five requests has a shadow, which the
    sampling preferred for even ones, and half a grade.
    """

    def __init__(self, count: int, seed: int = 0, days: float = 60.0) -> None:
        numbers = random.Random(seed)
        self.requests: list[dict[str, Any]] = []
        self.shadows: list[dict[str, Any]] = []
        self.feedback: list[dict[str, Any]] = []
        self.strong_usd = self.weak_usd = 0.0
        for i in range(count):
            full, cached = numbers.randrange(50, 500), numbers.choice([0, 0, 100])
            short = numbers.randrange(20, 200)
            outputs = {"weak": short, "strong": round(short * numbers.uniform(1.2, 1.8))}
            usd = {
                "strong": dollars(STRONG, full, cached, outputs["strong"]),
                "weak": dollars(WEAK, full, cached, outputs["weak"]),
            }
            self.strong_usd += usd["strong"]
            self.weak_usd += usd["weak"]
            chosen = "strong" if numbers.random() < 0.3 else "weak"
            other = "weak" if chosen == "strong" else "strong"
            name, time = f"{i:016x}", START_S + i * days * DAY_S / count
            self.requests.append({
                "request_id": name, "time": time, "caller": f"caller {i % 2}", "path": "/x",
                "router": "length", "win_rate": 0.5, "candidates": ["strong", "weak"],
                "scores": {"strong": 0.5, "weak": 0.5}, "policy": "length threshold=0.5",
                "probabilities": {"strong": 0.3, "weak": 0.7}, "chosen": chosen,
                "propensity": 0.3 if chosen == "strong" else 0.7, "answered_by": chosen,
                "input_tokens": full + cached, "cached_tokens": cached, "cache_write_tokens": 0,
                "output_tokens": outputs[chosen], "cost_usd": usd[chosen], "latency_ms": 100.0,
                "status": 200, "prompt": f"prompt {i}", "answer": f"{chosen} {i}",
                "prompt_characters": 8, "explored": False, "stream": False,
            })  # fmt: skip
            probability = 0.3 if i % 2 else 0.1
            if numbers.random() < probability:
                self.shadows.append({
                    "request_id": name, "model": other, "time": time, "weight": 1 / probability,
                    "input_tokens": full + cached, "cached_tokens": cached,
                    "output_tokens": outputs[other], "cost_usd": usd[other], "latency_ms": 90.0,
                    "answer": f"{other} {i}",
                })  # fmt: skip
            if i % 2:
                self.feedback.append({
                    "request_id": name, "time": time + 60, "source": "user",
                    "idempotency_key": "", "caller": f"caller {i % 2}", "comment": "fine",
                    "score": 1.0 if chosen == "strong" else 0.25,
                })  # fmt: skip

    def write(self, engine: Engine) -> None:
        """Put all of it into a journal."""
        prices = [
            {
                "model": model, "time": START_S, "role": model, "input_usd_per_mtok": full,
                "cached_input_usd_per_mtok": cached, "output_usd_per_mtok": output,
            }
            for model, (full, cached, output) in (("strong", STRONG), ("weak", WEAK))
        ]  # fmt: skip
        judged = {
            "request_id": self.requests[0]["request_id"], "judge": "gpt", "model_a": "strong",
            "model_b": "weak", "winner": "tie", "cost_usd": 0.01, "time": START_S,
        }  # fmt: skip
        with writing(engine) as connection:
            for table, rows in (
                (PRICES, prices), (REQUESTS, self.requests), (SHADOWS, self.shadows),
                (FEEDBACK, self.feedback), (JUDGEMENTS, [judged]),
            ):  # fmt: skip
                connection.execute(insert(table), rows)
