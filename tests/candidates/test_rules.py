"""Rules: where they apply, what they leave, and what they say."""

from __future__ import annotations

import time
from typing import Any

import pytest

from fastroute.candidates import Candidate, Eligibility, Needs, Rule
from fastroute.candidates.rules import Asked, Rules
from fastroute.errors import InvalidInputError, InvalidTypeError, NoEligibleModelError

MODELS = [
    Candidate("gpt", tags=frozenset({"us"})),
    Candidate("mistral", tags=frozenset({"europe"})),
    Candidate("beta", tags=frozenset({"europe", "beta"})),
]


def left(rule: Rule, **asked: Any) -> list[str]:
    excluded = Rules([rule], MODELS).excluded(Asked(**asked))
    return [m.name for m in MODELS if m.name not in excluded]


@pytest.mark.parametrize(
    ("conditions", "asked", "applies"),
    [
        ({}, {}, True),
        ({"keys": ["team-*"]}, {"key": "Team-7"}, True),
        ({"keys": ["team-*"]}, {"key": "a team-7"}, False),
        ({"keys": ["a", "b"]}, {"key": "b"}, True),
        ({"keys": ["a"]}, {}, False),
        ({"headers": {"X-Class": "*"}}, {"headers": {"x-class": ""}}, True),
        ({"headers": {"X-Class": "*"}}, {"headers": {"x-other": "1"}}, False),
        ({"headers": {"a": "1", "b": "2"}}, {"headers": {"a": "1", "b": "3"}}, False),
        ({"paths": ["/messages*"]}, {"path": "/messages/count_tokens"}, True),
        ({"system_prompts": ["*secret*"]}, {"system_prompt": "A\nSecret\nB"}, True),
        ({"system_prompts": ["secret"]}, {"system_prompt": "secrets"}, False),
        ({"system_prompts": ["*[x]?*"]}, {"system_prompt": "a [x]? b"}, True),
        ({"system_prompts": ["*[x]*"]}, {"system_prompt": "x"}, False),
        ({"keys": ["a"], "paths": ["/b"]}, {"key": "a", "path": "/c"}, False),
    ],
)
def test_a_rule_applies_where_all_its_conditions_are_met(
    conditions: Any, asked: Any, applies: bool
) -> None:
    expected = ["mistral", "beta"] if applies else ["gpt", "mistral", "beta"]
    assert left(Rule(**conditions, deny=["gpt"]), **asked) == expected


def test_names_and_tags_are_allowed_and_denied() -> None:
    assert left(Rule(allow=["europe"])) == ["mistral", "beta"]
    assert left(Rule(allow=["europe"], deny=["beta"])) == ["mistral"]
    assert left(Rule(allow=["gpt", "beta"])) == ["gpt", "beta"]


def test_all_rules_hold_and_say_so() -> None:
    rules = Rules([Rule(allow=["europe"]), Rule(deny=["europe"]), Rule(deny=["beta"])], MODELS)
    excluded = rules.excluded(Asked())
    with pytest.raises(NoEligibleModelError) as raised:
        Eligibility(MODELS).find(Needs(excluded=excluded))
    assert raised.value.reasons == {
        "gpt": "rule 1 allows only europe",
        "mistral": "rule 2 denies europe",
        "beta": "rule 2 denies europe, rule 3 denies beta",
    }


def test_a_pattern_takes_no_longer_than_its_text() -> None:
    rules = Rules([Rule(system_prompts=["*a*a*a*a*a*a*b"], deny=["gpt"])], MODELS)
    began = time.process_time()
    assert not rules.excluded(Asked(system_prompt="a" * 10**6))
    assert time.process_time() - began < 1.0


@pytest.mark.parametrize(
    ("arguments", "kind", "said"),
    [
        ({}, InvalidInputError, "needs allow or deny"),
        ({"deny": "gpt"}, InvalidTypeError, "deny of a rule must be a list"),
        ({"deny": ["gpt"], "keys": [3]}, InvalidTypeError, "keys of a rule"),
        ({"deny": ["gpt"], "headers": ["a"]}, InvalidTypeError, "headers must be a table"),
        ({"deny": ["gpt"], "headers": {"a": 1}}, InvalidTypeError, "headers of a rule"),
    ],
)
def test_wrong_rules_are_named(arguments: Any, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        Rule(**arguments)


def test_an_unknown_word_is_an_error() -> None:
    with pytest.raises(InvalidInputError, match="rule 2: no candidate has the name or tag 'eu'"):
        Rules([Rule(deny=["gpt"]), Rule(allow=["eu"])], MODELS)
