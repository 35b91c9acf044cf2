"""The prompts that the default router is trained on, and how hard judges say they are."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastroute.types import Float64Array

JUDGED = ("wildchat_difficulty", "wildchat_complexity")
PAIRS = "wildchat_difficulty_pairs"
OPEN_ENDED = ("hellobench", "ifeval", "infibench")
EXAMINATIONS = ("difficulty_small_models", "mmlu_pro", "zeroeval", "llmrouter")
CONVERSATIONS = "openassistant_battles"
#: Of ``everyday.jsonl``: messages of conversations, and prompts that were written for it, rated
#: from 1 to 10 by a language model.
MESSAGES, WRITTEN = "openassistant_messages", "written_prompts"
_RATED = {"openassistant": MESSAGES, "fastroute": WRITTEN}
_EVERYDAY = Path(__file__).with_name("everyday.jsonl")
FILES = (*JUDGED, PAIRS, *OPEN_ENDED, *EXAMINATIONS, CONVERSATIONS)


@dataclass(slots=True)
class Prompts:
    """All prompts, each once, and by file which they are and how hard.

    Attributes:
        texts: the prompts.
        labels: by file int64[n], rows of ``texts``, and float64[n], difficulty in standard
            deviations; for graded files 1 - mean score, less the mean of its data set.
        pairs: int64[pairs, 2], the prompt that was judged harder and the other one.
        outcomes: by open-ended file float64[n, 2], the scores of a weak and a strong model on the
            prompts of ``labels``: of the model at the lower third of the means, and the best.
        chats: bool[n], which prompts of ``labels["hellobench"]`` are chats.
        conversations: int64[n], what users said last to an assistant, in many languages.
    """

    texts: list[str] = field(default_factory=list)
    labels: dict[str, tuple[npt.NDArray[np.int64], Float64Array]] = field(default_factory=dict)
    pairs: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    outcomes: dict[str, Float64Array] = field(default_factory=dict)
    chats: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    conversations: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def rows(self, files: Sequence[str]) -> npt.NDArray[np.int64]:
        """Rows of the prompts of labelled ``files``, rising, each once."""
        return np.unique(np.concatenate([self.labels[file][0] for file in files]))


def read_prompts(folder: str | os.PathLike[str]) -> Prompts:
    """Read ``FILES`` from ``folder``, and the rated prompts beside this module.

    OSError for a file that is missing, KeyError for a field.
    """
    found = Prompts()
    numbers: dict[str, int] = {}

    def number(text: str) -> int:
        if text not in numbers:
            numbers[text] = len(numbers)
            found.texts.append(text)
        return numbers[text]

    for file in JUDGED:
        rows = list(_rows(folder, file))
        hard = np.array([row["difficulty"] for row in rows], dtype=np.float64)
        found.labels[file] = _label([number(row["prompt"]) for row in rows], hard - hard.mean())
    for file in (*OPEN_ENDED, *EXAMINATIONS):
        rows = [row for row in _rows(folder, file) if len(row["scores"]) > 1]
        hard = np.array([1.0 - np.mean(list(row["scores"].values())) for row in rows])
        _, data_sets = np.unique([row["dataset"] for row in rows], return_inverse=True)
        hard -= (np.bincount(data_sets, hard) / np.bincount(data_sets))[data_sets]
        found.labels[file] = _label([number(row["prompt"]) for row in rows], hard)
        if file in OPEN_ENDED:
            found.outcomes[file] = _outcomes([row["scores"] for row in rows])
        if file == OPEN_ENDED[0]:
            found.chats = np.array([row["dataset"] == "hellobench:chat" for row in rows])
    rated: dict[str, list[tuple[int, float]]] = {MESSAGES: [], WRITTEN: []}
    with _EVERYDAY.open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            rated[_RATED[row["source"]]].append((number(row["prompt"]), row["rating"]))
    for file, ratings in rated.items():
        hard = np.array([rating for _, rating in ratings], dtype=np.float64)
        found.labels[file] = _label([row for row, _ in ratings], hard - hard.mean())
    found.pairs = np.array([
        [number(row["prompt"]), number(row["prompt_b"])][:: 1 if row["harder"] == "A" else -1]
        for row in _rows(folder, PAIRS)
    ])  # fmt: skip
    said = [_last_said(row["prompt"]) for row in _rows(folder, CONVERSATIONS)]
    found.conversations = np.array([number(text) for text in dict.fromkeys(said) if text])
    return found


def _label(rows: list[int], hard: Float64Array) -> tuple[npt.NDArray[np.int64], Float64Array]:
    return np.array(rows, dtype=np.int64), hard / hard.std()


def _outcomes(scores: Sequence[dict[str, float]]) -> Float64Array:
    models = sorted(scores[0])
    table = np.array([[row.get(model, np.nan) for model in models] for row in scores])
    order = np.argsort(np.nanmean(table, axis=0), kind="stable")
    return table[:, order[[len(models) // 3, -1]]]


def _last_said(conversation: str) -> str:
    """What the user said last: the text between the last "### Human:" and "### Assistant:"."""
    return conversation.rpartition("### Human:")[2].partition("### Assistant:")[0].strip()


def _rows(folder: str | os.PathLike[str], file: str) -> Iterator[dict[str, Any]]:
    with gzip.open(Path(folder) / f"{file}.jsonl.gz", "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)
