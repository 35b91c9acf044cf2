"""Battles from preferences: winners, how many, in which order, and whether sw_ranking fits."""

from __future__ import annotations

from pathlib import Path

import pytest

import make_battles as made
from default_router.preferences import Judged
from fastroute.data import GradedResult
from fastroute.data.battles import read_battles
from fastroute.routers import SimilarityWeightedRouter
from fastroute.types import Battle
from training_data import embedder, write_preferences

PROMPT = "a prompt of more than 16 characters"


def _graded(scores: dict[str, float], prompt: str = PROMPT) -> GradedResult:
    return GradedResult("f", "d", prompt, scores)


@pytest.mark.parametrize(
    ("x", "y", "winner"),
    [(1.0, 0.0, "x"), (0.2, 0.3, "y"), (1.0, 1.0, "tie"), (0.0, 0.0, "tie (bothbad)")],
)
def test_the_higher_score_wins_whichever_side_it_stands_on(x: float, y: float, winner: str) -> None:
    sides = set()
    for i in range(20):
        (battle,) = made.graded_battles(_graded({"x": x, "y": y}, f"{PROMPT} {i}"))
        won = {"model_a": battle.model_a, "model_b": battle.model_b}.get(battle.winner)
        assert (won or battle.winner) == winner
        sides.add(battle.model_a)
    assert sides == {"x", "y"}


def test_battles_a_prompt_are_bounded_distinct_and_the_same_each_time() -> None:
    row = _graded({f"m{i}": i / 10 for i in range(10)})
    for count in (1, 2, 5, 45, 100):
        drawn = made.graded_battles(row, count)
        assert len(drawn) == min(count, 45)
        assert len({frozenset((b.model_a, b.model_b)) for b in drawn}) == len(drawn)
        assert drawn == made.graded_battles(row, count)
    pairs = [made.graded_battles(_graded(row.scores, f"{PROMPT} {i}"), 1)[0] for i in range(300)]
    assert len({frozenset((b.model_a, b.model_b)) for b in pairs}) > 40


def test_a_model_under_two_names_does_not_fight_itself() -> None:
    two = {"llama3.1-8b": 1.0, "Meta-Llama-3_1-8B-Instruct": 0.0, "other": 0.25}
    (battle,) = made.graded_battles(_graded(two), 5, made.ALIASES)
    assert {battle.model_a, battle.model_b} == {"Meta-Llama-3.1-8B-Instruct", "other"}
    assert getattr(battle, battle.winner) == "Meta-Llama-3.1-8B-Instruct"


@pytest.mark.parametrize(
    ("first_order", "second_order", "winner"),
    [(1.0, 0.0, "y"), (0.0, 1.0, "x"), (0.0, 0.0, "tie"), (1.0, 0.5, "y"), (0.5, 0.5, "tie")],
)
def test_a_judges_two_orders_count_as_one_verdict(
    first_order: float, second_order: float, winner: str
) -> None:
    row = Judged(PROMPT, (("x", "y", first_order), ("y", "x", second_order)))
    (battle,) = made.judged_battles(row)
    won = {"model_a": battle.model_a, "model_b": battle.model_b}.get(battle.winner)
    assert (won or battle.winner) == winner


def test_short_prompts_give_none() -> None:
    short = _graded({"x": 1, "y": 0}, "hi")
    assert made.make_battles([short], [Judged(" hi ", (("x", "y", 1.0),))]) == []


def test_models_that_no_rating_compares_are_left_out() -> None:
    mutual = [Battle(PROMPT, "x", "y", "model_a"), Battle(PROMPT, "x", "y", "model_b")]
    unbeaten = Battle(PROMPT, "champion", "x", "model_a")
    apart = Battle(PROMPT, "p", "q", "tie (bothbad)")
    kept, left_out = made.comparable([*mutual, unbeaten, *mutual, apart, mutual[0]])
    assert kept == [*mutual, *mutual, mutual[0]]
    assert left_out == ["champion", "p", "q"]


def test_the_command_writes_what_sw_ranking_fits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_preferences(tmp_path / "preferences")
    contents = []
    for name in ("one.jsonl", "two.jsonl"):
        assert (
            made.main(["--preferences", str(folder), "--output", str(tmp_path / "out" / name)]) == 0
        )
        contents.append((tmp_path / "out" / name).read_bytes())
    assert contents[0] == contents[1]
    rows = read_battles(tmp_path / "out" / "one.jsonl")
    assert f"wrote {len(rows)} battles of" in capsys.readouterr().out
    assert "chatty" in {b.model_a for b in rows}
    tiny = embedder()
    router = SimilarityWeightedRouter(
        strong_model="model-0-a", weak_model="model-0-b", num_tiers=5, embedder=tiny
    )
    router.fit(
        tiny.embed_batch([b.prompt for b in rows]),
        [b.model_a for b in rows],
        [b.model_b for b in rows],
        [b.winner for b in rows],
    )
    assert 0.0 < router.win_rate("prove the integral") < 1.0


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--preferences", str(tmp_path), "--output", str(tmp_path / "x.jsonl")]
    with pytest.raises(SystemExit, match="2"):
        made.main(arguments)
    assert "can't be read" in capsys.readouterr().err
    write_preferences(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        made.main([*arguments, "--per-prompt", "0"])
    assert "per_prompt must be at least 1, got 0" in capsys.readouterr().err
    assert not (tmp_path / "x.jsonl").exists()
