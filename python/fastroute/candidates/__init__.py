"""What is known of each model, which models can answer a request, and the choice among them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastroute._lazy import lazy_exports

if TYPE_CHECKING:
    from fastroute.candidates.candidate import ABILITIES, Candidate
    from fastroute.candidates.eligibility import Eligibility, Needs
    from fastroute.candidates.files import CandidateSet, read_candidates, read_price_list
    from fastroute.candidates.memory import ConversationMemory, LastAnswer
    from fastroute.candidates.policies import (
        BestValue,
        ChoicePolicy,
        MaxQuality,
        QualityAtLeast,
        SpendAtMost,
        SpendPerDay,
        SpendState,
        parse_policy,
    )
    from fastroute.candidates.rules import Rule
    from fastroute.candidates.switching import Turn, without_reasoning

__all__ = [
    "ABILITIES",
    "BestValue",
    "Candidate",
    "CandidateSet",
    "ChoicePolicy",
    "ConversationMemory",
    "Eligibility",
    "LastAnswer",
    "MaxQuality",
    "Needs",
    "QualityAtLeast",
    "Rule",
    "SpendAtMost",
    "SpendPerDay",
    "SpendState",
    "Turn",
    "parse_policy",
    "read_candidates",
    "read_price_list",
    "without_reasoning",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "ABILITIES": "fastroute.candidates.candidate",
        "BestValue": "fastroute.candidates.policies",
        "Candidate": "fastroute.candidates.candidate",
        "CandidateSet": "fastroute.candidates.files",
        "ChoicePolicy": "fastroute.candidates.policies",
        "ConversationMemory": "fastroute.candidates.memory",
        "Eligibility": "fastroute.candidates.eligibility",
        "LastAnswer": "fastroute.candidates.memory",
        "MaxQuality": "fastroute.candidates.policies",
        "Needs": "fastroute.candidates.eligibility",
        "QualityAtLeast": "fastroute.candidates.policies",
        "Rule": "fastroute.candidates.rules",
        "SpendAtMost": "fastroute.candidates.policies",
        "SpendPerDay": "fastroute.candidates.policies",
        "SpendState": "fastroute.candidates.policies",
        "Turn": "fastroute.candidates.switching",
        "parse_policy": "fastroute.candidates.policies",
        "read_candidates": "fastroute.candidates.files",
        "read_price_list": "fastroute.candidates.files",
        "without_reasoning": "fastroute.candidates.switching",
    },
)
