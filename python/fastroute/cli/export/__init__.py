"""``fastroute export KIND``: turn a checkpoint into what a router loads."""

from __future__ import annotations

from fastroute.cli import _kinds

__all__ = ["configure", "run"]

configure, run = _kinds.commands(
    __name__,
    {
        "causal_llm": "Export a decoder with five label tokens to ONNX, and compare it with torch.",
    },
)
