"""``python python/recipes/make_battles.py``: battles for ``sw_ranking`` from preference data.

A graded prompt gives a few battles between models drawn by the prompt's hash: the higher score
wins, equal scores are a tie, and equal scores below one half a "tie (bothbad)". A judged prompt
gives battles that a judge decided, with its verdicts in both orders taken together. The file is the
same for ever: nothing is drawn at random.

Models must be comparable to be rated: each must have won and lost, directly or by a chain of
others, against every other. What is outside the group with most battles is dropped, and said.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from default_router.preferences import Judged, read_judged, read_preferences
from fastroute.data import GradedResult
from fastroute.data.battles import LEAST_PROMPT_CHARACTERS
from fastroute.data.jsonl import write_rows
from fastroute.errors import FastRouteError, InvalidInputError
from fastroute.training.graded_battles import PER_PROMPT, comparable, drawn_pairs, graded_battles
from fastroute.types import Battle, Winner

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
    for a, b in drawn_pairs(models, row.prompt, per_prompt, among=set(verdicts)):
        shares = verdicts[min(a, b), max(a, b)]
        mean_share = sum(shares) / len(shares)
        b_preferred = mean_share if a < b else 1.0 - mean_share
        winner: Winner = (
            "tie" if b_preferred == 0.5 else "model_b" if b_preferred > 0.5 else "model_a"
        )
        battles.append(Battle(row.prompt, a, b, winner))
    return battles


def make_battles(
    graded: Sequence[GradedResult], judged: Sequence[Judged], per_prompt: int = PER_PROMPT
) -> list[Battle]:
    """All battles, in the order of their prompts; prompts of under 16 characters give none."""
    if per_prompt < 1:
        raise InvalidInputError(f"per_prompt must be at least 1, got {per_prompt}")
    battles = []
    for row in graded:
        if len(row.prompt.strip()) >= LEAST_PROMPT_CHARACTERS:
            battles += graded_battles(row, per_prompt, ALIASES)
    for conversation in judged:
        if len(conversation.prompt.strip()) >= LEAST_PROMPT_CHARACTERS:
            battles += judged_battles(conversation, per_prompt)
    return battles


def write_battles(path: str | os.PathLike[str], battles: Sequence[Battle]) -> None:
    """Write ``battles`` as ``read_battles`` reads them; whole or not at all."""
    write_rows(path, (battle._asdict() for battle in battles))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments`` (by default the process's) and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python python/recipes/make_battles.py",
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
