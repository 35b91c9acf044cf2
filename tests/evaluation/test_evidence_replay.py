"""Recorded answers read and joined, and a cascade replayed on them, against figures by hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastroute.errors import InvalidInputError
from fastroute.evaluation.benchmarks.answers import RecordedAnswers, read_answers
from fastroute.evaluation.evidence_replay import AGREEMENT, LEARNED, LEARNED_ANY, Replay, replay

N = 400


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def made(seed: int = 0, n: int = N) -> list[dict[str, Any]]:
    """Questions with a true number; three cheap models that are right in 60 % and wrong each in
    its own way, and a strong one that is right in 90 %."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        truth, answers, scores = int(rng.integers(10, 99)), {}, {}
        for k, (name, p) in enumerate([("weak", 0.6), ("h1", 0.6), ("h2", 0.6), ("strong", 0.9)]):
            right = bool(rng.random() < p)
            number = truth if right else 1000 * (k + 1) + int(rng.integers(100))
            answers[name] = f"So it is {number}.\n#### {number}"
            scores[name] = float(right)
        latency = {name: 1.0 + k for k, name in enumerate(answers)}
        rows.append(
            {
                "prompt": f"How many are there in case {i}?",
                "answers": answers,
                "scores": scores,
                "tokens": {name: [1000, 100] for name in answers},
                "latency_s": latency,
            }
        )
    return rows


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> RecordedAnswers:
    return read_answers([write_rows(tmp_path_factory.mktemp("answers") / "a.jsonl", made())])


def policy(result: Replay, name: str) -> Any:
    return next(p for p in result.policies if p.name == name)


