"""The comparison of recipes: what it scores, and that transfer never sees the file it scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from default_router.comparison import compare
from default_router.gold import train_gold
from default_router.preferences import read_preferences
from fastroute.data import GradedResult
from fastroute.evaluation.benchmarks.routellm import ROUTELLM_PAIR, Benchmark
from fastroute.training.measures import apgr_by_file, arenas, correlation_by_file
from fastroute.training.recipe import Recipe, weights_of
from training_data import embedder, prompts, write_preferences


@pytest.fixture
def rows(tmp_path: Path) -> list[GradedResult]:
    return read_preferences(write_preferences(tmp_path, per_file=400))


def test_only_useful_pairs_are_arenas() -> None:
    def dataset(name: str, count: int, strong: float, weak: float) -> list[GradedResult]:
        return [
            GradedResult(
                "f.gz",
                name,
                f"{name} {i}",
                {"s": float(i < strong * count), "w": float(i < weak * count)},
            )
            for i in range(count)
        ]

    made = [
        *dataset("useful", 200, 0.8, 0.5),
        *dataset("few", 100, 0.8, 0.5),
        *dataset("hard", 200, 0.6, 0.1),
        *dataset("level", 200, 0.8, 0.78),
    ]
    (arena,) = arenas(made)
    assert {made[i].dataset for i in arena.rows} == {"useful"}
    assert (arena.strong.mean(), arena.weak.mean()) == (0.8, 0.5)
    oracle = np.zeros(len(made))
    oracle[arena.rows] = arena.strong - arena.weak
    assert apgr_by_file(oracle, [arena])["f.gz"] > 0.8
    oracle[arena.rows[0]] = np.nan
    assert apgr_by_file(oracle, [arena]) == {}


def test_correlation_is_spearmans() -> None:
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    made = [GradedResult("f", "d", str(i), {"a": 1, "b": 0}) for i in range(160)]
    rates, wanted = rng.random(160), rng.integers(0, 4, size=160) / 4
    got = correlation_by_file(rates, made, wanted)["f"]
    assert got == pytest.approx(spearmanr(rates, wanted).statistic, abs=1e-12)


def test_transfer_does_not_see_the_file_that_it_scores(rows: list[GradedResult]) -> None:
    X = embedder().embed_batch([row.prompt for row in rows])
    file = rows[0].file
    # The labels of one file turned round: its own transfer figure only changes its sign.
    turned = [
        GradedResult(r.file, r.dataset, r.prompt, {m: 1 - s for m, s in r.scores.items()})
        if r.file == file
        else r
        for r in rows
    ]
    recipe = Recipe(ridge=1.0)
    before, after = compare(rows, X, recipe), compare(turned, X, recipe)
    assert before.transfer_by_file[file] > 0.2
    assert after.transfer_by_file[file] == pytest.approx(-before.transfer_by_file[file], abs=0.02)


def test_files_can_count_the_same(rows: list[GradedResult]) -> None:
    part = rows[: 400 + 100]
    weights = weights_of(part, "files")
    assert weights.mean() == pytest.approx(1.0)
    assert weights[:400].sum() == pytest.approx(weights[400:].sum())
    assert set(weights_of(part, "rows")) == {1.0}


def test_gold_labels_are_learnt() -> None:
    texts = prompts(800, seed=123)
    right = np.array([float("prove" in text) for text in texts])  # the weak model is right on these
    gold = Benchmark("gold", tuple(texts), right, np.ones(800), ROUTELLM_PAIR, tuple(texts))
    router = train_gold(gold, embedder())
    fresh = prompts(300, seed=321)
    rates = router.win_rates(fresh)
    hard = np.array(["prove" in text for text in fresh])
    assert rates[hard].mean() < rates[~hard].mean() - 0.1
    assert router.provenance.trained_on is not None
    assert len(router.provenance.trained_on) == len(set(texts))
    assert router.provenance.calibration is not None
    assert router.provenance.calibration.shape == (1001,)
