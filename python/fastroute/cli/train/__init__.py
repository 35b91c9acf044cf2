"""``fastroute train KIND``: make a router, or a part of one, from your own data."""

from __future__ import annotations

import argparse

from fastroute.cli import _kinds

__all__ = ["configure", "run"]

# Each kind is the module of its name here (`-` is written `_`); see ``cli._kinds``.
_KINDS: dict[str, str] = {
    "mf": "Train a router on battles and graded results of any number of models, or on difficulty.",
    "sw_ranking": "Fit the router that rates models on the battles nearest to a prompt.",
    "models": "Train P(success) of each of many models on graded results.",
    "add-model": "Add a model to a trained mf or models router from a few prompts.",
    "acceptance": "Learn when a cascade by evidence may send a cheap answer.",
    "bert": "Fine-tune an encoder as a router, and export it to ONNX.",
    "causal_llm": "Fine-tune a decoder with five label tokens, and export it.",
    "static": "Distil a static embedder from a sentence encoder in ONNX.",
    "signals": "Find which cheap signals are worth their cost beside the embedding.",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add one subcommand a kind."""
    _kinds.configure_kinds(parser, __name__, _KINDS)


def run(options: argparse.Namespace) -> int:
    """Run the chosen kind and return its exit status."""
    return _kinds.run_kind(options)
