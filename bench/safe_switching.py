"""What safe switching costs: quality against switching at every request, at equal dollars.

    python bench/safe_switching.py --conversations 20000

Conversations are simulated; how good each model is at each request is known. A conversation has 1
to 12 questions, half of them with a loop of tool calls, and models of two providers sign their
thinking. Every request is a choice by ``BestValue`` at one price of money, by an estimate of
P(success) that is off by a logit of 0.5. Prompts grow, and a provider has in its cache what its
model read at one of the four requests before; costs count that. The ways to choose are:

- free: at every request any model, whatever breaks;
- safe: by ``Turn.lock_reasons``, as a Controller does it;
- margin: that, and another model must promise 0.1 more quality, as the gateway's default.

Each way's quality is compared with that of free switching at equal cost, by straight lines between
the prices of money.
"""

from __future__ import annotations

import argparse
import time
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastroute.candidates import BestValue, Candidate, Turn
from fastroute.candidates.prices import Prices

Floats = npt.NDArray[np.float64]

#: Dollars per million tokens, and skill: the logit of P(success) at a usual request.
MODELS = [
    (Candidate("large-a", 15.0, 75.0, 1.5, provider="a"), 2.2),
    (Candidate("medium-a", 3.0, 15.0, 0.3, provider="a"), 1.7),
    (Candidate("small-a", 1.0, 5.0, 0.1, provider="a"), 0.9),
    (Candidate("large-b", 2.5, 10.0, 1.25, provider="b"), 1.6),
    (Candidate("small-b", 0.25, 2.0, 0.025, provider="b"), 0.8),
    (Candidate("open-c", 0.3, 1.2, provider="c"), 0.5),
]
SIGNING = {"a", "b"}
CANDIDATES = [candidate for candidate, _ in MODELS]
PRICES = Prices(CANDIDATES)
QUALITY_PER_USD = (0.0, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
WAYS = {"free": 0.0, "safe": 0.0, "margin": 0.1}
ANSWER_TOKENS = 300
_CACHED_REQUESTS = 4
USER = {"role": "user", "content": "?"}
DONE = {"role": "assistant", "content": "."}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function"}]}
RESULT = {"role": "tool", "tool_call_id": "1", "content": "."}
SIGNED = {"role": "assistant", "content": [{"type": "thinking", "signature": "x"}]}


class Conversation(NamedTuple):
    """The requests of one conversation.

    Attributes:
        tokens: of each prompt, int[n].
        quality: P(success) of each model at each request, float64[n, m].
        estimate: what is known of it.
        calls: whether the answer to each is a tool call.
        thinks: whether it has thinking, which some providers sign.
    """

    tokens: list[int]
    quality: Floats
    estimate: Floats
    calls: list[bool]
    thinks: list[bool]


class Outcome(NamedTuple):
    """Sums over the requests of conversations."""

    requests: int
    quality: float
    usd: float
    switches: int
    unsafe: int


def simulate(random: np.random.Generator) -> Conversation:
    """A conversation."""
    calls: list[bool] = []
    for _ in range(min(int(random.geometric(0.2)), 12)):
        steps = min(int(random.geometric(0.3)), 10) if random.random() < 0.5 else 0
        calls += [True] * steps + [False]
    n, m = len(calls), len(MODELS)
    skill = np.array([s for _, s in MODELS]) + random.normal(0.0, 0.5, m)  # at this subject
    hard = random.normal(0.0, 1.0) + random.normal(0.0, 0.8, (n, 1))
    logit = skill - hard + random.normal(0.0, 0.5, (n, m))
    noisy = logit + random.normal(0.0, 0.5, (n, m))
    growth = random.integers(100, 2000, n)
    tokens = (1500 + np.cumsum(growth)).tolist()
    thinks = (random.random(n) < 0.3).tolist()
    return Conversation(tokens, _sigmoid(logit), _sigmoid(noisy), calls, thinks)


def run(conversations: list[Conversation], way: str, quality_per_usd: float) -> Outcome:
    """Choose at every request of ``conversations``."""
    policy, margin = BestValue(quality_per_usd), WAYS[way]
    quality = usd = 0.0
    requests = switches = unsafe = 0
    for tokens, true, estimate, calls, thinks in conversations:
        messages: list[dict[str, Any]] = [USER]
        cached = np.zeros(len(CANDIDATES))
        seen = np.full(len(CANDIDATES), -_CACHED_REQUESTS - 1)
        before = -1
        for i, size in enumerate(tokens):
            known = np.where(i - seen <= _CACHED_REQUESTS, cached, 0.0)
            turn, offered = Turn(), estimate[i]
            locks: list[str | None] = [None] * len(CANDIDATES)
            if before >= 0:
                turn = Turn.read(messages, CANDIDATES[before].name, int(known[before]))
                locks = turn.lock_reasons(CANDIDATES)
                offered = offered.copy()
                offered[before] += margin
            dollars = PRICES.dollars(
                size, ANSWER_TOKENS, cached_at=turn.model, cached_tokens=turn.cached_tokens
            )
            eligible = [k for k, lock in enumerate(locks) if way == "free" or lock is None]
            chosen = eligible[policy.choose(offered[eligible], dollars[eligible])]
            quality += true[i, chosen]
            usd += CANDIDATES[chosen].dollars(size, ANSWER_TOKENS, min(known[chosen], size))
            requests += 1
            switches += before not in (-1, chosen)
            unsafe += locks[chosen] is not None
            cached[chosen], seen[chosen], before = size, i, chosen
            if thinks[i] and CANDIDATES[chosen].provider in SIGNING:
                messages.append(SIGNED)
            messages += [CALL, RESULT] if calls[i] else [DONE, USER]
    return Outcome(requests, quality, usd, switches, unsafe)


def lost(free: list[Outcome], other: list[Outcome]) -> list[tuple[float, float]]:
    """(dollars per 1,000 requests, quality lost against ``free`` at that cost), where both are."""
    curves = []
    for outcomes in (free, other):
        points = sorted((1000 * o.usd / o.requests, o.quality / o.requests) for o in outcomes)
        curves.append(np.array(points))
    costs, mine = curves
    inside = (mine[:, 0] >= costs[0, 0]) & (mine[:, 0] <= costs[-1, 0])
    best = np.maximum.accumulate(costs[:, 1])
    return [(c, float(np.interp(c, costs[:, 0], best) - q)) for c, q in mine[inside]]


def main() -> None:
    """Print a table for each way, and what is lost at equal cost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--conversations", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random = np.random.default_rng(options.seed)
    conversations = [simulate(random) for _ in range(options.conversations)]
    began = time.perf_counter()
    found = {way: [run(conversations, way, p) for p in QUALITY_PER_USD] for way in WAYS}
    print(f"{options.conversations:,} conversations, {found['free'][0].requests:,} requests")
    print("| way | quality per dollar | dollars per 1,000 | quality | switches | unsafe |")
    print("|---|---:|---:|---:|---:|---:|")
    for way, outcomes in found.items():
        for price, o in zip(QUALITY_PER_USD, outcomes, strict=True):
            print(
                f"| {way} | {price:g} | {1000 * o.usd / o.requests:.3f} | "
                f"{o.quality / o.requests:.4f} | {o.switches:,} | {o.unsafe:,} |"
            )
    for way in ("safe", "margin"):
        losses = lost(found["free"], found[way])
        said = ", ".join(f"{loss:+.4f} at ${cost:.2f}" for cost, loss in losses)
        mean = np.mean([loss for _, loss in losses])
        print(f"quality lost by {way} at equal cost: mean {mean:.4f}; {said}")
    print(f"{time.perf_counter() - began:.0f} s")


def _sigmoid(x: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-x))


if __name__ == "__main__":
    main()
