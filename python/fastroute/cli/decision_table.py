"""Decisions on several prompts as a table, a row as soon as each is made."""

from __future__ import annotations

import shutil
import sys
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastroute.decider import Decider
    from fastroute.types import Decision

_BAR = 10  # characters
_LEAST_PROMPT = 20
_UNSIZED = 100  # columns, where there is no terminal


class Table:
    """Rows of model, difficulty with a bar, win rate, and the beginning of the prompt.

    The rows of a router without calibration have no difficulty. Making the table prints its header.

    Args:
        decider: of one router; knows its models and how its default threshold was chosen.
        first: a decision by it.
        strong_share: the share that the threshold was asked for by, if any.
    """

    def __init__(self, decider: Decider, first: Decision, strong_share: float | None) -> None:
        self._width = max(5, *map(_columns, decider.model_pair))
        self._full, self._empty = "█░" if _can_print("█░") else "#."
        self._has_difficulty = first.difficulty is not None
        print(f"router {first.router}, threshold {_threshold_text(decider, first, strong_share)}")
        difficulty = f"{'harder than':{_BAR + 6}}  " if self._has_difficulty else ""
        print(f"{'model':{self._width}}  {difficulty}win rate  prompt", flush=True)

    def row(self, decision: Decision, prompt: str) -> str:
        """The row of one decision."""
        padding = " " * (self._width - _columns(decision.model))
        line = f"{decision.model}{padding}  "
        if decision.difficulty is not None:
            full = round(decision.difficulty * _BAR)
            bar = self._full * full + self._empty * (_BAR - full)
            line += f"{percent(decision):>5} {bar}  "
        line += f"{decision.win_rate:8.4f}  "
        return line + beginning(prompt, line_width() - _columns(line))


def percent(decision: Decision) -> str:
    """How many prompts it is harder than, rounded down: none is harder than all."""
    return f"{int(100 * (decision.difficulty or 0.0))} %"


def line_width() -> int:
    """Columns of the terminal."""
    return shutil.get_terminal_size((_UNSIZED, 24)).columns


def beginning(text: str, columns: int) -> str:
    """As much of ``text`` as fits into ``columns`` of a terminal, or 20 if that is less, in one
    line of characters that standard output can have."""
    columns = max(columns, _LEAST_PROMPT)
    # Of megabytes no more is looked at than could be shown.
    line = " ".join(text[: 4 * columns].split())
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    line = line.encode(encoding, "backslashreplace").decode(encoding)
    cut = len(text) > 4 * columns
    if not cut and _columns(line) <= columns:
        return line
    ellipsis = "…" if _can_print("…") else "..."
    while line and _columns(line) > columns - len(ellipsis):
        line = line[:-1]
    return line.rstrip() + ellipsis


def _threshold_text(decider: Decider, first: Decision, strong_share: float | None) -> str:
    threshold = f"{first.threshold:.4f}"
    if strong_share is not None:
        return f"{threshold} for {100 * strong_share:g} % strong calls"
    point = decider.routers[first.router].provenance.operating_point
    if point is None or point.threshold != first.threshold:
        return threshold
    share = point.strong_share
    goal = "" if share is None else f" for {100 * share:g} % strong calls"
    return f"{threshold}, its operating point{goal}"


def _columns(text: str) -> int:
    """Columns that ``text`` takes in a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )


def _can_print(text: str) -> bool:
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True
