"""Evidence in answers: whether cheap models agree, what one answer shows, and cascades by both."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastroute._lazy import lazy_exports

if TYPE_CHECKING:
    from fastroute.evidence.acceptance import AcceptanceModel
    from fastroute.evidence.answer import Answer, ToolCall
    from fastroute.evidence.cascade import CascadeCall, CascadeSettings, Evidence
    from fastroute.evidence.comparison import Comparison, compare
    from fastroute.evidence.kinds import KINDS, Expectation, Kind

__all__ = [
    "KINDS",
    "AcceptanceModel",
    "Answer",
    "CascadeCall",
    "CascadeSettings",
    "Comparison",
    "Evidence",
    "Expectation",
    "Kind",
    "ToolCall",
    "compare",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "KINDS": "fastroute.evidence.kinds",
        "AcceptanceModel": "fastroute.evidence.acceptance",
        "Answer": "fastroute.evidence.answer",
        "CascadeCall": "fastroute.evidence.cascade",
        "CascadeSettings": "fastroute.evidence.cascade",
        "Comparison": "fastroute.evidence.comparison",
        "Evidence": "fastroute.evidence.cascade",
        "Expectation": "fastroute.evidence.kinds",
        "Kind": "fastroute.evidence.kinds",
        "ToolCall": "fastroute.evidence.answer",
        "compare": "fastroute.evidence.comparison",
    },
)
