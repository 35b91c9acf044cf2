"""Heads: what they learn, what they must not learn, and whether held out means held out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastroute.artifacts import prompt_hash
from fastroute.errors import InvalidInputError, InvalidTypeError
from fastroute.evaluation.metrics.calibration_metrics import expected_calibration_error
from fastroute.routers import MatrixFactorizationRouter
from fastroute.training import heads
from fastroute.training.folds import fold_numbers
from fastroute.training.heads import centred, fit_head, ridge_directions, save_mf, train_mf
from training_data import embedder, prompts


def _planted(count: int = 2000, slope: float = 6.0, seed: int = 1) -> tuple[list[str], Any, Any]:
    """Prompts, win rates drawn as 0 or 1, and the probabilities that they were drawn with."""
    texts = prompts(count, seed)
    X = embedder().embed_batch(texts).astype(np.float64)
    direction = np.random.default_rng(8).normal(size=X.shape[1])
    direction[0] = 0.0
    z = slope * (X @ direction) / np.linalg.norm(direction) + 0.5
    p = 1 / (1 + np.exp(-z))
    drawn = (np.random.default_rng(seed).random(count) < p).astype(np.float64)
    return texts, drawn, p


def _rank_correlation(a: Any, b: Any) -> float:
    return float(np.corrcoef(np.argsort(np.argsort(a)), np.argsort(np.argsort(b)))[0, 1])


def test_a_planted_direction_is_learnt() -> None:
    texts, drawn, _ = _planted()
    router = train_mf(texts, drawn, embedder=embedder())
    fresh, _, p = _planted(1000, seed=2)
    rates = router.win_rates(fresh)
    assert _rank_correlation(rates, p) > 0.95
    assert np.abs(rates - p).mean() < 0.05  # and it is a probability, level and all
    assert abs(rates.mean() - p.mean()) < 0.03


def test_a_router_knows_its_training_and_its_calibration() -> None:
    texts, drawn, _ = _planted(400)
    router = train_mf([*texts, texts[0]], np.append(drawn, 0.5), embedder=embedder())
    assert router.provenance.trained_on is not None
    assert router.provenance.trained_on.dtype == np.uint64
    assert list(router.provenance.trained_on) == sorted({prompt_hash(t) for t in texts})
    assert router.provenance.calibration is not None
    assert (router.provenance.calibration.dtype, router.provenance.calibration.shape) == (
        np.float32,
        (1001,),
    )
    assert (np.diff(router.provenance.calibration) >= 0).all()
    assert 0.0 <= router.provenance.calibration[0] < router.provenance.calibration[-1] <= 1.0


def test_noise_is_learnt_by_heart_but_not_in_the_calibration() -> None:
    """Training predictions of noise spread out; held-out ones, with a slope fitted there, don't."""
    texts = prompts(120, seed=4)
    noise = np.random.default_rng(0).integers(0, 2, size=120).astype(np.float64)
    X = embedder(dimensions=64).embed_batch(texts)
    common: dict[str, Any] = {
        "group_ids": np.zeros(120, dtype=np.int64),
        "weights": np.ones(120),
        "ridge": 1e-3,
    }
    head = fit_head(X, noise, fold_ids=fold_numbers(texts, 5), **common)
    fitted = (
        X.astype(np.float64)
        @ ridge_directions(
            X.astype(np.float64), noise, common["group_ids"], common["weights"], (1e-3,)
        )[0]
    )
    assert np.corrcoef(fitted, noise)[0, 1] > 0.4
    assert np.corrcoef(head.held_out_win_rates, noise)[0, 1] < 0.2


def test_a_held_out_win_rate_does_not_depend_on_its_own_label() -> None:
    texts, drawn, _ = _planted(300)
    X = embedder().embed_batch(texts)
    folds = fold_numbers(texts, 5)
    common: dict[str, Any] = {
        "group_ids": np.zeros(300, dtype=np.int64),
        "weights": np.ones(300),
        "fold_ids": folds,
        "ridge": 1.0,
    }
    before = fit_head(X, drawn, **common)
    changed = drawn.copy()
    mine = np.flatnonzero(folds == 2)
    # Another order of the same labels within the fold: the mean of all stays what it was.
    changed[mine] = changed[mine[::-1]]
    assert (changed != drawn).any()
    after = fit_head(X, changed, **common)
    np.testing.assert_allclose(
        after.held_out_win_rates[mine], before.held_out_win_rates[mine], rtol=1e-9
    )
    others = folds != 2
    assert np.abs(after.held_out_win_rates - before.held_out_win_rates)[others].max() > 1e-4


