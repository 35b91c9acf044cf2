"""Decisions among many candidates: eligibility, estimate, policy, switches, explanation."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastroute.candidates import Candidate, CandidateSet, MaxQuality, Needs, SpendAtMost, Turn
from fastroute.chat.needs import IMAGE_TOKENS, needs_of
from fastroute.embedders.static import StaticEmbedder
from fastroute.errors import InvalidInputError, InvalidTypeError, NoEligibleModelError
from fastroute.many_models import CandidateDecider
from fastroute.routers import ModelsRouter
from fastroute.routers.many_models.fit import fit_estimator

MODELS = [
    Candidate("poet", 1.0, 2.0, provider="a", context_window=8000, abilities=frozenset({"tools"})),
    Candidate("sums", 1.0, 2.0, provider="b", context_window=8000, tags=frozenset({"eu"})),
    Candidate("new", 0.1, 0.2, provider="b", quality_prior=0.3, context_window=200_000),
]
POEM, SUM = "Write a poem about rain and winter.", "Compute 3 times 7 plus 12."


def train() -> ModelsRouter:
    """A router of two models, of which one is good at poems and the other at sums."""
    embedder = StaticEmbedder.load_default()
    nouns = ("rain", "horses", "a river", "stars", "bread", "the sea", "winter", "a train")
    prompts = [f"Write a poem about {a} and {b}." for a in nouns for b in nouns]
    prompts += [f"Compute {a} times {b} plus {a + b}." for a in range(8) for b in range(8)]
    poems = np.repeat([1.0, 0.0], 64)
    X = embedder.embed_batch(prompts)
    grades = np.stack([poems, 1 - poems], axis=1)
    estimator = fit_estimator(("poet", "sums"), X, grades, np.arange(128) % 5).estimator
    return ModelsRouter(estimator, embedder=embedder)


@pytest.fixture(scope="module")
def router() -> ModelsRouter:
    return train()


def user(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


def test_each_prompt_goes_to_the_model_that_is_good_at_it(router: ModelsRouter) -> None:
    decider = CandidateDecider(MODELS, "max_quality", router)
    poem, sum_ = decider.decide(POEM), decider.decide(SUM)
    assert (poem.model, sum_.model) == ("poet", "sums")
    assert poem.quality > 0.8
    assert poem.usd == pytest.approx((len(POEM) / 4 * 1.0 + 256 * 2.0) / 1e6)
    assert poem.policy == "max_quality"
    assert poem.latency_us > 0
    assert not poem.abstained
    assert poem.candidates == ()
    assert decider.decide_request(user(SUM)).model == "sums"
    assert pickle.loads(pickle.dumps(poem)) == poem


def test_an_explanation_states_every_candidate(router: ModelsRouter) -> None:
    decider = CandidateDecider(MODELS, "max_quality", router)
    decision = decider.decide(POEM, needs=Needs(abilities=frozenset({"tools"})), explain=True)
    assert decision.model == "poet"
    assert [view.name for view in decision.candidates] == ["poet", "sums", "new"]
    poet, sums, new = decision.candidates
    assert poet.eligible
    assert (poet.quality, poet.usd) == (decision.quality, decision.usd)
    assert poet.low < poet.quality <= poet.high
    assert not sums.eligible
    assert sums.reason == new.reason == "lacks tools"
    assert sums.quality < 0.2  # known, though it can't be chosen
    assert new.high - new.low > 0.3


def test_without_a_router_priors_decide() -> None:
    models = [Candidate("a", 5.0, 5.0, quality_prior=0.9), Candidate("b", 1.0, 1.0),
              Candidate("c", 0.1, 0.1, quality_prior=0.4)]  # fmt: skip
    decision = CandidateDecider(models).decide("Hello", explain=True)
    assert decision.model == "a"
    assert decision.abstained
    assert [view.quality for view in decision.candidates] == [0.9, 0.5, 0.4]
    assert (decision.candidates[0].low, decision.candidates[0].high) == (0.0, 1.0)
    assert CandidateDecider(models, "best_value=1000").decide("Hello").model == "c"


def test_where_the_router_abstains_the_safe_choice_is_made(router: ModelsRouter) -> None:
    models = [*MODELS[:2], Candidate("best", 9.0, 9.0, quality_prior=0.95)]
    decider = CandidateDecider(models, "quality_at_least=0.5", router)
    assert decider.decide(POEM).model == "poet"
    unknown = decider.decide("")
    assert unknown.abstained
    assert unknown.model == "best"


def test_prices_are_read_at_each_decision(router: ModelsRouter, tmp_path: Path) -> None:
    file = tmp_path / "models.toml"

    def write(poet_usd: float) -> None:
        file.write_text(
            f'[[candidates]]\nname = "poet"\noutput_usd_per_mtok = {poet_usd}\n'
            '[[candidates]]\nname = "new"\noutput_usd_per_mtok = 1\nquality_prior = 0.5\n'
        )

    write(1)
    candidates = CandidateSet(file)
    decider = CandidateDecider(candidates, "best_value=100", router)
    assert decider.decide(POEM).model == "poet"
    write(1000)
    assert decider.decide(POEM).model == "poet"
    candidates.reload()
    assert decider.decide(POEM).model == "new"
    candidates.replace([Candidate("other")])
    assert decider.decide(POEM).model == "other"


def test_the_needs_of_a_request_exclude_candidates(router: ModelsRouter) -> None:
    decider = CandidateDecider(MODELS, "max_quality", router)
    tools = {**user(SUM), "tools": [{"type": "function", "function": {"name": "f"}}]}
    assert decider.decide_request(tools).model == "poet"
    assert decider.decide_request({**user(SUM), "max_tokens": 9000}).model == "new"
    assert decider.decide_request(user(POEM), allow=["eu"]).model == "sums"
    assert decider.decide_request(user(SUM), deny=["eu"]).model != "sums"
    image = [{"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10**6}}]
    with pytest.raises(NoEligibleModelError, match="poet: lacks vision"):
        decider.decide_request({"messages": [{"role": "user", "content": image}]})


def test_no_request_overflows_a_context_window(router: ModelsRouter) -> None:
    """One token a byte is the most that a tokenizer makes; the chosen window holds it."""
    decider = CandidateDecider(MODELS, "max_quality", router)
    window = {m.name: m.context_window or 0 for m in MODELS}
    random = np.random.default_rng(0)
    for _ in range(300):
        size = int(10 ** random.uniform(1, 5.2))
        body = {**user("x" * size), "max_tokens": int(random.integers(1, 2000))}
        chosen = decider.decide_request(body).model
        assert size + body["max_tokens"] <= window[chosen]


def test_tokens_are_counted_only_where_the_bound_does_not_fit(router: ModelsRouter) -> None:
    counted: list[str] = []

    def count(text: str) -> int:
        counted.append(text)
        return len(text) // 5

    decider = CandidateDecider(MODELS, "max_quality", router, count_tokens=count)
    assert decider.decide(POEM).model == "poet"
    assert counted == []
    text = "Write a poem about rain and winter. " * 300
    decision = decider.decide_request(user(text))
    assert counted == [f"{text}\nuser"] or counted == [f"user\n{text}"]
    assert decision.model == "poet"  # 2,160 tokens fit, where 10,800 bytes might not
    assert CandidateDecider(MODELS, "max_quality", router).decide_request(user(text)).model == "new"


def test_an_open_tool_call_and_signed_reasoning_hold_the_model(router: ModelsRouter) -> None:
    decider = CandidateDecider(MODELS, "max_quality", router)
    call = {"role": "assistant", "tool_calls": [{"id": "1"}]}
    open_call = [{"role": "user", "content": SUM}, call, {"role": "tool", "content": "3"}]
    assert decider.decide_request({"messages": open_call}).model == "sums"
    held = decider.decide_request({"messages": open_call}, model="poet", explain=True)
    assert held.model == "poet"
    assert held.candidates[1].reason == "a tool call of poet is open"
    signed = {"role": "assistant", "content": [{"type": "thinking", "signature": "x"}]}
    history = {"messages": [signed, {"role": "user", "content": SUM}]}
    assert decider.decide_request(history, model="poet").model == "poet"
    dropping = CandidateDecider(MODELS, "max_quality", router, drop_reasoning=True)
    moved = dropping.decide_request(history, model="poet")
    assert (moved.model, moved.drops_reasoning) == ("sums", True)
    assert not dropping.decide_request(history, model="new").drops_reasoning  # the same provider


def test_a_locked_conversation_whose_model_can_not_answer_is_an_error(
    router: ModelsRouter,
) -> None:
    decider = CandidateDecider(MODELS, "max_quality", router)
    body = {"messages": [{"role": "assistant", "tool_calls": [{"id": "1"}]}], "max_tokens": 9000}
    with pytest.raises(NoEligibleModelError) as raised:
        decider.decide_request(body, model="poet")
    assert "context window of 8,000" in raised.value.reasons["poet"]
    assert raised.value.reasons["new"] == "a tool call of poet is open"


def test_a_cache_keeps_a_conversation_where_a_switch_gains_less(router: ModelsRouter) -> None:
    models = [
        Candidate("poet", 10.0, 10.0, cached_usd_per_mtok=0.1, provider="a"),
        Candidate("sums", 9.0, 9.0, provider="b"),
    ]
    decider = CandidateDecider(models, "quality_at_least=0", router)
    assert decider.decide_request(user(POEM)).model == "sums"  # the cheaper one
    long = user(POEM * 200)
    assert decider.decide_request(long, model="poet").model == "sums"
    assert decider.decide_request(long, model="poet", cached_tokens=1500).model == "poet"


def test_actual_costs_reach_the_policy(router: ModelsRouter) -> None:
    policy = SpendAtMost(1.0)
    decider = CandidateDecider(MODELS, policy, router)
    decision = decider.decide(POEM)
    usage = {"prompt_tokens": 100, "completion_tokens": 50,
             "prompt_tokens_details": {"cached_tokens": 40}}  # fmt: skip
    decider.account(decision, usage)
    chosen = next(m for m in MODELS if m.name == decision.model)
    assert policy.state.spent_usd == pytest.approx(chosen.dollars(100, 50, 40))
    spent = policy.state.spent_usd
    for unreadable in (None, {}, {"prompt_tokens": "many"}, {"prompt_tokens": -1}, []):
        decider.account(decision, unreadable)
    assert policy.state.spent_usd == spent


def test_a_turn_can_be_given_with_a_prompt(router: ModelsRouter) -> None:
    decider = CandidateDecider(MODELS, MaxQuality(), router)
    assert decider.decide(SUM, turn=Turn("poet", tool_call_open=True)).model == "poet"


def test_wrong_arguments_are_named(router: ModelsRouter) -> None:
    with pytest.raises(InvalidInputError, match="policy 'best'"):
        CandidateDecider(MODELS, "best")
    with pytest.raises(InvalidTypeError, match="policy must be"):
        CandidateDecider(MODELS, 3)  # type: ignore[arg-type]
    with pytest.raises(InvalidTypeError, match="router must be"):
        CandidateDecider(MODELS, router=3)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="router has no embedder"):
        CandidateDecider(MODELS, router=ModelsRouter(router.estimator))
    with pytest.raises(InvalidTypeError, match="prompt must be a str"):
        CandidateDecider(MODELS, router=router).decide(None)  # type: ignore[arg-type]


def test_the_needs_of_a_body() -> None:
    assert needs_of(user("Grüße")).most_tokens == 7 + 8  # bytes, and the message's frame
    body: dict[str, Any] = {
        "messages": [
            {"role": "system", "content": None},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "abc"},
                    {"type": "image_url", "image_url": {"url": "A" * 100_000}},
                    {"type": "input_audio", "input_audio": {"data": "A" * 2000}},
                ],
            },
        ],
        "tools": [{"type": "function"}],
        "response_format": {"type": "json_schema", "json_schema": {}},
        "reasoning_effort": "low",
        "max_tokens": 5,
        "max_completion_tokens": 7,
    }
    needs = needs_of(body)
    assert needs.abilities == {"vision", "audio", "tools", "json_schema", "reasoning"}
    assert needs.max_output_tokens == 7
    tools = len(json.dumps(body["tools"])) + len(json.dumps(body["response_format"]))
    assert needs.most_tokens == pytest.approx(3 + 16 + IMAGE_TOKENS + 10 + tools, abs=2)
    plain = needs_of({**user("a"), "response_format": {"type": "text"}, "reasoning_effort": "none"})
    assert plain.abilities == frozenset()
    assert plain.max_output_tokens is None
    calls = [{"role": "assistant", "content": None, "tool_calls": [{"arguments": "x" * 500}]}]
    assert needs_of({"messages": calls}).most_tokens > 500


@pytest.mark.parametrize(
    ("body", "abilities"),
    [
        ({"input": "a"}, set()),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "A"}]}]},
         {"vision"}),
        ({"input": "a", "text": {"format": {"type": "json_schema", "schema": {}}}},
         {"json_schema"}),
        ({"input": "a", "reasoning": {"effort": "low"}}, {"reasoning"}),
        ({"input": "a", "reasoning": {"effort": "none"}}, set()),
        ({"messages": [], "thinking": {"type": "enabled", "budget_tokens": 9}}, {"reasoning"}),
        ({"messages": [], "thinking": {"type": "disabled"}}, set()),
        ({"messages": [{"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image"}]}]}]},
         {"vision"}),
    ],
)  # fmt: skip
def test_other_apis_ask_for_the_same_abilities(body: dict[str, Any], abilities: set[str]) -> None:
    assert needs_of(body).abilities == abilities


@pytest.mark.parametrize(
    "body",
    [
        {"system": "x" * 900, "messages": user("a")["messages"]},
        {"system": [{"type": "text", "text": "x" * 900}], "messages": user("a")["messages"]},
        {"instructions": "x" * 900, "input": "a"},
        {"prompt": ["x" * 500, "x" * 400]},
        {"input": [{"type": "function_call", "name": "f", "arguments": "x" * 900}]},
        {"input": [{"type": "function_call_output", "call_id": "1", "output": "x" * 900}]},
        {"input": [{"type": "reasoning", "encrypted_content": "x" * 900}]},
        {"messages": [{"role": "user", "content": [
            {"type": "tool_result", "content": "x" * 900}]}]},
        {"messages": [{"role": "assistant", "content": [
            {"type": "tool_use", "input": {"a": "x" * 900}}]}]},
    ],
)  # fmt: skip
def test_everything_that_a_model_reads_is_counted(body: dict[str, Any]) -> None:
    assert 900 <= needs_of(body).most_tokens < 950


def test_a_margin_keeps_a_conversation_unless_another_model_is_much_better(
    router: ModelsRouter,
) -> None:
    decider = CandidateDecider(MODELS, "max_quality", router)
    assert decider.decide(POEM, turn=Turn("sums", margin=0.1)).model == "poet"
    stayed = decider.decide(POEM, turn=Turn("sums", margin=1.0))
    assert (stayed.model, stayed.stayed) == ("sums", True)
    assert stayed.quality < 0.5  # as estimated, without the margin
    assert not decider.decide(SUM, turn=Turn("sums", margin=1.0)).stayed  # chosen anyway


def test_a_decision_that_is_not_counted_spends_nothing(router: ModelsRouter) -> None:
    policy = SpendAtMost(1.0)
    decider = CandidateDecider(MODELS, policy, router)
    decider.decide(POEM, counts=False)
    assert policy.state.requests == 0
    decider.decide(POEM)
    assert policy.state.requests == 1


def test_a_prompt_goes_to_a_candidate_of_its_language(router: ModelsRouter) -> None:
    models = [
        Candidate("poet", languages=frozenset({"en"})), Candidate("sums", quality_prior=0.1),
    ]  # fmt: skip
    decider = CandidateDecider(models, "max_quality", router)
    assert decider.decide(POEM).model == "poet"
    assert decider.decide("雨についての詩を書いてください。").model == "sums"
    assert decider.decide(POEM, needs=Needs(language="de")).model == "sums"
