"""Which candidates can answer a request, and why the others can't."""

from __future__ import annotations

import timeit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastroute.candidates import ABILITIES, Candidate, Eligibility, Needs
from fastroute.candidates.languages import language_of
from fastroute.errors import (
    FastRouteError,
    InvalidInputError,
    NoEligibleModelError,
    RoutingError,
)

MODELS = [
    Candidate("small", context_window=1000, max_output_tokens=100, tags=frozenset({"eu"})),
    Candidate("sees", context_window=4000, abilities=frozenset({"vision", "tools"})),
    Candidate("any", abilities=frozenset({"tools"}), tags=frozenset({"eu", "beta"})),
]


def eligible(needs: Needs) -> list[str]:
    return [MODELS[i].name for i in Eligibility(MODELS).find(needs)]


def test_each_need_excludes_those_that_do_not_meet_it() -> None:
    assert eligible(Needs()) == ["small", "sees", "any"]
    assert eligible(Needs(most_tokens=999)) == ["small", "sees", "any"]
    assert eligible(Needs(most_tokens=1000)) == ["sees", "any"]  # one token of an answer must fit
    assert eligible(Needs(most_tokens=950, max_output_tokens=50)) == ["small", "sees", "any"]
    assert eligible(Needs(most_tokens=950, max_output_tokens=51)) == ["sees", "any"]
    assert eligible(Needs(max_output_tokens=101)) == ["sees", "any"]
    assert eligible(Needs(abilities=frozenset({"tools"}))) == ["sees", "any"]
    assert eligible(Needs(abilities=frozenset({"tools", "vision"}))) == ["sees"]
    assert eligible(Needs(allow=frozenset({"eu", "us"}))) == ["small", "any"]
    assert eligible(Needs(deny=frozenset({"beta"}))) == ["small", "sees"]
    assert eligible(Needs(allow=frozenset({"eu"}), deny=frozenset({"beta"}))) == ["small"]


def test_without_any_every_model_is_named_with_its_reasons() -> None:
    needs = Needs(5000, 5000.0, frozenset({"vision"}), 200, deny=frozenset({"beta"}))
    with pytest.raises(NoEligibleModelError) as raised:
        eligible(needs)
    assert raised.value.reasons == {
        "small": "lacks vision, context window of 1,000 tokens, where the prompt may have 5,000 "
        "and 200 of the answer, answers of at most 100 tokens, where 200 are asked for",
        "sees": "context window of 4,000 tokens, where the prompt may have 5,000 and 200 of the "
        "answer",
        "any": "lacks vision, has the denied tag beta",
    }
    assert all(f"{name}: {why}" in str(raised.value) for name, why in raised.value.reasons.items())
    assert isinstance(raised.value, RoutingError)
    assert Eligibility(MODELS).reasons(Needs(allow=frozenset({"us"})))[0] == (
        "has none of the allowed tags us"
    )


def test_the_bound_decides_first_and_the_likely_length_where_it_leaves_none() -> None:
    models = [Candidate("a", context_window=1000), Candidate("b", context_window=3000)]
    text = "x" * 2000
    names = [models[i].name for i in Eligibility(models).find(Needs.of_text(text))]
    assert names == ["b"]  # certain, where "a" is only likely
    assert Eligibility(models[:1]).find(Needs.of_text(text)) == [0]
    assert Eligibility(models[:1]).reasons(Needs.of_text(text)) == [None]
    with pytest.raises(NoEligibleModelError):
        Eligibility(models[:1]).find(Needs.of_text("x" * 3000))


def test_a_count_replaces_the_bound() -> None:
    models = [Candidate("a", context_window=1000), Candidate("b", context_window=9000)]
    eligibility = Eligibility(models)
    needs = Needs.of_text("word " * 300)
    assert eligibility.needs_count(needs)
    assert not eligibility.needs_count(Needs.of_text("word"))
    assert eligibility.find(needs) == [1]
    assert eligibility.find(needs.counted(300)) == [0, 1]
    assert eligibility.find(needs.counted(1200)) == [1]


