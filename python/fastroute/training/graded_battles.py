"""Battles from graded prompts.

A graded prompt gives a few battles between models drawn by the prompt's hash: the higher score
wins, equal scores are a tie, and equal scores below one half a "tie (bothbad)". Nothing is drawn at
random, so equal data gives equal battles.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from fastroute import _native
from fastroute.artifacts import prompt_hash
from fastroute.data import GradedResult
from fastroute.routers.sw_ranking.battle_table import count_outcomes, read_columns
from fastroute.types import Battle, Int64Array, Winner

PER_PROMPT = 2
_NO_ALIASES: Mapping[str, str] = MappingProxyType({})


def graded_battles(
    row: GradedResult, per_prompt: int = PER_PROMPT, aliases: Mapping[str, str] = _NO_ALIASES
) -> list[Battle]:
    """At most ``per_prompt`` battles of one graded prompt, each between another two models."""
    scores: dict[str, list[float]] = {}
    for model, score in row.scores.items():
        scores.setdefault(aliases.get(model, model), []).append(score)
    mean = {model: sum(values) / len(values) for model, values in scores.items()}
    battles = []
    for a, b in drawn_pairs(sorted(mean), row.prompt, per_prompt):
        battles.append(Battle(row.prompt, a, b, _winner(mean[a], mean[b])))
    return battles


def comparable(battles: Sequence[Battle]) -> tuple[list[Battle], list[str]]:
    """The battles within the comparable group with most of them, and the models left out."""
    _, a, b, winner = zip(*battles, strict=True)
    models, first, second, outcome = read_columns(len(battles), a, b, winner)
    counts = count_outcomes(len(models), first, second, outcome)
    kept, left_out = comparable_models(models, counts)
    among = set(kept)
    return [b for b in battles if b.model_a in among and b.model_b in among], left_out


def comparable_models(models: Sequence[str], counts: Int64Array) -> tuple[list[str], list[str]]:
    """The models of the comparable group with most battles, and the others.

    ``counts`` are as ``count_outcomes`` gives them.
    """
    lost, tied, won = (counts[..., i].astype(np.float64) for i in range(3))
    wins = won + lost.T + tied + tied.T
    groups = _native.rating_groups(wins)
    met = groups[:, None] == groups
    largest = np.argmax(np.bincount(groups, (wins * met).sum(axis=1)))
    kept = [model for model, group in zip(models, groups, strict=True) if group == largest]
    return kept, [model for model, group in zip(models, groups, strict=True) if group != largest]


def _winner(a: float, b: float) -> Winner:
    if a != b:
        return "model_a" if a > b else "model_b"
    return "tie" if a >= 0.5 else "tie (bothbad)"


def drawn_pairs(models: Sequence[str], prompt: str, count: int) -> list[tuple[str, str]]:
    """At most ``count`` pairs, drawn by the hash of prompt and pair, in either order."""

    def draw(pair: tuple[str, str]) -> bytes:
        return hashlib.sha256(f"{seed}:{pair[0]}:{pair[1]}".encode()).digest()

    seed = prompt_hash(prompt)
    pairs = {(a, b) for i, a in enumerate(models) for b in models[i + 1 :]}
    drawn = sorted((draw(pair), pair) for pair in pairs)[:count]
    return [(a, b) if digest[-1] % 2 else (b, a) for digest, (a, b) in drawn]
