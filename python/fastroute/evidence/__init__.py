"""Evidence in answers: whether cheap models agree, and what one answer shows by itself."""

from __future__ import annotations

from fastroute.evidence.answer import Answer, ToolCall
from fastroute.evidence.comparison import Comparison, compare
from fastroute.evidence.kinds import KINDS, Expectation, Kind

__all__ = ["KINDS", "Answer", "Comparison", "Expectation", "Kind", "ToolCall", "compare"]
