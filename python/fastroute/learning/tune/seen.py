"""Finds prompts that a router was trained on, also where something was put around them.

A router records the hashes of its training prompts, not the prompts. So the parts of a prompt that
someone may have wrapped are hashed: what is left without a beginning and an end that many share,
runs of whole lines, what follows a colon, what stands in quotation marks or tags, and each of these
without its last sentences.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from fastroute.artifacts import prompt_hash

# Longer prompts have more runs of lines than are worth hashing: of these, all but some lines at the
# beginning or at the end.
_MOST_LINES = 24
# A beginning is shared if this share of the prompts, and this many, have its first characters.
_SHARED, _SHARED_PROMPTS, _SHARED_CHARS = 0.2, 10, 12
_LEAST_CHARS = 16
# Of a longer prompt only what all share is taken off: few routers are trained on such.
_MOST_CHARS = 20_000
_AFTER = re.compile(r"[:>\u2014]\s+|\n+")
_BEFORE = re.compile(r"\s*(?:\n|</|<\||\[/)|(?<=[.?!)])\s")
_QUOTED = re.compile(r'"([^"]{16,})"|\u201c([^\u201d]{16,})\u201d|`([^`]{16,})`|>([^<>]{16,})</')
_MOST_CUTS = 24


def trained_on(prompts: Sequence[str], hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Which prompts, or a part of which, have one of ``hashes`` (uint64[m], sorted): bool[n]."""
    known = set(hashes.tolist())
    # A training prompt may itself begin with some of it, so each word may be where it begins.
    before = _words_of(_shared_beginning(prompts))
    after = _words_of(_shared_beginning([prompt[::-1] for prompt in prompts]))
    return np.array([_is_known(p, known, before, after) for p in prompts], dtype=np.bool_)


def _shared_beginning(prompts: Sequence[str]) -> str:
    """The text with which the most prompts begin; "" where few begin alike."""
    starts = Counter(prompt[:_SHARED_CHARS] for prompt in prompts)
    start, count = next(iter(starts.most_common(1)), ("", 0))
    if count < max(_SHARED_PROMPTS, _SHARED * len(prompts)):
        return ""
    alike = [prompt for prompt in prompts if prompt.startswith(start)]
    least, greatest = min(alike), max(alike)  # all others are between, and begin as these do
    ends = (i for i, (a, b) in enumerate(zip(least, greatest, strict=False)) if a != b)
    return least[: next(ends, min(len(least), len(greatest)))]


def _words_of(text: str) -> list[int]:
    """Where the first and the last words of a text end, and where it ends."""
    ends = sorted({len(text), *(m.end() for m in re.finditer(r"\s+", text))})
    return ends if len(ends) <= _MOST_CUTS else ends[: _MOST_CUTS // 2] + ends[-_MOST_CUTS // 2 :]


def _is_known(prompt: str, known: set[int], before: list[int], after: list[int]) -> bool:
    if prompt_hash(prompt) in known:
        return True
    return bool(known) and any(
        len(part) >= _LEAST_CHARS and prompt_hash(part) in known
        for part in set(_parts(prompt, before, after))
    )


def _parts(prompt: str, before: list[int], after: list[int]) -> Iterator[str]:
    for begin in before:
        for end in after:
            yield prompt[begin : len(prompt) - end].strip()
    if len(prompt) > _MOST_CHARS:
        return
    lines = prompt.splitlines()
    count = len(lines)
    if count <= _MOST_LINES:
        for begin in range(count):
            for end in range(begin + 1, count + 1):
                yield "\n".join(lines[begin:end]).strip()
    else:
        for cut in range(1, _MOST_LINES):
            yield "\n".join(lines[cut:]).strip()
            yield "\n".join(lines[: count - cut]).strip()
    for found in _QUOTED.finditer(prompt):
        yield next(part for part in found.groups() if part is not None).strip()
    starts = [0, *(m.end() for m in _AFTER.finditer(prompt))]
    stops = [len(prompt), *(m.start() for m in reversed(list(_BEFORE.finditer(prompt))))]
    for start in starts[:_MOST_CUTS]:
        for stop in stops[:_MOST_CUTS]:
            if stop - start >= _LEAST_CHARS:
                yield prompt[start:stop].strip()
