"""``fastroute journal KIND``: what a gateway's journal holds, and what it shows."""

from __future__ import annotations

import argparse

from fastroute.cli import _kinds

__all__ = ["configure", "run"]

_KINDS = {
    "stats": "Count rows, grades and dollars.",
    "export": "Write answers with their grades, as tune reads them, or a table.",
    "savings": "Compare what was paid with one model alone, by month, caller and model.",
    "prune": "Delete by age, caller or request, or only texts.",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add one subcommand a kind."""
    _kinds.configure_kinds(parser, __name__, _KINDS)


def run(options: argparse.Namespace) -> int:
    """Run the chosen kind and return its exit status."""
    return _kinds.run_kind(options)