def test_held_out_win_rates_are_calibrated() -> None:
    texts, drawn, _ = _planted(3000)
    X = embedder().embed_batch(texts)
    head = fit_head(
        X,
        drawn,
        group_ids=np.zeros(3000, dtype=np.int64),
        weights=np.ones(3000),
        fold_ids=fold_numbers(texts, 5),
    )
    assert expected_calibration_error(head.held_out_win_rates, drawn) < 0.03


def test_groups_take_the_source_out_of_the_head() -> None:
    """Two datasets, one all hard and one all easy, told apart by a word; inside, nothing."""
    words = [f"w{i}" for i in range(30)]
    hard = [f"prove {p}" for p in prompts(600, 5, words)]
    easy = [f"hello {p}" for p in prompts(600, 6, words)]
    rng = np.random.default_rng(3)
    targets = np.concatenate([rng.random(600) < 0.9, rng.random(600) < 0.1]).astype(np.float64)
    groups = ["hard"] * 600 + ["easy"] * 600
    pooled = train_mf(hard + easy, targets, embedder=embedder())
    by_group = train_mf(hard + easy, targets, embedder=embedder(), groups=groups)

    def difference(router: MatrixFactorizationRouter) -> float:
        return float(router.win_rates(hard).mean() - router.win_rates(easy).mean())

    assert difference(pooled) > 0.5  # what would be learnt without
    assert abs(difference(by_group)) < 0.05


def test_centring_is_the_weighted_mean_of_each_group() -> None:
    rng = np.random.default_rng(2)
    ids = rng.integers(0, 4, size=50)
    w, X = rng.uniform(0.5, 2, size=50), rng.normal(size=(50, 3))
    got = centred(X, ids, w)
    for g in range(4):
        part = ids == g
        np.testing.assert_allclose(
            got[part], X[part] - np.average(X[part], axis=0, weights=w[part]), atol=1e-12
        )
    np.testing.assert_array_equal(centred(X[:, 0], ids, w), got[:, 0])


def test_ridge_directions_are_the_minimum() -> None:
    """Offsets by group are fitted here as columns of their own, without a penalty."""
    rng = np.random.default_rng(4)
    ids, w = rng.integers(0, 3, size=80), rng.uniform(0.5, 2, size=80)
    X, y = rng.normal(size=(80, 5)), rng.random(80)
    (got,) = ridge_directions(X, y, ids, w, (7.0,))
    design = np.hstack([X, np.eye(3)[ids]])
    penalty = np.diag([7.0] * 5 + [0.0] * 3)
    wanted = np.linalg.solve((design * w[:, None]).T @ design + penalty, design.T @ (w * y))
    np.testing.assert_allclose(got, wanted[:5], atol=1e-10)


@pytest.mark.parametrize("unit", [1.0, 0.03, 100.0])
def test_a_signal_has_the_weight_that_it_is_given_whatever_its_unit(unit: float) -> None:
    rng = np.random.default_rng(5)
    ids, w = rng.integers(0, 3, size=200), np.ones(200)
    X, y = rng.normal(size=(200, 5)), rng.random(200)
    X[:, 4] = 7.0 + unit * rng.normal(size=200)
    (got,) = ridge_directions(X, y, ids, w, (7.0,), 1, 2.0)
    Z = centred(X, ids, w)
    meaning, signal = Z[:, :4] @ got[:4], Z[:, 4] * got[4]
    assert np.sqrt(np.mean(meaning**2)) == pytest.approx(1 / np.sqrt(5))
    assert np.sqrt(np.mean(signal**2)) == pytest.approx(2 / np.sqrt(5))
    assert got[4] > 0
    (alone,) = ridge_directions(X[:, :4], y, ids, w, (7.0,))
    np.testing.assert_allclose(got[:4] / np.linalg.norm(got[:4]), alone / np.linalg.norm(alone))


def test_a_signal_is_learnt_whatever_its_unit_and_a_constant_one_says_nothing() -> None:
    rng = np.random.default_rng(6)
    ids, w = rng.integers(0, 3, size=400), np.ones(400)
    signal = rng.normal(size=400)
    y = 0.5 + 0.1 * signal + 0.01 * rng.normal(size=400)
    X = np.column_stack([rng.normal(size=(400, 3)), signal])
    scaled = X * [1, 1, 1, 0.001]
    (got,) = ridge_directions(X, y, ids, w, (3.0,), 1)
    (small,) = ridge_directions(scaled, y, ids, w, (3.0,), 1)
    assert got[3] == pytest.approx(0.1, rel=0.02)
    np.testing.assert_allclose(scaled @ small, X @ got, atol=1e-12)
    (none,) = ridge_directions(X * [1, 1, 1, 0], y, ids, w, (3.0,), 1)
    assert none[3] == 0.0


