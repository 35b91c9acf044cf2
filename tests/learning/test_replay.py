"""Estimates of policies that did not run: right on average, honest about their support."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import insert

from cli_runner import fastroute
from fastroute.errors import InvalidInputError
from fastroute.journal.database import open_journal, writing
from fastroute.journal.schema import FEEDBACK, JUDGEMENTS, REQUESTS, SHADOWS
from fastroute.learning.from_journal.export import export_journal
from fastroute.learning.replay.estimate import dollars, estimate
from fastroute.learning.replay.journal import read_log, read_pair, read_prices
from fastroute.learning.replay.log import Log
from fastroute.learning.replay.policies import target_of
from fastroute.learning.replay.run import replay
from fastroute.types import ModelPair
from loop_journal import write_prices, write_traffic
from loop_traffic import PRICES, Traffic, draw

PAIR = ModelPair("strong", "weak")
METHODS = ["doubly_robust", "self_normalised", "inverse_propensity"]


def columns(strong: np.ndarray) -> np.ndarray:
    return np.c_[~strong, strong].astype(float)


def logged(
    conversations: int, explored: float, seed: int = 0, turns: float = 2.5, **more: float
) -> tuple[Traffic, Log]:
    """Traffic of a gateway at threshold 0.6."""
    rng = np.random.default_rng(seed)
    traffic = draw(conversations, rng, turns=turns)
    return traffic, traffic.log(rng, explored=explored, **more)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("graded", [1.0, 0.4])
def test_estimates_agree_with_what_the_policy_would_have_given(method: str, graded: float) -> None:
    traffic, log = logged(8000, 0.3, graded=graded, shadow=0.2)
    strong = traffic.sides(0.4)
    truth = traffic.outcome(strong)
    for name, value in truth.items():
        found = (
            dollars(log, columns(strong), PRICES, method)
            if name == "cost_usd"
            else estimate(log, columns(strong), name, method)
        ).interval(0.999)
        assert found.low <= value <= found.high, name
        assert found.high - found.low < 0.25 * value


def test_the_naive_mean_of_what_agrees_would_be_wrong() -> None:
    # Otherwise the test above could pass without weights.
    traffic, log = logged(8000, 0.4, turns=1.0)
    weak = np.zeros(len(traffic.turn), dtype=bool)
    naive = log.sent.grade[log.sent.model == 0].mean()
    found = estimate(log, columns(weak), "grade").interval(0.999)
    assert found.low <= traffic.outcome(weak)["grade"] <= found.high
    assert not found.low <= naive <= found.high


def test_intervals_cover_the_truth() -> None:
    truth = draw(200_000, np.random.default_rng(1))
    value = truth.outcome(truth.sides(0.35))["grade"]
    hits = []
    for seed in range(60):
        traffic, log = logged(300, 0.8, seed, shadow=0.2)
        found = estimate(log, columns(traffic.sides(0.35)), "grade").interval(0.95, seed)
        hits.append(found.low <= value <= found.high)
    assert np.mean(hits) >= 0.87  # of 60 with 0.95 each, fewer have a probability of 1 %


def test_a_policy_that_switches_loses_the_price_of_the_cache() -> None:
    rng = np.random.default_rng(3)
    traffic = draw(4000, rng, turns=5.0)
    log = traffic.log(rng, explored=0.5, shadow=0.3)
    always = np.ones(len(traffic.turn), dtype=bool)
    for strong in (traffic.turn % 2 == 0, always):
        found = dollars(log, columns(strong), PRICES).interval(0.999)
        assert found.low <= traffic.outcome(strong)["cost_usd"] <= found.high
    # Shadows are asked without a cache: bills alone would be too high for a policy that stays.
    blind = estimate(log, columns(always), "cost_usd").interval(0.999)
    assert traffic.outcome(always)["cost_usd"] < blind.low


def test_what_the_log_cannot_tell_is_refused() -> None:
    _, log = logged(2000, 0.0)
    everything = columns(np.ones(len(log), dtype=bool))
    refusal = estimate(log, everything, "grade").interval(0.95)
    assert "no support" in refusal.refusal
    assert "strong" in refusal.refusal
    assert np.isnan(refusal.value)
    _, few = logged(200, 0.02, turns=1.0)
    assert "too little support" in estimate(few, everything[: len(few)], "grade").refusal
    # The policy that ran has support.
    same = estimate(log, log.probabilities, "grade").interval(0.95)
    assert same.value == pytest.approx(log.sent.grade.mean(), abs=0.02)


def test_shadows_give_support_where_nothing_explores() -> None:
    traffic, log = logged(3000, 0.0, shadow=0.2)
    strong = traffic.sides(0.4)
    found = estimate(log, columns(strong), "grade").interval(0.999)
    assert found.low <= traffic.outcome(strong)["grade"] <= found.high
    # Shadows that stand for a tenth of what they should (a cap on dollars) do not.
    shadows = replace(log.shadows, weight=log.shadows.weight / 10.0)
    capped = estimate(replace(log, shadows=shadows), columns(strong), "grade")
    assert "no support" in capped.refusal


def test_a_later_turn_counts_only_where_the_log_went_the_same_way() -> None:
    # Two turns of one conversation each: the first is drawn, the second stays with its model, and
    # is good only after a good first one. The second's own propensity is 1.
    n = 2000
    rng = np.random.default_rng(0)
    strong = np.repeat(rng.random(n) < 0.2, 2)
    first = np.tile([True, False], n)
    _, like = logged(2 * n, 0.5, turns=1.0)
    p = np.where(first, 0.2, strong)
    log = replace(
        like,
        conversation=np.repeat(np.arange(n), 2),
        probabilities=np.c_[1.0 - p, p],
        sent=replace(
            like.sent,
            model=strong.astype(int),
            grade=np.where(first, 0.5, np.where(strong, 0.9, 0.3)),
        ),
    )
    found = estimate(log, columns(np.ones(2 * n, dtype=bool)), "grade").interval(0.95)
    assert found.low <= 0.7 <= found.high
    assert found.high - found.low < 0.05


def test_what_the_outcome_model_alone_says_makes_the_interval_wider() -> None:
    _, log = logged(3000, 0.0)
    target = log.probabilities.copy()
    moved = np.flatnonzero(target[:, 0] == 1.0)[: len(log) // 40]  # 2.5 % of the requests
    target[moved] = [0.0, 1.0]
    found = estimate(log, target, "grade").interval(0.95)
    same = estimate(log, log.probabilities, "grade").interval(0.95)
    assert not found.refusal
    assert found.high - found.low > same.high - same.low + 0.01


def test_few_grades_refuse_the_quality_and_not_the_dollars() -> None:
    _, log = logged(2000, 0.4, graded=0.01, shadow=0.2)
    [found] = replay(log, ["threshold:0.4"], PRICES, pair=PAIR)
    assert "grades" in found.estimates["quality"].refusal
    assert not found.estimates["cost_usd"].refusal


def test_differences_are_of_the_same_requests() -> None:
    _, log = logged(2000, 0.5, shadow=0.2)
    first, other = replay(log, ["threshold:0.6", "threshold:0.5"], PRICES, pair=PAIR)
    assert not first.differences
    wide = other.estimates["quality"].high - other.estimates["quality"].low
    gain = other.differences["quality"]
    assert gain.high - gain.low < wide
    assert gain.value == pytest.approx(
        other.estimates["quality"].value - first.estimates["quality"].value
    )


def test_a_conversation_stays_with_its_model_as_in_the_gateway() -> None:
    _, log = logged(500, 0.5)
    alone = target_of("threshold:0.5", log, PAIR, margin=None)
    sticky = target_of("threshold:0.5", log, PAIR)
    later = log.previous >= 0

    def switches(target: np.ndarray) -> float:
        return float((target[later, 1] != target[log.previous[later], 1]).mean())

    assert switches(sticky) < 0.8 * switches(alone)
    short = replace(log, characters=np.full(len(log), 10.0))
    assert switches(target_of("threshold:0.5", short, PAIR)) == 0.0


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("always:gpt-9", "no model 'gpt-9'"),
        ("random:2", "0..1"),
        ("threshold:x", "0..1"),
        ("nonsense", "unknown"),
    ],
)
def test_policies_that_cannot_be_read(policy: str, said: str) -> None:
    _, log = logged(20, 0.5)
    with pytest.raises(InvalidInputError, match=said):
        target_of(policy, log, PAIR)


def test_a_propensity_of_zero_is_refused() -> None:
    _, log = logged(20, 0.5)
    with pytest.raises(InvalidInputError, match="propensity 0"):
        replace(log, probabilities=np.zeros_like(log.probabilities))


def test_replay_of_a_journal(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/journal.db"
    engine = open_journal(url)
    rng = np.random.default_rng(5)
    traffic = draw(800, rng)
    write_prices(engine)
    write_traffic(engine, traffic, traffic.log(rng, explored=0.3, shadow=0.2), start=1000.0)
    log = read_log(engine)
    assert read_pair(engine) == PAIR
    np.testing.assert_allclose(read_prices(engine, log.models), PRICES[[1, 0]])  # by name
    engine.dispose()
    assert len(log) == len(traffic.turn)

    ran = fastroute("replay", "--journal", url, "--policy", "logged", "--policy",
                    "threshold:0.4", "--json")  # fmt: skip
    assert ran.status == 0, ran.err
    strong = traffic.sides(0.4)
    truth = traffic.outcome(strong)
    _, policy = ran.json["policies"]
    quality, cost = policy["estimates"]["quality"], policy["estimates"]["cost_usd"]
    assert quality["low"] - 0.02 <= truth["grade"] <= quality["high"] + 0.02
    assert cost["low"] * 0.97 <= truth["cost_usd"] <= cost["high"] * 1.03
    assert policy["shares"]["strong"] == pytest.approx(strong.mean())
    shown = fastroute("replay", "--journal", url, "--policy", "always:strong")
    assert shown.status == 0
    assert "always:strong" in shown.out
    assert "effective conversations" in shown.out
    pair = fastroute("replay", "--journal", url, "--policy", "logged", "--policy", "threshold:0.4")
    assert "  against logged: " in pair.out
    without = fastroute("replay", "--journal", url, "--policy", "mf=/nowhere")
    assert without.status == 2


def test_replay_without_support_says_so(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/journal.db"
    engine = open_journal(url)
    rng = np.random.default_rng(5)
    traffic = draw(200, rng)
    write_prices(engine)
    write_traffic(engine, traffic, traffic.log(rng))
    engine.dispose()
    ran = fastroute("replay", "--journal", url, "--policy", "always:strong")
    assert ran.status == 3
    assert "no support" in ran.out


def test_scores_and_comparisons_are_not_mixed(tmp_path: Path) -> None:
    """Both models are equally good: users score nine of ten answers 1, a judge calls all pairs a
    tie."""
    url = f"sqlite:///{tmp_path}/journal.db"
    engine = open_journal(url)
    write_prices(engine)
    names = [f"r{i}" for i in range(600)]
    requests = [
        {"request_id": name, "time": float(i), "path": "/", "prompt": f"prompt {i}",
         "chosen": "weak", "answered_by": "weak", "probabilities": {"weak": 1.0},
         "propensity": 1.0, "win_rate": 0.3, "prompt_characters": 9, "input_tokens": 10,
         "output_tokens": 10, "cost_usd": 1e-4, "latency_ms": 100.0}
        for i, name in enumerate(names)
    ]  # fmt: skip
    scores = [
        {"request_id": name, "source": "user", "idempotency_key": "", "time": float(i),
         "score": float(i % 10 > 0)}
        for i, name in enumerate(names)
    ]  # fmt: skip
    asked = [
        {"request_id": name, "model": "strong", "time": float(i), "weight": 2.0,
         "output_tokens": 10, "cost_usd": 1e-3, "latency_ms": 100.0}
        for i, name in enumerate(names[::2])
    ]  # fmt: skip
    ties = [
        {"request_id": name, "judge": "j", "model_a": "weak", "model_b": "strong", "time": float(i),
         "winner": "tie"}
        for i, name in enumerate(names[::2])
    ]  # fmt: skip
    tables = ((REQUESTS, requests), (FEEDBACK, scores), (SHADOWS, asked), (JUDGEMENTS, ties))
    with writing(engine) as connection:
        for table, rows in tables:
            connection.execute(insert(table), rows)
    export, _, _ = export_journal(engine)
    engine.dispose()
    assert (export.grades == 0.5).all()
    assert any("600 grades by scores are left out" in line for line in export.understood)
    ran = fastroute("replay", "--journal", url, "--policy", "logged", "--policy", "always:strong",
                    "--json")  # fmt: skip
    assert ran.status == 0, ran.err
    for policy in ran.json["policies"]:
        assert policy["estimates"]["quality"]["value"] == pytest.approx(0.5)
    assert "600 grades by scores are left out" in ran.json["left_out"]
    shown = fastroute("replay", "--journal", url, "--policy", "logged")
    assert "600 grades by scores are left out" in shown.out
