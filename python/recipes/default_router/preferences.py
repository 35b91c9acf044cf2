"""The files that the default router is made from: how well many models answered many prompts.

The files are read as all training data is (``fastroute.data``). Of graded prompts are
taken ``prompt``, ``dataset`` and ``scores``, an object of model name to score, 0 (wrong) to 1
(right); models may be missing from a prompt. Of judged ones ``prompt`` and ``battles``, a list of
two models and how far the second was preferred: 0, 0.5 or 1.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fastroute.data import GradedResult, read_records
from fastroute.data.language import MAX_FOREIGN_SHARE, is_english
from fastroute.errors import InvalidInputError

_NOT_LATIN = re.compile(r"[^\W\d_\u0000-\u024f]")


@dataclass(frozen=True, slots=True)
class PreferenceFile:
    """A file of preference data, and where it comes from.

    Attributes:
        name: its file name.
        source: where it was published.
        licence: SPDX identifier.
    """

    name: str
    source: str
    licence: str


#: What the default router is trained on. Battles between chat models on OpenAssistant's prompts
#: are not among them: they are judged conversations in many languages, not graded answers.
FILES = (
    PreferenceFile("difficulty_small_models.jsonl.gz", "wheresmyhair/routellm-distl", "MIT"),
    PreferenceFile("mmlu_pro.jsonl.gz", "TIGER-AI-Lab/MMLU-Pro", "Apache-2.0"),
    PreferenceFile("zeroeval.jsonl.gz", "WildEval/ZeroEval", "Apache-2.0"),
    PreferenceFile("llmrouter.jsonl.gz", "ulab-uiuc/LLMRouter", "MIT"),
)

JUDGED = PreferenceFile("openassistant_battles.jsonl.gz", "artidoro/qlora", "MIT")


@dataclass(frozen=True, slots=True)
class Judged:
    """One prompt and what a judge said of pairs of answers to it.

    Attributes:
        prompt: the last thing that the user said.
        battles: first model, second model, and how far the second was preferred: 0, 0.5 or 1.
    """

    prompt: str
    battles: tuple[tuple[str, str, float], ...]


def read_preferences(
    folder: str | os.PathLike[str], files: Sequence[PreferenceFile] = FILES
) -> list[GradedResult]:
    """The English prompts of all ``files`` in ``folder``, in their order.

    Left out are AGIEval's Chinese datasets and any prompt with more than 5 % Chinese characters.
    Raises InvalidInputError for a missing file or a line that can't be read, and names it, and for
    a prompt with scores of fewer than two models, between which nothing is compared.
    """
    rows = []
    for file in files:
        _, graded, _ = read_records(Path(folder) / file.name)
        for row in graded:
            if len(row.scores) < 2:
                raise InvalidInputError(
                    f"{Path(folder) / file.name}, {row.where}: {len(row.scores)} models, where at "
                    "least 2 are compared"
                )
        rows += graded
    return [row for row in rows if is_english(row)]


def read_judged(folder: str | os.PathLike[str], file: PreferenceFile = JUDGED) -> list[Judged]:
    """The judged prompts of ``file`` in ``folder`` that are in Latin script, in its order.

    A conversation, ``### Human: ... ### Assistant: ...``, is cut to what the user said last, which
    is what a router sees. Left out are prompts with more than 5 % letters of other scripts. Errors
    as in ``read_preferences``.
    """
    battles, _, _ = read_records(Path(folder) / file.name)
    verdicts: dict[tuple[str, str], list[tuple[str, str, float]]] = {}
    for battle in battles:
        if battle.preference not in (0.0, 0.5, 1.0):
            raise InvalidInputError(
                f"{Path(folder) / file.name}, {battle.where}: verdict {battle.preference} on "
                f"{battle.model_a!r} and {battle.model_b!r} is not 0, 0.5 or 1"
            )
        of_row = verdicts.setdefault((battle.where, battle.prompt), [])
        of_row.append((battle.model_a, battle.model_b, battle.preference))
    return [
        Judged(prompt, tuple(said))
        for (_, prompt), said in verdicts.items()
        if len(_NOT_LATIN.findall(prompt)) <= MAX_FOREIGN_SHARE * len(prompt)
    ]
