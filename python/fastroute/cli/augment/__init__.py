"""``fastroute augment KIND``: labels for prompts that have none."""

from __future__ import annotations

import argparse

from fastroute.cli import _kinds

__all__ = ["configure", "run"]

_KINDS = {
    "judge": "Let a language model judge pairs of answers: battles.",
    "difficulty": "Let a language model judge which prompts are harder; no answers are needed.",
    "golden": "Grade answers by an answer key: graded results.",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add one subcommand a kind."""
    _kinds.configure_kinds(parser, __name__, _KINDS)


def run(options: argparse.Namespace) -> int:
    """Run the chosen kind and return its exit status."""
    return _kinds.run_kind(options)
