"""Evidence in answers: whether cheap models agree, and what one answer shows by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastroute._lazy import lazy_exports

if TYPE_CHECKING:
    from fastroute.evidence.answer import Answer, ToolCall
    from fastroute.evidence.comparison import Comparison, compare
    from fastroute.evidence.kinds import KINDS, Expectation, Kind

__all__ = [
    "KINDS",
    "Answer",
    "Comparison",
    "Expectation",
    "Kind",
    "ToolCall",
    "compare",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "KINDS": "fastroute.evidence.kinds",
        "Answer": "fastroute.evidence.answer",
        "Comparison": "fastroute.evidence.comparison",
        "Expectation": "fastroute.evidence.kinds",
        "Kind": "fastroute.evidence.kinds",
        "ToolCall": "fastroute.evidence.answer",
        "compare": "fastroute.evidence.comparison",
    },
)
