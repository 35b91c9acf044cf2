"""Judged difficulty by a real server in another process: pairs, ratings, failures, resuming."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reference
from cli_runner import fastroute, wait_for
from fakes import openai_judge, planned
from fastroute.errors import InvalidInputError
from fastroute.http import Endpoint
from fastroute.training import DifficultyJudge, DifficultyReport, rate_difficulty
from fastroute.training.label.chat_model import ChatModel
from fastroute.training.label.difficulty import PROMPT
from fastroute.training.label.journal import Journal
from fastroute.training.label.pairing import MOST_PROMPTS, Outcome, pairs_of_round, rate
from fastroute.training.measures import rank_correlation

PROVIDER = openai_judge


def _prompts(count: int, seed: int = 0) -> list[str]:
    """Prompts of a hardness each, in random order."""
    order = np.random.default_rng(seed).permutation(count).tolist()
    return [f"A request of hardness {i}, please." for i in order]


def _hardness(prompt: str) -> int:
    return int("".join(filter(str.isdigit, prompt)))


def _judge(
    server: planned.View,
    prompts: list[str],
    journal: Path,
    *,
    concurrency: int = 4,
    retries: int = 0,
    timeout_s: float = 20.0,
    **changes: Any,
) -> DifficultyReport:
    endpoint = Endpoint(
        server.base_url, max_retries=retries, timeout_s=timeout_s, retry_cut_answers=True
    )
    with Journal(journal) as kept:
        rater = DifficultyJudge(ChatModel("judge", endpoint), journal=kept, **changes)
        (estimate,) = rater.estimates(prompts)
        report = rater.run(prompts, concurrency=concurrency)
        assert report.missing or estimate.questions == report.judged.answered
        return report


# Ratings and pairs


@given(
    outcomes=st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 5), st.sampled_from([0.0, 0.5, 1.0])).filter(
            lambda outcome: outcome[0] != outcome[1]
        ),
        min_size=1,
        max_size=20,
    )
)
def test_ratings_and_errors_are_the_references(outcomes: list[tuple[int, int, float]]) -> None:
    found = rate([Outcome(*outcome) for outcome in outcomes], 6)
    ratings, errors = reference.difficulty_ratings(outcomes, 6, ridge=0.25)
    np.testing.assert_allclose(found.difficulty, ratings, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.standard_error, errors, rtol=0, atol=1e-6)
    counts = Counter(number for a, b, _ in outcomes for number in (a, b))
    assert found.judgements.tolist() == [counts[i] for i in range(6)]
    assert 0.0 <= found.reliability <= 1.0


def test_the_standard_error_is_the_spread_over_repetitions() -> None:
    # Where the truth is drawn from the prior. Laplace's approximation is a little too narrow.
    rng = np.random.default_rng(3)
    misses = []
    for _ in range(40):
        truth = rng.normal(0.0, 2.0, size=30)  # a ridge of 1/4 is a standard deviation of 2
        outcomes = []
        for a, b in (
            (i, j) for i in range(30) for j in rng.permutation(30)[:10].tolist() if i != j
        ):
            harder = float(rng.random() < 1.0 / (1.0 + math.exp(truth[a] - truth[b])))
            outcomes.append(Outcome(a, b, harder))
        found = rate(outcomes, 30)
        wanted = 1000.0 + 400.0 / math.log(10.0) * (truth - truth.mean())
        misses.append((found.difficulty - wanted) / found.standard_error)
    assert 0.95 < float(np.std(np.concatenate(misses))) < 1.15


@pytest.mark.parametrize("count", [2, 3, 4, 5, 8, 31, 100])
def test_pairs_connect_all_prompts_and_never_repeat(count: int) -> None:
    met: set[tuple[int, int]] = set()
    outcomes: list[Outcome] = []
    for number in range(min(8, count - 1)):
        pairs = pairs_of_round(number, outcomes, met, count, seed=7)
        assert pairs == pairs_of_round(number, list(outcomes), set(met), count, seed=7)
        in_round = Counter(i for pair in pairs for i in pair)
        assert max(in_round.values(), default=0) <= 1
        if number < 2:
            assert len(in_round) >= count - count % 2 - (count == 2)
        fresh = {(min(pair), max(pair)) for pair in pairs}
        assert not fresh & met
        met |= fresh
        outcomes += [Outcome(a, b, float(b > a)) for a, b in pairs]
        if number == min(1, count - 2):
            reached = {0}
            for _ in range(count):
                reached |= {i for pair in met if reached & {*pair} for i in pair}
            assert reached == {*range(count)}, "the graph is not connected"
    other = pairs_of_round(0, [], set(), count, seed=8)
    assert count < 8 or other != pairs_of_round(0, [], set(), count, seed=7)


def test_later_pairs_are_more_informative_than_random_ones() -> None:
    # Neighbours by rating are compared: their true gap is far below that of a random pair.
    count, met, outcomes = 200, set[tuple[int, int]](), list[Outcome]()
    for number in range(8):
        pairs = pairs_of_round(number, outcomes, met, count, seed=1)
        met |= {(min(pair), max(pair)) for pair in pairs}
        outcomes += [Outcome(a, b, float(b > a)) for a, b in pairs]
    gaps = [abs(a - b) for a, b in pairs]
    assert float(np.mean(gaps)) < count / 5, "a random pair is count / 3 apart"


# The judge


def test_ratings_follow_the_judge(server: planned.View, tmp_path: Path) -> None:
    prompts = _prompts(40)
    report = _judge(server, prompts, tmp_path / "j", rounds=6)
    hardness = np.array([_hardness(prompt) for prompt in prompts], dtype=np.float64)
    assert rank_correlation(report.ratings.difficulty, hardness) > 0.9
    assert len(server.requests()) == 40 * 6
    assert (report.agreed, report.disagreed, report.rounds) == (120, 0, 6)
    assert report.ratings.judgements.tolist() == [6] * 40
    assert report.ratings.reliability > 0.6
    # Each pair is asked in both orders, and never twice.
    asked = Counter(r["messages"][0]["content"] for r in server.requests())
    assert set(asked.values()) == {1}
    rows = report.rows("mine")
    assert rows[0].keys() == {"dataset", "prompt", "difficulty", "standard_error", "judgements"}
    # More rounds go on where these ended.
    _judge(server, prompts, tmp_path / "j", rounds=8)
    assert len(server.requests()) == 40 * 8


def test_a_judge_that_prefers_the_first_shown_says_nothing(
    server: planned.View, tmp_path: Path
) -> None:
    report = _judge(server, [f"{p} BIASED" for p in _prompts(10)], tmp_path / "j")
    assert (report.agreed, report.first_twice) == (0, report.disagreed)
    assert report.ratings.difficulty == pytest.approx(np.full(10, 1000.0))
    assert report.ratings.reliability == pytest.approx(0.0, abs=1e-9)


def test_what_can_not_be_read_is_counted_and_left_out(server: planned.View, tmp_path: Path) -> None:
    prompts = ["MUMBLE of hardness 3", *_prompts(9)]
    report = _judge(server, prompts, tmp_path / "j", rounds=3)
    assert report.unparseable == 2 * 3
    assert "hard to tell" in report.unparseable_examples[0]
    assert report.ratings.judgements[0] == 0
    assert prompts[0] not in {row["prompt"] for row in report.rows("mine")}
    assert report.missing == 0


def test_repeated_and_long_prompts(server: planned.View, tmp_path: Path) -> None:
    long = "BEGIN of hardness 7 " + "x" * 5000 + " END"
    prompts = [*_prompts(5), long, f" {_prompts(5)[0]}\n"]
    report = _judge(server, prompts, tmp_path / "j", rounds=2, longest=200)
    assert (len(report.prompts), report.repeated, report.shortened) == (6, 1, 1)
    asked = [r["messages"][0]["content"] for r in server.requests()]
    assert max(map(len, asked)) < len(PROMPT) + 400
    seen = next(text for text in asked if "BEGIN" in text)
    assert " END\n</request" in seen
    assert "characters left out ...]" in seen
    assert long in {row["prompt"] for row in report.rows("mine")}


def test_failures_end_the_round_and_are_asked_again(server: planned.View, tmp_path: Path) -> None:
    prompts = _prompts(12)
    server.plan(
        {"kind": "stall", "seconds": 3},  # late: it may be paid for, so it is not asked twice
        {"kind": "garbage", "raw": "no JSON"},
        {"kind": "status", "status": 500},
    )
    report = _judge(server, prompts, tmp_path / "j", concurrency=1, timeout_s=1.0)
    assert (report.missing, report.rounds) == (3, 0)
    assert len(server.requests()) == 12, "a second round was begun on half of the first"
    assert len(report.outcomes) == 4
    again = _judge(server, prompts, tmp_path / "j")
    assert again.missing == 0
    assert len(server.requests()) == 12 + 3 + 5 * 12
    clean = _judge(server, prompts, tmp_path / "other")
    assert again.outcomes == clean.outcomes, "a failure changed the pairs"


def test_the_facade(server: planned.View, tmp_path: Path) -> None:
    judge = ChatModel("judge", Endpoint(server.base_url))
    report = rate_difficulty(_prompts(6), judge, journal=tmp_path / "j", rounds=2)
    assert len(server.requests()) == 12
    assert len(report.rows("mine")) == 6


@pytest.mark.parametrize(
    ("prompts", "changes", "message"),
    [
        (["one"], {}, "there are 1 prompts; give at least two"),
        (["one", " one "], {}, "there are 1 prompts"),
        (["one", " "], {}, "a prompt is blank"),
        ([str(i) for i in range(MOST_PROMPTS + 1)], {}, "--sample"),
        (["one", "two"], {"rounds": 1}, "rounds must be at least 2"),
        (["one", "two"], {"longest": 99}, "longest must be at least 100"),
        (["one", "two"], {"seed": -1}, "seed must be at least 0"),
        (["one", "two"], {"template": "{first}"}, r"has \{second\} 0 times"),
    ],
)
def test_what_is_refused(
    prompts: list[str], changes: Any, message: str, server: planned.View, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        _judge(server, prompts, tmp_path / "j", **changes)
    assert not server.requests()


# The command


def _write(path: Path, count: int) -> Path:
    path.write_text("".join(prompt + "\n" for prompt in _prompts(count)))
    return path


def _arguments(server: planned.View | planned.Server, data: Path, output: Path) -> list[str]:
    return [
        *("augment", "difficulty", "--data", str(data), "--output", str(output)),
        *("--judge-model", "judge", "--judge-base-url", server.base_url),
    ]


def test_the_command_shows_the_cost_and_writes_ratings(
    server: planned.View, tmp_path: Path
) -> None:
    data, output = _write(tmp_path / "mine.txt", 20), tmp_path / "difficulty.jsonl"
    arguments = [*_arguments(server, data, output), "--judge-price", "2", "10"]
    ran = fastroute(*arguments)
    assert ran.status == 2
    assert "judge: 120 questions, about" in ran.err
    assert "--yes" in ran.err
    assert not server.requests(), "asked without consent"
    # About 230 tokens in at $2, at most 256 out at $10 a million.
    shown = float(ran.err.split("at most about $")[1].split()[0])
    assert 120 * (200 * 2 + 256 * 10) / 1e6 < shown < 120 * (300 * 2 + 256 * 10) / 1e6
    ran = fastroute(*arguments, "--yes")
    assert ran.status == 0, ran.err
    assert "120 answered now, 0 were in the journal" in ran.out
    assert "orders agreed on 60 of 60 pairs" in ran.out
    assert "rank correlation with the prompt's length" in ran.out
    assert f"fastroute train mf --data {output}" in ran.out
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert len(rows) == 20
    assert {row["dataset"] for row in rows} == {"mine"}
    ranked = sorted(rows, key=lambda row: row["difficulty"])
    assert _hardness(ranked[0]["prompt"]) < 5
    assert _hardness(ranked[-1]["prompt"]) > 14
    ran = fastroute(*arguments, "--json")  # nothing is left to ask, so there is nothing to agree to
    assert ran.status == 0, ran.err
    assert ran.json["judge"]["in_journal"] == 120
    assert ran.json["rounds"] == 6
    assert len(server.requests()) == 120
    # More rounds: only the new ones are paid for, and shown before.
    ran = fastroute(*arguments, "--rounds", "7")
    assert "20 questions (120 more are in the journal)" in ran.err
    fresh = ["--journal", str(tmp_path / "j"), "--sample", "4", "--rounds", "2"]
    assert "judge: 8 questions, about" in fastroute(*arguments, *fresh).err


def test_a_judge_without_an_opinion_is_a_warning(server: planned.View, tmp_path: Path) -> None:
    data, output = tmp_path / "p.txt", tmp_path / "d.jsonl"
    data.write_text("".join(f"{prompt} BIASED\n" for prompt in _prompts(8)))
    ran = fastroute(*_arguments(server, data, output), "--yes", "--rounds", "2")
    assert ran.status == 0
    assert "warning: the reliability, 0.00, is below 0.5" in ran.err
    assert "the prompt shown first was preferred both times" in ran.out


def test_a_provider_that_fails_is_an_exit_status(server: planned.View, tmp_path: Path) -> None:
    data, output = _write(tmp_path / "p.txt", 6), tmp_path / "d.jsonl"
    server.plan(*[{"kind": "status", "status": 401}] * 10)
    for more in ([], ["--json"]):
        ran = fastroute(*_arguments(server, data, output), "--yes", *more)
        assert ran.status == 1
        assert "have no answer; run the same command again" in ran.err
    assert len(server.requests()) <= 20


def test_kill_9_in_the_middle_pays_for_nothing_twice(tmp_path: Path) -> None:
    data, output = _write(tmp_path / "p.txt", 20), tmp_path / "d.jsonl"
    with openai_judge.start(seconds=0.05) as server:
        command = [*_arguments(server, data, output), "--yes", "--concurrency", "3"]
        process = subprocess.Popen(
            [sys.executable, "-m", "fastroute", *command], stderr=subprocess.DEVNULL
        )
        wait_for(lambda: len(server.requests()) >= 50)  # in an adaptive round
        process.kill()
        assert process.wait(timeout=20) == -signal.SIGKILL
        asked_before = len(server.requests())
        with Journal(f"{output}.journal") as journal:
            kept = len(journal)
        assert asked_before - 3 <= kept <= asked_before < 120, "more than was under way is lost"
        assert not output.exists()
        ran = fastroute(*command)
        assert ran.status == 0, ran.err
        assert len(server.requests()) - asked_before == 120 - kept
        again = tmp_path / "again.jsonl"
        assert fastroute(*_arguments(server, data, again), "--yes").status == 0
        assert again.read_bytes() == output.read_bytes(), "the interruption changed the ratings"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--rounds", "1"], "rounds must be at least 2, got 1"),
        (["--sample", "1"], "--sample must be at least 2"),
        (["--seed", "-1"], "--seed must be 0 or more"),
        (["--data", "nowhere.jsonl"], "nowhere.jsonl can't be read"),
        (["--judge-prompt", "nowhere"], "--judge-prompt nowhere can't be read"),
    ],
)
def test_bad_arguments(
    changes: list[str], message: str, server: planned.View, tmp_path: Path
) -> None:
    data = _write(tmp_path / "p.txt", 3)
    ran = fastroute(*_arguments(server, data, tmp_path / "d.jsonl"), *changes)
    assert ran.status == 2
    assert message in ran.err
    assert not server.requests()
