"""What is known of each model, which models can answer a request, and the choice among them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastroute._lazy import lazy_exports

if TYPE_CHECKING:
    from fastroute.candidates.candidate import ABILITIES as ABILITIES
    from fastroute.candidates.candidate import Candidate as Candidate
    from fastroute.candidates.eligibility import Eligibility as Eligibility
    from fastroute.candidates.eligibility import Needs as Needs
    from fastroute.candidates.files import CandidateSet as CandidateSet
    from fastroute.candidates.files import read_candidates as read_candidates
    from fastroute.candidates.files import read_price_list as read_price_list
    from fastroute.candidates.memory import ConversationMemory as ConversationMemory
    from fastroute.candidates.memory import LastAnswer as LastAnswer
    from fastroute.candidates.policies import BestValue as BestValue
    from fastroute.candidates.policies import ChoicePolicy as ChoicePolicy
    from fastroute.candidates.policies import MaxQuality as MaxQuality
    from fastroute.candidates.policies import QualityAtLeast as QualityAtLeast
    from fastroute.candidates.policies import SpendAtMost as SpendAtMost
    from fastroute.candidates.policies import SpendPerDay as SpendPerDay
    from fastroute.candidates.policies import SpendState as SpendState
    from fastroute.candidates.policies import parse_policy as parse_policy
    from fastroute.candidates.rules import Rule as Rule
    from fastroute.candidates.switching import Turn as Turn
    from fastroute.candidates.switching import without_reasoning as without_reasoning

__all__, __getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "fastroute.candidates.candidate": "ABILITIES Candidate",
        "fastroute.candidates.eligibility": "Eligibility Needs",
        "fastroute.candidates.files": "CandidateSet read_candidates read_price_list",
        "fastroute.candidates.memory": "ConversationMemory LastAnswer",
        "fastroute.candidates.policies": (
            "BestValue ChoicePolicy MaxQuality QualityAtLeast SpendAtMost SpendPerDay SpendState "
            "parse_policy"
        ),
        "fastroute.candidates.rules": "Rule",
        "fastroute.candidates.switching": "Turn without_reasoning",
    },
)
