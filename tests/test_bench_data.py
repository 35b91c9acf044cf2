"""What the benches stand on: their data, their plain NumPy rival, and how figures are judged."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import reference
from data import (
    NUM_MODELS,
    NUM_TIERS,
    SHARE_OF_TIES,
    Battles,
    Size,
    load_prompts,
    make_battles,
    make_prompts,
)
from environment import ONE_THREAD, UNSET, fair_environment
from fastroute.errors import InvalidInputError
from measures.figure import Figure, missed, row
from measures.startup import peak_memory_mb
from rivals import missing_packages, sw_fastroute, sw_numpy
from timing import interleaved_us


@pytest.fixture(scope="module")
def synthetic() -> Battles:
    return make_battles(Size(4000, 96))


def test_battles_are_seeded(synthetic: Battles) -> None:
    again, other = make_battles(Size(4000, 96)), make_battles(Size(4000, 96), seed=1)
    np.testing.assert_array_equal(again.embeddings, synthetic.embeddings)
    np.testing.assert_array_equal(again.queries, synthetic.queries)
    for name in ("model_a", "model_b", "winner"):
        assert getattr(again, name) == getattr(synthetic, name)
        assert getattr(other, name) != getattr(synthetic, name)


def test_battles_have_the_shape_of_real_ones(synthetic: Battles) -> None:
    E, q = synthetic.embeddings, synthetic.queries
    assert E.shape == (4000, 96)
    assert E.dtype == q.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(np.concatenate([E, q]), axis=1), 1.0, atol=1e-6)
    assert len({*synthetic.model_a, *synthetic.model_b}) == NUM_MODELS
    assert all(a != b for a, b in zip(synthetic.model_a, synthetic.model_b, strict=True))
    ties = sum(winner.startswith("tie") for winner in synthetic.winner) / len(synthetic)
    assert abs(ties - SHARE_OF_TIES) < 0.03
    assert set(synthetic.winner) == {"model_a", "model_b", "tie", "tie (bothbad)"}
    cosines = E @ q.T
    assert 0.15 < np.median(cosines) < 0.25
    assert (cosines.max(axis=0) > 0.45).all(), "every query has a topic among the battles"
    assert 0.01 < 1.0 - len(np.unique(E, axis=0)) / len(E) < 0.03, "some prompts were asked twice"


def test_battles_of_many_blocks_are_all_filled() -> None:
    many = make_battles(Size(140_000, 2), queries=3)
    np.testing.assert_allclose(np.linalg.norm(many.embeddings, axis=1), 1.0, atol=1e-6)


def test_sizes() -> None:
    assert Size.parse(" 55000x1536") == Size(55_000, 1536)
    assert str(Size(55_000, 1536)) == "55000x1536"
    for text in ("", "55000", "x1536", "55000x", "-1x5", "999x5", "1000x0", "1e4x5", "1x2x3"):
        with pytest.raises(ValueError, match=re.escape(repr(text))):
            Size.parse(text)


@pytest.mark.parametrize("strict", [False, True])
def test_the_plain_numpy_rival_is_the_formula(synthetic: Battles, strict: bool) -> None:
    router = sw_numpy.fit(synthetic, strict=strict)
    tiers = router.model_tiers
    assert set(tiers.values()) == set(range(NUM_TIERS))
    ours = sw_fastroute.fit(synthetic, strict=strict)
    assert tiers == sw_fastroute.tiers(ours)
    a = np.array([tiers[model] for model in synthetic.model_a])
    b = np.array([tiers[model] for model in synthetic.model_b])
    points = {"model_a": 1, "model_b": -1}
    outcome = np.array([points.get(winner, 0) for winner in synthetic.winner])
    for x in synthetic.queries[:3]:
        weights = reference.battle_weights(reference.similarities(synthetic.embeddings, x))
        ratings = reference.battle_ratings(a, b, outcome, weights, NUM_TIERS, strict=strict)
        wanted = reference.sigmoid(ratings[router.strong] - ratings[router.weak])
        assert abs(sw_numpy.route_embedding(router, x) - wanted) < 1e-7
        assert abs(sw_fastroute.route_embedding(ours, x) - wanted) < 1e-7


@pytest.mark.parametrize("num_tiers", [1, 2, 3, 5, 9])
def test_the_plain_numpy_tiers_cost_least(num_tiers: int) -> None:
    ratings = np.sort(np.random.default_rng(num_tiers).normal(size=9))[::-1]
    tiers = sw_numpy.cut_into_tiers(ratings, num_tiers)
    starts = [int(np.flatnonzero(tiers == tier)[0]) for tier in range(num_tiers)]
    cost = reference.tiers_cost(list(ratings), starts)
    assert cost == pytest.approx(reference.best_tiers_cost(list(ratings), num_tiers), abs=1e-12)


def test_prompts_are_seeded_and_as_long_as_real_ones() -> None:
    prompts = make_prompts(2000)
    assert prompts == make_prompts(2000)
    assert prompts[:10] == make_prompts(10)
    assert prompts != make_prompts(2000, seed=1)
    assert len(set(prompts)) > 1990
    words = np.array([len(prompt.split()) for prompt in prompts])
    # A little over 1.3 WordPiece tokens a word: a median of about 90 tokens.
    assert 62 < np.median(words) < 72
    assert 2.0 < np.quantile(words, 0.9) / np.median(words) < 3.0
    assert load_prompts(None, 5) == make_prompts(5)


def test_prompts_from_a_checkout_of_routellm(tmp_path: Path) -> None:
    folder = tmp_path / "routellm" / "evals" / "mmlu"
    (folder / "responses").mkdir(parents=True)
    columns = "prompt,mistralai/Mixtral-8x7B-Instruct-v0.1,gpt-4-1106-preview\n"
    lines = [f"question {i},True,False\n" for i in range(30)]
    (folder / "responses" / "mmlu_x.csv").write_text(columns + "".join(lines))
    dropped = json.dumps({"eval_prompt": "question 7"}) + "\n"
    (folder / "contaminated_prompts.jsonl").write_text(dropped)
    prompts = load_prompts(tmp_path)
    assert sorted(prompts) == sorted(f"question {i}" for i in range(30) if i != 7)
    assert load_prompts(tmp_path, 4) == prompts[:4] != sorted(prompts)[:4]
    with pytest.raises(InvalidInputError, match="RouteLLM"):
        load_prompts(tmp_path / "nowhere")


def test_figures_are_judged_by_their_targets() -> None:
    figures = [
        Figure("speed", "at least", 10.0, 12.5, "times", "so"),
        Figure("slowness", "at least", 10.0, 9.9, "times", "so"),
        Figure("error", "at most", 1e-8, 2.5e-9, "", "so"),
        Figure("differing", "at most", 0, 3, "", "so"),
        Figure("the same", "at most", 0, 0, "", "so"),
        Figure("absent", "at least", 10.0, None, "times", "not installed"),
        Figure("memory", "at most", None, 61.23, "MB", "so"),
        Figure("not a number", "at most", 1.0, float("nan"), "", "so"),
    ]
    assert missed(figures) == ["slowness", "differing", "not a number"]
    assert [row(figure) for figure in figures[:7]] == [
        "| speed | at least 10x | 12.5x | 1.25, met | so |",
        "| slowness | at least 10x | 9.9x | 0.99, **missed** | so |",
        "| error | at most 1e-8 | 2.5e-9 | 0.25, met | so |",
        "| differing | at most 0 | 3 | **missed** | so |",
        "| the same | at most 0 | 0 | met | so |",
        "| absent | at least 10x | not measured |  | not installed |",
        "| memory |  | 61.2 MB |  | so |",
    ]


def test_a_fair_environment() -> None:
    base = {"PATH": "/bin", "OMP_NUM_THREADS": "8"} | dict.fromkeys(UNSET, "Haswell")
    fair = fair_environment(base)
    assert fair == {"PATH": "/bin"} | dict.fromkeys(ONE_THREAD, "1")
    assert fair_environment(fair) == fair


def test_functions_take_turns_on_every_item() -> None:
    calls: list[tuple[str, int]] = []
    times = interleaved_us(
        {"a": lambda i: calls.append(("a", i)), "b": lambda i: calls.append(("b", i))},
        range(10),
        rounds=2,
    )
    assert [item for _, item in calls] == [i for _ in range(2) for i in range(10) for _ in range(2)]
    pairs = [calls[i : i + 2] for i in range(0, len(calls), 2)]
    assert all({name for name, _ in pair} == {"a", "b"} for pair in pairs)
    assert {pair[0][0] for pair in pairs} == {"a", "b"}, "each goes first at times"
    assert all((taken > 0).all() and np.isfinite(taken).all() for taken in times.values())


def test_peak_memory_is_the_childs_own() -> None:
    ours = np.ones(400_000_000, dtype=np.uint8)
    small = peak_memory_mb([sys.executable, "-c", "pass"])
    assert ours[-1] == 1, "held until here"
    assert 1.0 < small < 100.0
    large = peak_memory_mb([sys.executable, "-c", "b'x' * 200_000_000"])
    assert large > small + 150.0


def test_a_rival_that_is_not_installed_says_how() -> None:
    assert missing_packages("numpy", "json") is None
    why = missing_packages("numpy", "no_such_rival")
    assert why is not None
    assert why.startswith("no_such_rival not installed: pip install")
    files = re.findall(r"-r (\S+)", why)
    assert len(files) == 2
    assert all((Path(__file__).parents[1] / file).is_file() for file in files)
