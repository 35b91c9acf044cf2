"""``fastroute export KIND``: turn a checkpoint into what a router loads."""

from __future__ import annotations

import argparse

from fastroute.cli import _kinds

__all__ = ["configure", "run"]

# As the kinds of ``fastroute train``: modules of their names here.
_KINDS: dict[str, str] = {
    "causal_llm": "Export a decoder with five label tokens to ONNX, and compare it with torch.",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add one subcommand a kind."""
    _kinds.configure_kinds(parser, __name__, _KINDS)


def run(options: argparse.Namespace) -> int:
    """Run the chosen kind and return its exit status."""
    return _kinds.run_kind(options)
