"""Simulated conversations with two models: grades, tokens, a prompt cache, dollars and latency.

Both models' answers to every turn are drawn beforehand, so that what any policy would have given is
known exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastroute.learning.replay.log import Log, Outcomes

WEAK, STRONG = 0, 1
#: Dollars per token for input, cached input and output.
PRICES = np.array([[0.15e-6, 0.075e-6, 0.6e-6], [2.5e-6, 1.25e-6, 10e-6]])
#: The share of a turn's input that the cache has if its model answered the turn before.
_CACHED = 0.8


@dataclass
class Traffic:
    """n turns with both models' answers: arrays [n] and [n, 2]."""

    conversation: np.ndarray
    turn: np.ndarray
    difficulty: np.ndarray
    win_rate: np.ndarray
    grade: np.ndarray
    input_tokens: np.ndarray
    output_tokens: np.ndarray
    latency_ms: np.ndarray

    def bills(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cached tokens and dollars of the turns if ``chosen`` answered, int[n]."""
        kept = (self.turn > 0) & (np.r_[-1, chosen[:-1]] == chosen)
        cached = np.where(kept, np.floor(_CACHED * self.input_tokens), 0.0)
        price, at = PRICES[chosen], np.arange(len(chosen))
        dollars = (
            (self.input_tokens - cached) * price[:, 0]
            + cached * price[:, 1]
            + self.output_tokens[at, chosen] * price[:, 2]
        )
        return cached, dollars

    def sides(
        self, threshold: float, margin: float | None = 0.1, first: np.ndarray | None = None
    ) -> np.ndarray:
        """Whether each turn goes to the strong model, bool[n]: a conversation stays with its model
        within ``margin``, as in the gateway. ``first`` has the side of first turns."""
        strong = self.win_rate >= threshold
        if first is not None:
            strong = np.where(self.turn == 0, first, strong)
        if margin is None:
            return strong
        for turn in range(1, int(self.turn.max(initial=0)) + 1):
            rows = np.flatnonzero(self.turn == turn)
            was, rate = strong[rows - 1], self.win_rate[rows]
            strong[rows] = np.where(was, rate >= threshold - margin, rate >= threshold + margin)
        return strong

    def outcome(self, strong: np.ndarray) -> dict[str, float]:
        """The true means if ``strong``, bool[n], chose."""
        chosen, at = strong.astype(int), np.arange(len(strong))
        return {
            "grade": float(self.grade[at, chosen].mean()),
            "cost_usd": float(self.bills(chosen)[1].mean()),
            "latency_ms": float(self.latency_ms[at, chosen].mean()),
        }

    def log(
        self,
        rng: np.random.Generator,
        *,
        threshold: float = 0.6,
        explored: float = 0.0,
        graded: float = 1.0,
        shadow: float = 0.0,
        prompts: list[str] | None = None,
    ) -> Log:
        """What a gateway at ``threshold`` logs that draws the model of a share ``explored`` of
        conversations; a share ``graded`` of answers has a grade, and a share ``shadow`` of requests
        is answered by the other model too."""
        n, at = len(self.turn), np.arange(len(self.turn))
        p_first = np.where(self.win_rate >= threshold, 1.0 - explored / 2, explored / 2)
        strong = self.sides(threshold, first=rng.random(n) < p_first)
        p_strong = np.where(self.turn == 0, p_first, strong)
        chosen = strong.astype(int)
        cached, dollars = self.bills(chosen)

        def outcomes(rows: np.ndarray, model: np.ndarray, cost: np.ndarray, w: float) -> Outcomes:
            grade = self.grade[rows, model].astype(float)
            grade[rng.random(len(rows)) >= graded] = np.nan
            tokens, latency = self.output_tokens[rows, model], self.latency_ms[rows, model]
            return Outcomes(rows, model, grade, tokens, latency, cost, np.full(len(rows), w))

        shadowed = np.flatnonzero(rng.random(n) < shadow)
        other = 1 - chosen[shadowed]
        price = PRICES[other]
        cost = self.input_tokens[shadowed] * price[:, 0]
        cost += self.output_tokens[shadowed, other] * price[:, 2]
        return Log(
            ("weak", "strong"),
            self.conversation,
            np.c_[1.0 - p_strong, p_strong],
            np.c_[self.win_rate, np.log(self.input_tokens)],
            self.input_tokens,
            cached,
            outcomes(at, chosen, dollars, 1.0),
            outcomes(shadowed, other, cost, 1.0 / shadow if shadow else 1.0),
            self.win_rate,
            np.full(n, 100.0),
            prompts,
        )


def draw(
    conversations: int,
    rng: np.random.Generator,
    *,
    weak_skill: float = 0.0,
    turns: float = 2.5,
) -> Traffic:
    """Conversations of ``turns`` turns on average; a greater ``weak_skill`` makes the weak model
    better."""
    counts = rng.geometric(1.0 / turns, size=conversations)
    conversation = np.repeat(np.arange(conversations), counts)
    turn = np.arange(len(conversation)) - np.repeat(np.cumsum(counts) - counts, counts)
    level = np.repeat(rng.normal(size=conversations), counts)  # a conversation has a level
    difficulty = 0.8 * level + 0.6 * rng.normal(size=len(level))
    seen = 0.8 * difficulty + 0.6 * rng.normal(size=len(level))
    logits = np.c_[1.0 + weak_skill - 1.5 * difficulty, 2.2 - 0.7 * difficulty]
    p = 1.0 / (1.0 + np.exp(-logits))
    tokens = np.floor(np.exp(rng.normal(5.0, 0.7, size=len(level)))) + 400.0 * turn + 20.0
    output = np.floor(np.exp(rng.normal([4.8, 5.2], 0.6, size=(len(level), 2)))) + 1.0
    return Traffic(
        conversation,
        turn,
        difficulty,
        1.0 / (1.0 + np.exp(-seen)),
        (rng.random(p.shape) < p).astype(float),
        tokens,
        output,
        200.0 + output * [6.0, 15.0] * np.exp(rng.normal(0.0, 0.3, size=p.shape)),
    )