def test_the_two_layouts_are_joined_by_question(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "m/weak", "strong", "m/weak_response", "strong_response"])
        writer.writerow(["How  many?", "True", "False", "#### 1", "#### 2"])
        writer.writerow(["Only here?", "True", "True", "#### 1", "#### 2"])
    rows = [
        {
            "prompt": "## Question: How many?",
            "question": " How many? ",
            "answers": {"h": "1"},
            "scores": {"h": 1},
        }
    ]
    read = read_answers([table, write_rows(tmp_path / "helpers.jsonl", rows)])
    assert read.prompts == ("How  many?",)
    assert read.models == ("m/weak", "strong", "h")
    assert [read.scores[m][0] for m in read.models] == [1.0, 0.0, 1.0]
    assert read.answers["h"][0].text == "1"
    assert read.dropped == 1
    assert read.estimated_tokens
    assert read.latency_s == {}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"answers": {"a": "1"}, "scores": {"a": 1}}, "line 1: prompt is missing"),
        ({"prompt": "?"}, "NAME_response"),
        ({"prompt": "?", "answers": ["1"]}, "answers must be a dict"),
        ({"prompt": "?", "answers": {"a": 1}, "scores": {"a": 1}}, "answer of 'a' must be text"),
        ({"prompt": "?", "answers": {"a": "1"}, "scores": {"a": "good"}}, "finite number"),
        ({"prompt": "?", "answers": {"a": "1"}, "scores": {"b": 1}}, "no model has an answer"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        read_answers([write_rows(tmp_path / "a.jsonl", [row])])


@pytest.mark.parametrize(
    "change",
    [
        {"tokens": {"a": [-5, 3]}},
        {"tokens": {"a": [float("nan"), 3]}},
        {"tokens": {"a": [None, 3]}},
        {"latency_s": {"a": -1}},
        {"scores": {"a": 10**400}},
        {"answers": '{"a":' * 100_000},
    ],
)
def test_hostile_numbers_are_named(tmp_path: Path, change: dict[str, Any]) -> None:
    row = {"prompt": "How many?", "answers": {"a": "1"}, "scores": {"a": 1}, **change}
    path = tmp_path / "answers.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(InvalidInputError, match="line 1"):
        read_answers([path])


def test_files_without_a_common_question(tmp_path: Path) -> None:
    row = {"answers": {"a": "1"}, "scores": {"a": 1}}
    first = write_rows(tmp_path / "a.jsonl", [{"prompt": "x", **row}])
    other = write_rows(tmp_path / "b.jsonl", [{"prompt": "y", **row}])
    with pytest.raises(InvalidInputError, match="no question is in every file"):
        read_answers([first, other])
    with pytest.raises(InvalidInputError, match="paths is empty"):
        read_answers([])


def test_agreement_against_figures_by_hand(recorded: RecordedAnswers) -> None:
    prices = {"weak": (1.0, 1.0), "h1": (1.0, 1.0), "strong": (10.0, 10.0)}
    result = replay(recorded, weak="weak", strong="strong", helpers=["h1"], prices=prices)
    w, h, s = (recorded.scores[m] for m in ("weak", "h1", "strong"))
    agree = (w == 1) & (h == 1)  # wrong answers never agree
    rule = policy(result, AGREEMENT)
    assert result.outcomes == {
        "agree": agree.sum(), "disagree": (~agree).sum(), "incomparable": 0,
    }  # fmt: skip
    assert rule.quality == pytest.approx(np.where(agree, w, s).mean())
    assert rule.strong_share == pytest.approx((~agree).mean())
    assert rule.usd == pytest.approx((2 * 1100 + (~agree).mean() * 11000) / 1e6)
    # Two groups: those who disagree come first, then the others; straight lines between.
    d = (~agree).mean()
    area = (w.mean() + np.where(agree, w, s).mean()) / 2 * d
    area += (np.where(agree, w, s).mean() + s.mean()) / 2 * (1 - d)
    assert rule.apgr.value == pytest.approx((area - w.mean()) / (s.mean() - w.mean()))
    assert rule.apgr.low < rule.apgr.value < rule.apgr.high
    # The strong model's quality, on the first line.
    reach = d * (s.mean() - w.mean()) / (np.where(agree, w, s).mean() - w.mean())
    assert rule.parity_share.value == pytest.approx(reach)
    assert rule.parity_cost.value == pytest.approx((2 * 1100 + reach * 11000) / 11000)
    single = policy(result, "weak")
    assert (single.quality, single.usd) == (pytest.approx(w.mean()), pytest.approx(0.0011))
    assert policy(result, "random").apgr.value == pytest.approx(0.5)
    assert policy(result, "oracle").apgr.value > 0.9
    # The pair agrees after 2 s; the strong model's 4 s come after both.
    assert result.median_latency_s == (2.0 if agree.mean() > 0.5 else 6.0)
    assert result.p99_latency_s == 6.0


def test_two_helpers_that_agree_against_the_weak_model_are_heard(recorded: RecordedAnswers) -> None:
    result = replay(recorded, weak="weak", strong="strong", helpers=["h1", "h2"], resamples=0)
    w, a, b, s = (recorded.scores[m] for m in ("weak", "h1", "h2", "strong"))
    votes = w + a + b
    agree = votes >= 2
    rule = policy(result, AGREEMENT)
    assert rule.quality == pytest.approx(np.where(agree, 1.0, s).mean())
    assert rule.apgr.low is None
    learned = policy(result, LEARNED)
    assert learned.apgr.value > 0.9
    assert policy(result, LEARNED_ANY).apgr.value >= learned.apgr.value - 0.05
    assert result.served.startswith("plurality")
    assert result.calibration_error < 0.08


def test_labels_that_say_nothing_learn_nothing(tmp_path: Path) -> None:
    rows = made(3)
    rng = np.random.default_rng(5)
    for row in rows:  # grades that have nothing to do with the answers
        row["scores"] = {
            m: float(rng.random() < (0.9 if m == "strong" else 0.6)) for m in row["scores"]
        }
    read = read_answers([write_rows(tmp_path / "a.jsonl", rows)])
    result = replay(read, weak="weak", strong="strong", helpers=["h1"], resamples=200)
    assert policy(result, LEARNED).apgr.low < 0.5 < policy(result, LEARNED).apgr.high


def test_equal_input_gives_equal_json(recorded: RecordedAnswers) -> None:
    first, second = (
        replay(recorded, weak="weak", strong="strong", helpers=["h1"], resamples=50).to_dict()
        for _ in range(2)
    )
    assert first == second
    assert json.loads(json.dumps(first, allow_nan=False)) == first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weak": "nobody"}, "no answers of 'nobody'"),
        ({"helpers": ["weak"]}, "must be different models"),
        ({"weak": "strong", "strong": "weak"}, "swap"),
        ({"prices": {"weak": (1, 1)}}, "no price for h1, strong"),
        ({"folds": 1}, "folds"),
    ],
)
def test_bad_arguments(recorded: RecordedAnswers, changes: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"weak": "weak", "strong": "strong", "helpers": ["h1"]} | changes
    with pytest.raises(InvalidInputError, match=message):
        replay(recorded, **arguments)
