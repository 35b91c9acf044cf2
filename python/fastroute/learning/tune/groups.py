"""Groups of near-duplicate prompts, which must not be on both sides of a split.

Two prompts are near-duplicates if their words are the same, numbers aside, or if more than half of
the 8-grams of words of one occur in the other. 8-grams that occur in more than 5 % of the prompts
(and in more than 50) are boilerplate, such as a system prompt around every question, and are not
counted; a smaller set of prompts that share a template is one group.

The second rule is found along two chains: each prompt is compared with the first and with the
previous prompt that has the 8-gram. That takes linear time, and finds every pair of a template.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.random import default_rng

from fastroute.data.exclusion import GRAM_WORDS, words_of

_BOILERPLATE_SHARE = 0.05
_BOILERPLATE_PROMPTS = 50
_ODD = np.uint64(0x9E3779B97F4A7C15)
_Int64 = npt.NDArray[np.int64]
_UInt64 = npt.NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class Groups:
    """Near-duplicates of n prompts.

    Attributes:
        ids: int64[n], 0..count-1, by the first prompt of each.
        count: number of groups.
        boilerplate: share of the prompts that have text which many others have too.
    """

    ids: _Int64
    count: int
    boilerplate: float

    @property
    def largest(self) -> int:
        """Prompts in the largest group."""
        return int(np.bincount(self.ids).max(initial=0))


def group_prompts(prompts: Sequence[str]) -> Groups:
    """The groups of near-duplicates among ``prompts``."""
    n = len(prompts)
    parent = np.arange(n, dtype=np.int64)
    first: dict[str, int] = {}
    hashes: list[_UInt64] = []
    numbers: dict[str, int] = {}
    for i, prompt in enumerate(prompts):
        words = ["0" if word.isdecimal() else word for word in words_of(prompt)]
        key = " ".join(words) or prompt.strip()
        _join(parent, first.setdefault(key, i), i)
        ids = np.array([numbers.setdefault(w, len(numbers)) for w in words], dtype=np.uint64)
        hashes.append(_grams(ids))
    owners = np.repeat(np.arange(n, dtype=np.int64), [len(grams) for grams in hashes])
    boilerplate = 0.0
    if len(owners):
        grams = np.concatenate(hashes)
        order = np.lexsort((owners, grams))
        grams, owners = grams[order], owners[order]
        starts = np.flatnonzero(np.r_[True, grams[1:] != grams[:-1]])
        sizes = np.diff(np.r_[starts, len(grams)])
        common = sizes > max(_BOILERPLATE_SHARE * n, _BOILERPLATE_PROMPTS)
        is_common = np.repeat(common, sizes)
        boilerplate = len(np.unique(owners[is_common])) / n
        rare = np.bincount(owners[~is_common], minlength=n)
        head = np.repeat(owners[starts], sizes)
        previous = np.r_[owners[:1], owners[:-1]]
        inside = ~is_common & np.r_[False, grams[1:] == grams[:-1]]
        for other in (head, previous):
            pairs, shared = np.unique(other[inside] * n + owners[inside], return_counts=True)
            a, b = pairs // n, pairs % n
            alike = 2 * shared > np.minimum(rare[a], rare[b])
            for left, right in zip(a[alike].tolist(), b[alike].tolist(), strict=True):
                _join(parent, left, right)
    roots = np.array([_root(parent, i) for i in range(n)], dtype=np.int64)
    _, index = np.unique(roots, return_inverse=True)
    return Groups(index.astype(np.int64), int(index.max(initial=-1)) + 1, boilerplate)


def hashed_order(prompts: Sequence[str], groups: Groups, seed: int) -> _UInt64:
    """A number a group, uint64[groups], by the hash of seed and first prompt: equal data is split
    in the same way whatever the order of its rows."""
    least = ["" for _ in range(groups.count)]
    for group, prompt in zip(groups.ids.tolist(), prompts, strict=True):
        if not least[group] or prompt < least[group]:
            least[group] = prompt
    return np.array(
        [
            int.from_bytes(
                hashlib.sha256(f"{seed}:{p}".encode("utf-8", "surrogatepass")).digest()[:8],
                "little",
            )
            for p in least
        ],
        dtype=np.uint64,
    )


def folds_of_groups(group_ids: _Int64, count: int, seed: int) -> _Int64:
    """A fold 0..count-1 for each row, int64[n]; a group is in one fold, and folds are as equal as
    the groups allow."""
    names, index, sizes = np.unique(group_ids, return_inverse=True, return_counts=True)
    order = default_rng(seed).permutation(len(names))
    order = order[np.argsort(-sizes[order], kind="stable")]
    filled = np.zeros(count, dtype=np.int64)
    fold = np.empty(len(names), dtype=np.int64)
    for i in order.tolist():
        fold[i] = int(np.argmin(filled))
        filled[fold[i]] += sizes[i]
    folds: _Int64 = fold[index]
    return folds


def _grams(ids: _UInt64) -> _UInt64:
    """The distinct hashes of all 8-grams of words."""
    count = len(ids) - GRAM_WORDS + 1
    if count < 1:
        return np.empty(0, dtype=np.uint64)
    hashed = np.zeros(count, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for offset in range(GRAM_WORDS):
            hashed = (hashed ^ (ids[offset : offset + count] + np.uint64(1))) * _ODD
            hashed ^= hashed >> np.uint64(29)
    return np.unique(hashed)


def _root(parent: _Int64, i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = int(parent[i])
    return i


def _join(parent: _Int64, a: int, b: int) -> None:
    a, b = _root(parent, a), _root(parent, b)
    if a != b:
        parent[max(a, b)] = min(a, b)