def test_weights_count() -> None:
    texts, drawn, _ = _planted(600)
    flipped = np.where(np.arange(600) < 300, drawn, 1 - drawn)
    heavy = np.where(np.arange(600) < 300, 50.0, 1.0)
    first = train_mf(texts[:300], drawn[:300], embedder=embedder(), ridge=1.0)
    both = train_mf(texts, flipped, embedder=embedder(), weights=heavy, ridge=1.0)
    assert _rank_correlation(first.win_rates(texts), both.win_rates(texts)) > 0.9


def test_the_same_input_gives_the_same_router_and_another_seed_other_folds() -> None:
    texts, drawn, _ = _planted(300)
    one, two, other = (train_mf(texts, drawn, embedder=embedder(), seed=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(one.win_rates(texts), two.win_rates(texts))
    np.testing.assert_array_equal(one.provenance.calibration, two.provenance.calibration)
    assert (one.provenance.calibration != other.provenance.calibration).any()


def test_prompts_without_a_token_teach_nothing() -> None:
    texts, drawn, _ = _planted(300)
    with_silent = train_mf([*texts, "???"], np.append(drawn, 1.0), embedder=embedder())
    without = train_mf(texts, drawn, embedder=embedder())
    np.testing.assert_array_equal(with_silent.win_rates(texts), without.win_rates(texts))
    assert prompt_hash("???") in with_silent.provenance.trained_on


def test_prompts_without_any_token_are_the_reason() -> None:
    with pytest.raises(InvalidInputError, match="none of the 40 prompts has a token"):
        train_mf(["???"] * 40, np.full(40, 0.5), embedder=embedder())


def test_a_saved_router_is_the_router(tmp_path: Path) -> None:
    texts, drawn, _ = _planted(300)
    router = train_mf(texts, drawn, embedder=embedder())
    save_mf(tmp_path, router)
    loaded = MatrixFactorizationRouter.load(tmp_path, embedder=embedder())
    np.testing.assert_array_equal(loaded.win_rates(texts), router.win_rates(texts))
    np.testing.assert_array_equal(loaded.provenance.calibration, router.provenance.calibration)
    np.testing.assert_array_equal(loaded.provenance.trained_on, router.provenance.trained_on)
    router.embedder = None
    with pytest.raises(InvalidInputError, match="make it with train_mf"):
        save_mf(tmp_path, router)


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_labels_that_a_line_separates_give_a_finite_head(scale: float) -> None:
    texts, _, p = _planted(300, slope=scale)
    router = train_mf(texts, (p > np.median(p)).astype(np.float64), embedder=embedder())
    assert np.isfinite(router.win_rates(texts)).all()


def test_bad_arguments() -> None:
    texts, drawn, _ = _planted(40)

    def train(prompts: Any = texts, win_rates: Any = drawn, **options: Any) -> None:
        train_mf(prompts, win_rates, embedder=embedder(), **options)

    train()
    cases: list[tuple[dict[str, Any], str]] = [
        ({"win_rates": drawn[:-1]}, "must have the same length, got 40, 39, 40 and 40"),
        ({"groups": ["a"]}, "must have the same length, got 40, 40, 1 and 40"),
        ({"win_rates": drawn + 0.5}, r"win_rates\[\d+\] is 1.5; give 1 where the strong model"),
        ({"win_rates": drawn * np.nan}, r"win_rates\[0\] is nan"),
        ({"weights": drawn * 0.0}, r"weights\[0\] is 0.0; a weight must be above 0"),
        ({"weights": np.full(40, np.inf)}, r"weights\[0\] is inf"),
        ({"ridge": 0.0}, "ridge must be above 0, got 0.0"),
        ({"signal_weight": -1.0}, "signal_weight must be from 0 to 1e6, got -1.0"),
        ({"prompts": ["hello w1"] * 40}, "40 of them .* fill fewer than 3 folds"),
        ({"prompts": [], "win_rates": np.empty(0)}, "0 of them .* fill fewer than 3 folds"),
    ]
    for changes, message in cases:
        with pytest.raises(InvalidInputError, match=message):
            train(**changes)
    with pytest.raises(InvalidTypeError, match="win_rates must be a NumPy array of float64"):
        train(win_rates=list(drawn))
    with pytest.raises(InvalidTypeError, match="win_rates must have dtype float64"):
        train(win_rates=drawn.astype(np.float32))


def test_a_head_without_signal_keeps_a_slope_above_zero() -> None:
    texts = prompts(200, seed=7)
    rng = np.random.default_rng(1)
    head = fit_head(
        embedder().embed_batch(texts),
        rng.random(200),
        group_ids=np.zeros(200, dtype=np.int64),
        weights=np.ones(200),
        fold_ids=fold_numbers(texts, 5),
    )
    assert head.slope >= heads._LEAST_SLOPE
