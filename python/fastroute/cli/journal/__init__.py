"""``fastroute journal KIND``: what a gateway's journal holds, and what it shows."""

from __future__ import annotations

from fastroute.cli import _kinds

__all__ = ["configure", "run"]

configure, run = _kinds.commands(
    __name__,
    {
        "stats": "Count rows, grades and dollars.",
        "export": "Write answers with their grades, as tune reads them, or a table.",
        "judge": "Judge answers and their shadows, by a model or by comparing values.",
        "savings": "Compare what was paid with one model alone, by month, caller and model.",
        "prune": "Delete by age, caller or request, or only texts.",
    },
)
