"""Graded traffic, made up: two topics, of which the weak model is bad at one."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

_SUMS = ("integral", "matrix", "theorem", "polynomial", "eigenvalue", "derivative", "proof")
_MORE = ("converges", "diagonal", "continuous", "symmetric", "bounded", "prime", "rational")
_CHAT = ("birthday", "holiday", "recipe", "garden", "kitchen", "weather", "movie", "puppy")
_KIND = ("funny", "short", "friendly", "warm", "simple", "nice", "cheerful", "polite")


def make_traffic(
    count: int, *, seed: int = 0, hard_gap: float = 0.7, easy_gap: float = 0.0
) -> list[dict[str, Any]]:
    """Rows with ``prompt``, ``score_weak`` and ``score_strong`` (0 or 1).

    On mathematics the weak model is right with probability 0.9 - hard_gap, on small talk with
    0.9 - easy_gap; the strong one with 0.9.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        hard = bool(rng.random() < 0.5)
        nouns, kinds = (_SUMS, _MORE) if hard else (_CHAT, _KIND)
        words = [*rng.choice(nouns, 3), *rng.choice(kinds, 2), f"{rng.integers(10**9):x}"]
        prompt = " ".join(str(word) for word in rng.permutation(words))
        weak = 0.9 - (hard_gap if hard else easy_gap)
        rows.append({
            "id": i,
            "prompt": prompt,
            "score_weak": int(rng.random() < weak),
            "score_strong": int(rng.random() < 0.9),
        })  # fmt: skip
    return rows


def make_many(count: int, *, seed: int = 0, middle_gap: float = 0.4) -> list[dict[str, Any]]:
    """Rows with ``prompt`` and grades of three models: ``small`` is bad at mathematics, ``middle``
    is right there with probability 0.9 - middle_gap, ``large`` is right in nine of ten anywhere."""
    rng = np.random.default_rng(seed + 1000)
    return [
        {
            "prompt": row["prompt"],
            "small": row["score_weak"],
            "middle": int(rng.random() < 0.9 - middle_gap * is_hard(row["prompt"])),
            "large": row["score_strong"],
        }
        for row in make_traffic(count, seed=seed)
    ]


def make_answers(count: int, *, seed: int = 0, prices: bool = False) -> list[dict[str, Any]]:
    """Rows with ``prompt``, ``answers`` and ``scores`` of ``weak``, ``helper`` and ``strong``, and
    perhaps ``costs``: questions for a number, which the first two get right in six of ten, and the
    strong model in nineteen of twenty."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        truth = int(rng.integers(100, 1000))
        answers, scores = {}, {}
        for model, share in (("weak", 0.6), ("helper", 0.6), ("strong", 0.95)):
            right = bool(rng.random() < share)
            said = truth if right else int(rng.integers(100, 1000))
            answers[model] = f"Adding it up gives {said}.\n#### {said}"
            scores[model] = int(right)
        words = rng.choice([*_SUMS, *_MORE, *_CHAT, *_KIND], 6)
        prompt = f"How many {' '.join(words)} {rng.integers(10**9):x} are left? Give a number."
        row = {"id": i, "prompt": prompt, "answers": answers, "scores": scores}
        if prices:
            row["costs"] = {"weak": 0.0001, "helper": 0.0002, "strong": 0.004}
        rows.append(row)
    return rows


def write_jsonl(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """``rows`` as a JSONL file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def is_hard(prompt: str) -> bool:
    """Whether a prompt of ``make_traffic`` is mathematics."""
    return not set(prompt.split()).isdisjoint(_SUMS)


def shuffled(rows: Sequence[dict[str, Any]], *, seed: int = 0) -> list[dict[str, Any]]:
    """The same grades on other prompts: nothing is left to learn."""
    order = np.random.default_rng(seed).permutation(len(rows))
    grades = [{k: v for k, v in row.items() if k not in ("id", "prompt")} for row in rows]
    return [{**row, **grades[j]} for row, j in zip(rows, order, strict=True)]


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """``rows`` as a CSV file."""
    with path.open("w", encoding="utf-8", newline="") as text:
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path
