"""``python -m fastroute.training.battles``: battles for ``sw_ranking`` from preference data.

A graded prompt gives a few battles between models drawn by the prompt's hash: the higher score
wins, equal scores are a tie, and equal scores below one half a "tie (bothbad)". A judged prompt
gives battles that a judge decided, with its verdicts in both orders taken together. The file is the
same for ever: nothing is drawn at random.

Models must be comparable to be rated: each must have won and lost, directly or by a chain of
others, against every other. What is outside the group with most battles is dropped, and said.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Mapping, Sequence

import numpy as np

from fastroute import _native
from fastroute.artifacts import prompt_hash
from fastroute.data.battles import LEAST_PROMPT_CHARACTERS
from fastroute.data.jsonl import write_rows
from fastroute.errors import FastRouteError, InvalidInputError
from fastroute.training.preferences import (
    Judged,
    Preference,
    read_judged,
    read_preferences,
)
from fastroute.types import Battle, Winner

PER_PROMPT = 2

#: One model under several names: spellings of its publisher's, and the tags of ollama (which
#: serves the instruct model as llama3.1:8b) and of OpenAI (whose gpt-4 was gpt-4-0314 then).
ALIASES = {
    "Meta-Llama-3_1-8B-Instruct": "Meta-Llama-3.1-8B-Instruct",
    "llama-3.1-8b-instruct": "Meta-Llama-3.1-8B-Instruct",
    "llama3.1-8b": "Meta-Llama-3.1-8B-Instruct",
    "Meta-Llama-3_1-70B-Instruct": "Meta-Llama-3.1-70B-Instruct",
    "Meta-Llama-3.1-70B-Instruct@hyperbolic": "Meta-Llama-3.1-70B-Instruct",
    "qwen2.5-7b-instruct": "Qwen2.5-7B-Instruct",
    "mathstral-7B": "mathstral-7B-v0.1",
    "gpt-4": "gpt-4-0314",
}


def graded_battles(
    row: Preference, per_prompt: int = PER_PROMPT, aliases: Mapping[str, str] = ALIASES
) -> list[Battle]:
    """At most ``per_prompt`` battles of one graded prompt, each between another two models."""
    scores: dict[str, list[float]] = {}
    for model, score in row.scores.items():
        scores.setdefault(aliases.get(model, model), []).append(score)
    mean = {model: sum(values) / len(values) for model, values in scores.items()}
    battles = []
    for a, b in _drawn_pairs(sorted(mean), row.prompt, per_prompt):
        battles.append(Battle(row.prompt, a, b, _winner(mean[a], mean[b])))
    return battles


def judged_battles(row: Judged, per_prompt: int = PER_PROMPT) -> list[Battle]:
    """At most ``per_prompt`` battles of one judged prompt, each between another two models."""
    verdicts: dict[tuple[str, str], list[float]] = {}
    for first, second, second_preferred in row.battles:
        a, b = ALIASES.get(first, first), ALIASES.get(second, second)
        if a != b:
            key, share = ((a, b), second_preferred) if a < b else ((b, a), 1.0 - second_preferred)
            verdicts.setdefault(key, []).append(share)
    battles = []
    models = sorted({model for pair in verdicts for model in pair})
    for a, b in _drawn_pairs(models, row.prompt, per_prompt, among=set(verdicts)):
        shares = verdicts[min(a, b), max(a, b)]
        mean_share = sum(shares) / len(shares)
        b_preferred = mean_share if a < b else 1.0 - mean_share
        winner: Winner = (
            "tie" if b_preferred == 0.5 else "model_b" if b_preferred > 0.5 else "model_a"
        )
        battles.append(Battle(row.prompt, a, b, winner))
    return battles


def make_battles(
    graded: Sequence[Preference], judged: Sequence[Judged], per_prompt: int = PER_PROMPT
) -> list[Battle]:
    """All battles, in the order of their prompts; prompts of under 16 characters give none."""
    if per_prompt < 1:
        raise InvalidInputError(f"per_prompt must be at least 1, got {per_prompt}")
    battles = []
    for row in graded:
        if len(row.prompt.strip()) >= LEAST_PROMPT_CHARACTERS:
            battles += graded_battles(row, per_prompt)
    for conversation in judged:
        if len(conversation.prompt.strip()) >= LEAST_PROMPT_CHARACTERS:
            battles += judged_battles(conversation, per_prompt)
    return battles


def comparable(battles: Sequence[Battle]) -> tuple[list[Battle], list[str]]:
    """The battles within the comparable group with most of them, and the models left out."""
    models = sorted({m for battle in battles for m in (battle.model_a, battle.model_b)})
    number = {model: i for i, model in enumerate(models)}
    wins = np.zeros((len(models), len(models)))
    for battle in battles:
        a, b = number[battle.model_a], number[battle.model_b]
        wins[a, b] += battle.winner != "model_b"
        wins[b, a] += battle.winner != "model_a"
    groups = _native.rating_groups(wins)
    met = groups[:, None] == groups
    battles_of_group = np.bincount(groups, (wins * met).sum(axis=1))
    kept = groups == np.argmax(battles_of_group)
    inside = [b for b in battles if kept[number[b.model_a]] and kept[number[b.model_b]]]
    return inside, [model for model in models if not kept[number[model]]]


def write_battles(path: str | os.PathLike[str], battles: Sequence[Battle]) -> None:
    """Write ``battles`` as ``read_battles`` reads them; whole or not at all."""
    write_rows(path, (battle._asdict() for battle in battles))


def _winner(a: float, b: float) -> Winner:
    if a != b:
        return "model_a" if a > b else "model_b"
    return "tie" if a >= 0.5 else "tie (bothbad)"


def _drawn_pairs(
    models: Sequence[str],
    prompt: str,
    count: int,
    among: set[tuple[str, str]] | None = None,
) -> list[tuple[str, str]]:
    """At most ``count`` pairs, drawn by the hash of prompt and pair, in either order."""

    def draw(pair: tuple[str, str]) -> bytes:
        return hashlib.sha256(f"{seed}:{pair[0]}:{pair[1]}".encode()).digest()

    seed = prompt_hash(prompt)
    pairs = among or {(a, b) for i, a in enumerate(models) for b in models[i + 1 :]}
    drawn = sorted((draw(pair), pair) for pair in pairs)[:count]
    return [(a, b) if digest[-1] % 2 else (b, a) for digest, (a, b) in drawn]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments`` (by default the process's) and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m fastroute.training.battles",
        description="Turn graded and judged prompts into battles for the sw_ranking router.",
        allow_abbrev=False,
    )
    parser.add_argument("--preferences", required=True, metavar="FOLDER")
    parser.add_argument("--output", required=True, metavar="FILE.jsonl")
    parser.add_argument("--per-prompt", type=int, default=PER_PROMPT, metavar="N")
    options = parser.parse_args(arguments)
    try:
        graded = read_preferences(options.preferences)
        judged = read_judged(options.preferences)
        battles, left_out = comparable(make_battles(graded, judged, options.per_prompt))
        write_battles(options.output, battles)
    except FastRouteError as error:
        parser.exit(2, f"{parser.prog}: {' '.join(str(error).split())}\n")
    except KeyboardInterrupt:
        return 130
    if left_out:
        print(f"left out, not comparable to the rest: {', '.join(left_out)}", file=sys.stderr)
    count = len({m for battle in battles for m in (battle.model_a, battle.model_b)})
    print(f"wrote {len(battles)} battles of {count} models to {options.output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
