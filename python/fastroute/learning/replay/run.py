"""Compares policies on a journal: each one's estimates, and the differences to the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fastroute.learning.replay.estimate import Estimate, Terms, dollars, estimate
from fastroute.learning.replay.log import Log
from fastroute.learning.replay.policies import MARGIN, target_of
from fastroute.types import Float64Array, ModelPair

OUTCOMES = ("quality", "cost_usd", "latency_ms")


@dataclass(frozen=True)
class Replayed:
    """What one policy would have given.

    Attributes:
        name: of the policy.
        shares: of the requests that it sends to each model.
        estimates: by outcome.
        differences: to the first policy, by outcome; of the first policy empty.
    """

    name: str
    shares: dict[str, float]
    estimates: dict[str, Estimate]
    differences: dict[str, Estimate]

    @property
    def refusals(self) -> list[str]:
        """Why there is no estimate, without repetitions."""
        said = (e.refusal for e in self.estimates.values() if e.refusal)
        return list(dict.fromkeys(said))


def replay(
    log: Log,
    policies: Sequence[str],
    prices: Float64Array,
    *,
    pair: ModelPair | None = None,
    method: str = "doubly_robust",
    confidence: float = 0.95,
    margin: float | None = MARGIN,
) -> list[Replayed]:
    """Estimate each of ``policies`` on ``log``.

    Args:
        prices: float64[K, 3], dollars per token of each model, as ``dollars`` takes them.
        pair: the strong and the weak model, for policies that choose between two sides.
        method: as for ``estimate``.
        confidence: of the intervals.
        margin: of session affinity; see ``target_of``.
    """
    found: list[Replayed] = []
    first: dict[str, Terms] = {}
    for name in policies:
        target = target_of(name, log, pair, margin)
        terms = {
            "quality": estimate(log, target, "grade", method),
            "cost_usd": _bill(log, target, prices, method),
            "latency_ms": estimate(log, target, "latency_ms", method),
        }
        first = first or terms
        differences = {
            key: terms[key].minus(first[key]).interval(confidence) for key in OUTCOMES if found
        }
        found.append(
            Replayed(
                name,
                dict(zip(log.models, target.mean(axis=0).tolist(), strict=True)),
                {key: terms[key].interval(confidence) for key in OUTCOMES},
                differences,
            )
        )
    return found


def _bill(log: Log, target: Float64Array, prices: Float64Array, method: str) -> Terms:
    used = target.sum(axis=0) > 0.0
    missing = [m for m, u, p in zip(log.models, used, prices, strict=True) if u and np.isnan(p[0])]
    if missing:
        said = f"no prices are known of {', '.join(missing)}"
        return Terms(np.nan, np.zeros(0), 0.0, said)
    return dollars(log, target, prices, method)


def to_dict(found: Sequence[Replayed], log: Log, method: str) -> dict[str, Any]:
    """The result as JSON has it: NaN is null."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        return None if isinstance(value, float) and not np.isfinite(value) else value

    return {
        "requests": len(log),
        "conversations": len(np.unique(log.conversation)),
        "method": method,
        "left_out": log.left_out or None,
        "policies": [plain(asdict(one)) for one in found],
    }


def table(found: Sequence[Replayed], log: Log, method: str) -> list[str]:
    """The result as lines for a terminal."""
    count = len(np.unique(log.conversation))
    lines = [
        f"{len(log):,} requests of {count:,} conversations, {method.replace('_', ' ')} estimates",
        *([log.left_out] if log.left_out else []),
        "",
    ]
    width = max(len(one.name) for one in found)
    units = {"quality": ("quality", 1.0, 4), "cost_usd": ("$/1,000 requests", 1e3, 4),
             "latency_ms": ("latency, ms", 1.0, 1)}  # fmt: skip
    for key, (title, scale, digits) in units.items():
        lines.append(title)
        for one in found:
            lines.append(f"  {one.name:{width}}  {_cell(one.estimates[key], scale, digits)}")
            if key in one.differences and not one.differences[key].refusal:
                difference = _cell(one.differences[key], scale, digits, "+")
                lines.append(f"  {'':{width}}  against {found[0].name}: {difference}")
    lines += ["", "sent to"]
    for one in found:
        shares = ", ".join(f"{model} {share:.1%}" for model, share in one.shares.items())
        lines.append(f"  {one.name:{width}}  {shares}")
    return lines


def _cell(value: Estimate, scale: float, digits: int, sign: str = "") -> str:
    if value.refusal:
        return f"refused: {value.refusal}"
    a, b, c = (scale * x for x in (value.value, value.low, value.high))
    form = f"{sign}.{digits}f"
    return f"{a:{form}} [{b:{form}}, {c:{form}}], {value.effective:,.0f} effective conversations"
