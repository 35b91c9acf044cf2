"""Evidence in answers: whether cheap models agree, what one answer shows, and cascades by both."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastroute._lazy import lazy_exports

if TYPE_CHECKING:
    from fastroute.evidence.acceptance import AcceptanceModel as AcceptanceModel
    from fastroute.evidence.answer import Answer as Answer
    from fastroute.evidence.answer import ToolCall as ToolCall
    from fastroute.evidence.cascade import CascadeCall as CascadeCall
    from fastroute.evidence.cascade import CascadeSettings as CascadeSettings
    from fastroute.evidence.cascade import Evidence as Evidence
    from fastroute.evidence.comparison import Comparison as Comparison
    from fastroute.evidence.comparison import compare as compare
    from fastroute.evidence.kinds import KINDS as KINDS
    from fastroute.evidence.kinds import Expectation as Expectation
    from fastroute.evidence.kinds import Kind as Kind

__all__, __getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "fastroute.evidence.acceptance": "AcceptanceModel",
        "fastroute.evidence.answer": "Answer ToolCall",
        "fastroute.evidence.cascade": "CascadeCall CascadeSettings Evidence",
        "fastroute.evidence.comparison": "Comparison compare",
        "fastroute.evidence.kinds": "Expectation KINDS Kind",
    },
)