@given(text=st.text(st.characters(codec="utf-8"), max_size=200))
def test_the_bound_is_one_token_a_byte(text: str) -> None:
    assert Needs.of_text(text).most_tokens == len(text.encode())


@given(
    st.integers(0, 10_000),
    st.none() | st.integers(1, 5000),
    st.sets(st.sampled_from(ABILITIES)),
    st.sets(st.sampled_from(["eu", "beta", "us"])),
    st.sets(st.sampled_from(["eu", "beta", "us"])),
)
def test_reasons_and_the_eligible_ones_agree(
    tokens: int, output: int | None, abilities: set[str], allow: set[str], deny: set[str]
) -> None:
    needs = Needs(
        tokens, tokens / 3, frozenset(abilities), output, frozenset(allow), frozenset(deny)
    )
    eligibility = Eligibility(MODELS)
    reasons = eligibility.reasons(needs)
    assert all(reason is None or reason for reason in reasons)
    if all(reasons):
        with pytest.raises(NoEligibleModelError) as raised:
            eligibility.find(needs)
        assert list(raised.value.reasons.values()) == reasons
    else:
        found = eligibility.find(needs)
        assert found == [i for i, reason in enumerate(reasons) if reason is None]


def test_it_takes_under_10_us_for_20_candidates() -> None:
    tags = frozenset({"eu"})
    models = [
        Candidate(f"m{i}", 1, 2, None, 8000 * (i + 1), 4096, frozenset({"tools"}), tags)
        for i in range(20)
    ]
    eligibility = Eligibility(models)
    needs = Needs(2000, 500.0, frozenset({"tools"}), 500, allow=tags)
    assert len(eligibility.find(needs)) == 20
    best_s = min(timeit.repeat(lambda: eligibility.find(needs), number=200, repeat=20)) / 200
    assert best_s < 10e-6 * 3  # 4 us alone; the factor is for a busy machine


def test_wrong_needs_are_named() -> None:
    with pytest.raises(InvalidInputError, match="unknown 'sight'"):
        Needs(abilities=frozenset({"sight"}))
    with pytest.raises(InvalidInputError, match="0 or more"):
        Needs(most_tokens=-1)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("", ""),
        ("Write a poem about rain.", ""),
        ("Écris un poème sur la pluie.", ""),  # Latin letters write many languages
        ("Напиши стихи о дожде.", ""),  # noqa: RUF001
        ("写一首关于雨的诗。", "zh"),
        ("雨についての詩を書いてください。", "ja"),
        ("비에 대한 시를 써 줘.", "ko"),
        ("Γράψε ένα ποίημα για τη βροχή.", "el"),  # noqa: RUF001
        ("כתוב שיר על גשם.", "he"),
        ("Translate this into English, please: 雨が降る", ""),
        ("雨が降る " + "x " * 100_000 + "雨が降る", ""),
        ("雨が降る。" * 10_000, "ja"),
    ],
)
def test_the_language_is_known_where_the_script_settles_it(text: str, language: str) -> None:
    assert language_of(text) == language


def test_a_candidate_with_languages_answers_in_those_only() -> None:
    everywhere = Candidate("everywhere")
    european = Candidate("european", languages=frozenset({"en", "de"}))
    eligibility = Eligibility([everywhere, european])
    assert eligibility.asks_language
    assert not Eligibility([everywhere]).asks_language
    assert eligibility.find(Needs()) == [0, 1]
    assert eligibility.find(Needs(language="de")) == [0, 1]
    assert eligibility.find(Needs(language="ja")) == [0]
    assert eligibility.reasons(Needs(language="ja")) == [None, "does not list the language ja"]
    with pytest.raises(NoEligibleModelError, match="european: does not list the language ja"):
        Eligibility([european]).find(Needs(language="ja"))
    for wrong in ("English", "EN", ""):
        with pytest.raises(FastRouteError, match=r"ISO 639-1|list of words") as caught:
            Candidate("m", languages=frozenset({wrong}))
        assert "candidate 'm'" in str(caught.value)
