"""Preference data: how well many models answered many prompts.

A file of it is gzipped JSON lines. Of each line of graded prompts are read ``prompt``, ``dataset``
and ``scores``, an object of model name to score, 0 (wrong) to 1 (right); models may be missing from
a prompt. Of judged ones ``prompt``, ``dataset`` and ``battles``, a list of two models and how far
the second was preferred: 0, 0.5 or 1.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import os
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from fastroute.errors import InvalidInputError

#: Share of letters of another script above which a prompt counts as not English.
MAX_FOREIGN_SHARE = 0.05
_CHINESE = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
# AGIEval's Chinese part. The questions of gaokao_english are in English.
_CHINESE_DATASET = re.compile(r"agieval_(gaokao_(?!english)|jec_qa|logiqa_zh)")
_NOT_LATIN = re.compile(r"[^\W\d_\u0000-\u024f]")
_NOT_ALPHANUMERIC = re.compile(r"[\W_]+")


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
class Preference:
    """One prompt and what each model scored on it.

    Attributes:
        file: name of the file that it was read from.
        dataset: the dataset that the prompt belongs to; unique with ``file``.
        prompt: what the models were asked.
        scores: score of each model, 0 to 1.
    """

    file: str
    dataset: str
    prompt: str
    scores: dict[str, float]

    @property
    def group(self) -> str:
        """File and dataset: what one label offset is taken for."""
        return f"{self.file.split('.')[0]}/{self.dataset}"


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
) -> list[Preference]:
    """The English prompts of all ``files`` in ``folder``, in their order.

    Left out are AGIEval's Chinese datasets and any prompt with more than 5 % Chinese characters.
    Raises InvalidInputError for a missing file or a line that can't be read, and names it.
    """
    return [
        row
        for file in files
        for row in _read(Path(folder) / file.name, _preference, "prompt, dataset and scores")
        if not _CHINESE_DATASET.match(row.dataset) and _is_english(row.prompt)
    ]


def fold_numbers(prompts: Sequence[str], count: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """A fold number 0..count-1 for each prompt, int64[n], decided by seed, letters and digits.

    Prompts that differ only in case, punctuation or spacing are kept together.
    """
    numbers = []
    for prompt in prompts:
        text = _NOT_ALPHANUMERIC.sub("", prompt.lower())
        digest = hashlib.sha256(f"{seed}:{text}".encode("utf-8", "surrogatepass")).digest()
        numbers.append(int.from_bytes(digest[:8], "little") % count)
    return np.array(numbers, dtype=np.int64)


def read_judged(folder: str | os.PathLike[str], file: PreferenceFile = JUDGED) -> list[Judged]:
    """The judged prompts of ``file`` in ``folder`` that are in Latin script, in its order.

    A conversation, ``### Human: ... ### Assistant: ...``, is cut to what the user said last, which
    is what a router sees. Left out are prompts with more than 5 % letters of other scripts. Errors
    as in ``read_preferences``.
    """
    return [
        row
        for row in _read(Path(folder) / file.name, _judged, "prompt and battles")
        if row.prompt and len(_NOT_LATIN.findall(row.prompt)) <= MAX_FOREIGN_SHARE * len(row.prompt)
    ]


def _is_english(prompt: str) -> bool:
    return len(_CHINESE.findall(prompt)) <= MAX_FOREIGN_SHARE * len(prompt)


def _preference(file: str, row: Any) -> Preference:
    scores = {str(model): float(score) for model, score in row["scores"].items()}
    if len(scores) < 2:
        raise ValueError(f"{len(scores)} models, where at least 2 are compared")
    for model, score in scores.items():
        if not (math.isfinite(score) and 0.0 <= score <= 1.0):
            raise ValueError(f"score {score} of {model!r} is outside 0..1")
    if not isinstance(row["prompt"], str) or not isinstance(row["dataset"], str):
        raise ValueError("prompt and dataset must be text")
    return Preference(file, row["dataset"], row["prompt"], scores)


def _judged(_: str, row: Any) -> Judged:
    battles = tuple((str(a), str(b), float(share)) for a, b, share in row["battles"])
    for a, b, share in battles:
        if share not in (0.0, 0.5, 1.0):
            raise ValueError(f"verdict {share} on {a!r} and {b!r} is not 0, 0.5 or 1")
    if not isinstance(row["prompt"], str):
        raise ValueError("prompt must be text")
    said = row["prompt"].split("### Human:")[-1]
    return Judged(said.split("### Assistant:")[0].strip(), battles)


_Row = TypeVar("_Row")


def _read(path: Path, parse: Callable[[str, Any], _Row], needed: str) -> Iterator[_Row]:
    number = 0
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="\n") as lines:
            for line in lines:
                number += 1  # where an error is, also one of reading the line after
                yield parse(path.name, json.loads(line))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InvalidInputError(
            f"{path}, line {max(number, 1)}: {type(error).__name__}: {error}; each line must have "
            f"{needed}"
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidInputError(
            f"{path} can't be read ({error}); give the folder that holds it as --preferences"
        ) from error
