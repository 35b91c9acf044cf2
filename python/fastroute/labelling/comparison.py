"""Two answers to a prompt, and what is asked of those who store the verdicts."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from fastroute.types import Winner

#: What a key says of the answers as they are shown.
KEYS: Mapping[str, Winner] = {"1": "model_a", "2": "model_b", "3": "tie"}
_BLOCK = 4


@dataclass(frozen=True, slots=True)
class Comparison:
    """A prompt and two answers, in the order in which they are shown.

    Attributes:
        id: identifies the pair in its store.
        prompt: what the models were asked.
        model_a, model_b: whose answers are shown first and second.
        answer_a, answer_b: the answers.
    """

    id: str
    prompt: str
    model_a: str
    model_b: str
    answer_a: str
    answer_b: str


class Progress(NamedTuple):
    """How many pairs have a verdict, and how many there are."""

    graded: int
    total: int


class Pairs(Protocol):
    """Pairs to compare and their verdicts. Calls come one at a time, from any thread."""

    def progress(self) -> Progress:
        """How far the work is."""
        ...

    def next(self, skipped: Collection[str]) -> Comparison | None:
        """The first pair without a verdict whose id is not in ``skipped``, or None."""

    def grade(self, pair_id: str, winner: Winner) -> None:
        """Store a verdict; it is on the disk at return.

        Raises InvalidInputError for an unknown id or a pair that has a verdict, OutputError if it
        can't be stored.
        """

    def undo(self) -> Comparison | None:
        """Withdraw the last verdict and return its pair; None if there is none.

        Raises OutputError if that can't be stored.
        """


def swapped(ids: Sequence[str]) -> list[bool]:
    """For each pair whether its second answer is shown first.

    It is told by hashes, so that it is the same at each start, and balanced: of every four pairs,
    two are swapped.
    """
    found: list[bool] = []
    for start in range(0, len(ids), _BLOCK):
        block = [hashlib.sha256(f"order:{i}".encode()).digest() for i in ids[start:][:_BLOCK]]
        odd = block[0][0] % 2  # of three, one or two
        chosen = sorted(block)[: (len(block) + odd) // 2]
        found += [digest in chosen for digest in block]
    return found
