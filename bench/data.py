"""What the benches run on: battles shaped like Chatbot Arena's, and prompts.

Everything synthetic is seeded: equal arguments give equal data on one machine. Real prompts come
from a folder that the user names, a checkout of RouteLLM or its ``routellm/evals``.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from words import COMMON_WORDS, SYLLABLES

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

NUM_MODELS = 64
NUM_TIERS = 10
#: Share of ties in Arena's battles, about; half of them are of two bad answers.
SHARE_OF_TIES = 0.3

_CLUSTERS = 200
_ROWS_AT_A_TIME = 65_536


@dataclass(frozen=True)
class Battles:
    """n battles between 64 models, and q prompts of the same kind that are in none of them.

    Attributes:
        embeddings: float32[n, d], of length one.
        model_a, model_b, winner: n names, names, and outcomes in Arena's words.
        queries: float32[q, d], of length one.
        strong_model, weak_model: the pair to route between, some tiers apart.
    """

    embeddings: Float32
    model_a: list[str]
    model_b: list[str]
    winner: list[str]
    queries: Float32
    strong_model: str
    weak_model: str

    def __len__(self) -> int:
        return len(self.winner)

    @property
    def dimensions(self) -> int:
        return int(self.embeddings.shape[1])


@dataclass(frozen=True)
class Size:
    """Number of battles and of dimensions; written ``55000x1536``."""

    battles: int
    dimensions: int

    @classmethod
    def parse(cls, text: str) -> Size:
        """Read one; raises ValueError that says how it is written."""
        battles, _, dimensions = text.strip().partition("x")
        if not (battles.isdecimal() and dimensions.isdecimal()):
            raise ValueError(f"a size is written like 55000x1536 (battles x dimensions): {text!r}")
        size = cls(int(battles), int(dimensions))
        if size.battles < 1000 or size.dimensions < 1:
            raise ValueError(f"a size has at least 1000 battles and 1 dimension: {text!r}")
        return size

    def __str__(self) -> str:
        return f"{self.battles}x{self.dimensions}"


def make_battles(size: Size, *, queries: int = 20, seed: int = 0) -> Battles:
    """Make battles: topics of unequal popularity, models in tiers, ties, prompts asked twice.

    Two prompts of one topic have a cosine of about 0.55, two others of about 0.2, as sentence
    embeddings do. How much a better model helps depends on the topic, so win rates differ.
    """
    rng = np.random.default_rng([seed, size.battles, size.dimensions])
    n = size.battles
    everywhere = _unit(rng.standard_normal((1, size.dimensions), dtype=np.float32))
    centres = _unit(rng.standard_normal((_CLUSTERS, size.dimensions), dtype=np.float32))
    popularity = 1.0 / np.arange(1, _CLUSTERS + 1) ** 0.7
    topics = rng.choice(_CLUSTERS, size=n + queries, p=popularity / popularity.sum())
    points = np.empty((n + queries, size.dimensions), dtype=np.float32)
    for begin in range(0, n + queries, _ROWS_AT_A_TIME):
        block = points[begin : begin + _ROWS_AT_A_TIME]
        rng.standard_normal(dtype=np.float32, out=block)
        block *= np.float32(0.66 / np.sqrt(size.dimensions))
        block += np.float32(0.6) * centres[topics[begin : begin + _ROWS_AT_A_TIME]]
        block += np.float32(0.45) * everywhere
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    embeddings, held_out = points[:n], points[n:].copy()
    asked_before, asked_again = rng.choice(n, size=(2, n // 50), replace=False)
    embeddings[asked_again] = embeddings[asked_before]
    topics[asked_again] = topics[asked_before]

    skill = _skills(rng)
    a, b = _opponents(rng, n)
    gap = rng.uniform(0.4, 1.6, _CLUSTERS)[topics[:n]] * (skill[a] - skill[b])
    a_wins = rng.random(n) < 1.0 / (1.0 + np.exp(-gap))
    tie = rng.random(n) < SHARE_OF_TIES
    both_bad = rng.random(n) < 0.5
    words = np.array(["model_b", "model_a", "tie", "tie (bothbad)"])
    outcome = np.where(tie, np.where(both_bad, 3, 2), a_wins.astype(np.int64))
    names = np.array([f"model-{i:02d}" for i in range(NUM_MODELS)])
    return Battles(
        embeddings,
        names[a].tolist(),
        names[b].tolist(),
        words[outcome].tolist(),
        held_out,
        strong_model=str(names[0]),
        weak_model=str(names[NUM_MODELS // 3]),
    )


def make_shards(
    size: Size, shards: int, *, first: int = 0, queries: int = 1000, seed: int = 0
) -> Iterator[Battles]:
    """Battles as ``make_battles`` makes them, in parts that need not fit in memory together.

    All parts share topics and models; the last one has ``queries`` prompts, the others none.
    Those before ``first`` are left out.
    """
    world = np.random.default_rng([seed, size.dimensions])
    everywhere = _unit(world.standard_normal((1, size.dimensions), dtype=np.float32))
    centres = _unit(world.standard_normal((_CLUSTERS, size.dimensions), dtype=np.float32))
    popularity = 1.0 / np.arange(1, _CLUSTERS + 1) ** 0.7
    skill, slope = _skills(world), world.uniform(0.4, 1.6, _CLUSTERS)
    names = np.array([f"model-{i:02d}" for i in range(NUM_MODELS)])
    words = np.array(["model_b", "model_a", "tie"])
    for shard in range(first, shards):
        rng = np.random.default_rng([seed, size.dimensions, shard])
        n = size.battles // shards + (shard < size.battles % shards)
        asked = queries if shard == shards - 1 else 0
        topics = rng.choice(_CLUSTERS, size=n + asked, p=popularity / popularity.sum())
        points = rng.standard_normal((n + asked, size.dimensions), dtype=np.float32)
        points *= np.float32(0.66 / np.sqrt(size.dimensions))
        points += np.float32(0.6) * centres[topics] + np.float32(0.45) * everywhere
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        a, b = _opponents(rng, n)
        gap = slope[topics[:n]] * (skill[a] - skill[b])
        outcome = np.where(rng.random(n) < SHARE_OF_TIES, 2, rng.random(n) < 1 / (1 + np.exp(-gap)))
        yield Battles(
            points[:n], names[a].tolist(), names[b].tolist(), words[outcome].tolist(), points[n:],
            strong_model=str(names[0]), weak_model=str(names[NUM_MODELS // 3]),
        )  # fmt: skip


def _skills(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Natural logarithm of odds, best first: ten levels, models close together within each."""
    level = np.arange(NUM_MODELS) * NUM_TIERS // NUM_MODELS
    return np.sort(1.5 - 0.33 * level + 0.04 * rng.standard_normal(NUM_MODELS))[::-1]


