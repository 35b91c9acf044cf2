"""Finds training prompts that occur in an evaluation set.

A prompt is one of the set's if its words are the same (case, punctuation and spacing aside), or
if more than half of its 8-grams of words occur in *one* prompt of the set. Letters of scripts that
put no spaces between words count as a word each. A prompt of fewer than 8 words has no 8-gram and
can only be the same.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal, TypeVar

from fastroute.data.records import (
    DataReport,
    GradedResult,
    HarderPrompt,
    JudgedBattle,
    RatedPrompt,
    prompts_of,
)

GRAM_WORDS = 8
# Thai and Lao, kana, and Chinese characters.
_UNSPACED = r"\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff"
_WORDS = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
#: How a prompt is one of an evaluation set, or None.
Match = Literal["exact", "overlap"] | None
_Record = TypeVar("_Record", JudgedBattle, GradedResult, RatedPrompt | HarderPrompt)


def words_of(prompt: str) -> list[str]:
    """The words of a prompt in one spelling: NFKC, case folded, without punctuation."""
    return _WORDS.findall(unicodedata.normalize("NFKC", prompt).casefold())


class EvaluationPrompts:
    """Prompts that must not be trained on.

    Args:
        prompts: the evaluation sets' prompts.
    """

    def __init__(self, prompts: Iterable[str]) -> None:
        self._exact: set[str] = set()
        self._grams: dict[int, list[int]] = {}
        for number, prompt in enumerate(prompts):
            words = words_of(prompt)
            self._exact.add(_key(prompt, words))
            for gram in _grams(words):
                self._grams.setdefault(gram, []).append(number)

    @property
    def sha256(self) -> str:
        """Of the prompts, in any order."""
        return hashlib.sha256("\0".join(sorted(self._exact)).encode("utf-8", "replace")).hexdigest()

    def match(self, prompt: str) -> Match:
        """How ``prompt`` is one of these, or None."""
        words = words_of(prompt)
        if _key(prompt, words) in self._exact:
            return "exact"
        grams = _grams(words)
        shared = Counter(number for gram in grams for number in self._grams.get(gram, ()))
        most = max(shared.values(), default=0)
        return "overlap" if 2 * most > len(grams) else None

    def remove_from(
        self, records: Sequence[_Record], report: DataReport, found: dict[str, Match]
    ) -> list[_Record]:
        """The records on other prompts.

        ``report`` counts the prompts that go, each once; ``found`` keeps what was found, for
        further records of the same data.
        """
        kept = []
        for record in records:
            for prompt in prompts_of(record):
                if prompt not in found:
                    how = found[prompt] = self.match(prompt)
                    if how == "exact":
                        report.excluded_exact += 1
                    elif how == "overlap":
                        report.excluded_overlap += 1
                    if how is not None:
                        report.note(f"excluded_{how}", f"{record.file}, {record.where}")
            if not any(found[prompt] for prompt in prompts_of(record)):
                kept.append(record)
        return kept


def _key(prompt: str, words: Sequence[str]) -> str:
    # What has no word at all, such as "???", is compared as it stands.
    return " ".join(words) or prompt.strip()


def _grams(words: Sequence[str]) -> set[int]:
    return {hash(tuple(words[i : i + GRAM_WORDS])) for i in range(len(words) - GRAM_WORDS + 1)}
