"""``fastroute augment KIND``: labels for prompts that have none."""

from __future__ import annotations

from fastroute.cli import _kinds

__all__ = ["configure", "run"]

configure, run = _kinds.commands(
    __name__,
    {
        "judge": "Let a language model judge pairs of answers: battles.",
        "difficulty": "Let a language model judge which prompts are harder; no answers are needed.",
        "golden": "Grade answers by an answer key: graded results.",
    },
)