def _opponents(rng: np.random.Generator, n: int) -> tuple[Int64, Int64]:
    """Models by number, two different ones a battle.

    As in Arena, some fight far more often than others (a fifteenth of all sides is the most
    popular model's), and good ones more often than bad ones.
    """
    order = np.argsort(np.arange(NUM_MODELS) + rng.normal(0.0, 8.0, NUM_MODELS))
    order = np.concatenate([[0], order[order != 0]])
    popularity = np.empty(NUM_MODELS)
    popularity[order] = 1.0 / np.sqrt(np.arange(1, NUM_MODELS + 1))
    popularity /= popularity.sum()
    a = rng.choice(NUM_MODELS, size=n, p=popularity)
    b = rng.choice(NUM_MODELS, size=n, p=popularity)
    while (same := a == b).any():
        b[same] = rng.choice(NUM_MODELS, size=int(same.sum()), p=popularity)
    return a, b


def _unit(X: Float32) -> Float32:
    unit: Float32 = X / np.linalg.norm(X, axis=1, keepdims=True)
    return unit


# Prompts


def load_prompts(data: str | os.PathLike[str] | None, count: int | None = None) -> list[str]:
    """MMLU's prompts from ``data`` (all, or ``count``), or as many synthetic ones.

    The MMLU prompts are spread over the 57 domains, which have very different lengths. Without
    ``data``, 10,000 where ``count`` is None. Raises InvalidInputError if ``data`` has no MMLU.
    """
    if data is None:
        return make_prompts(10_000 if count is None else count)
    from fastroute.evaluation.benchmarks.routellm import load_mmlu

    prompts = list(load_mmlu(Path(data)).prompts)
    random.Random(0).shuffle(prompts)
    return prompts[:count]


def make_prompts(count: int, *, seed: int = 0) -> list[str]:
    """Synthetic prompts: log-normal lengths, a median of about 90 WordPiece tokens.

    Common words, made-up ones that a tokenizer must take apart, numbers and punctuation, in the
    proportions (tokens a word, characters a token) of MMLU's prompts.
    """
    rng = random.Random(seed)
    return [_prompt(rng, max(8, round(rng.lognormvariate(4.20, 0.70)))) for _ in range(count)]


def _prompt(rng: random.Random, num_words: int) -> str:
    parts: list[str] = []
    begins = True
    for _ in range(num_words):
        draw = rng.random()
        if draw < 0.03:
            word = str(rng.randrange(1, 10 ** rng.randint(1, 4)))
        elif draw < 0.13:
            word = "".join(rng.choices(SYLLABLES, k=rng.randint(2, 4)))
        else:
            word = rng.choice(COMMON_WORDS)
        word = word.capitalize() if begins else word
        end = rng.choices(("", ",", ".", "?", ".\n"), weights=(86, 6, 5, 1, 2))[0]
        begins = end not in ("", ",")
        parts.append(word + end)
    return " ".join(parts).rstrip(",. \n") + "?"
