"""The head with the default router as prior, and the choice among candidates."""

from __future__ import annotations

import numpy as np
import pytest

from fastroute.learning.tune.head import Moments, Parts, fit_linear, fit_recalibrated, total
from fastroute.learning.tune.selection import LearningRows, rank_terms, select

_D = 12  # the last column is a signal
_DEFAULT = np.eye(_D)[0]
_PARTS = Parts(_DEFAULT, 1)


def _rows(n: int, direction: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, _D))
    return X, np.clip(0.1 + X @ direction + 0.4 * rng.normal(size=n), -1.0, 1.0)


def _moments(X: np.ndarray, gains: np.ndarray) -> Moments:
    return Moments.of(X, gains, np.ones(len(X)))


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_with_few_labels_it_is_the_default_router() -> None:
    cosines = []
    for parts in (_PARTS, Parts(None, 1)):
        found = [fit_linear(_moments(*_rows(10, 0.06 * _DEFAULT, seed)), parts)
                 for seed in range(40)]  # fmt: skip
        cosines.append(np.mean([_cosine(vector, _DEFAULT) for vector in found]))
    assert cosines[0] > 0.7
    assert cosines[1] < 0.4  # ten labels alone say little


def test_judged_difficulty_is_a_prior_too() -> None:
    other = np.eye(_D)[4]
    for parts in (Parts(None, 1, other), Parts(_DEFAULT, 1, other)):
        found = [fit_linear(_moments(*_rows(10, 0.06 * other, seed)), parts) for seed in range(40)]
        assert np.mean([_cosine(vector, other) for vector in found]) > 0.55
        X, gains = _rows(3000, -0.1 * other)
        assert _cosine(fit_linear(_moments(X, gains), parts), other) < -0.8


@pytest.mark.parametrize("fit", [fit_linear, fit_recalibrated])
def test_labels_that_contradict_the_default_turn_it_around(fit: object) -> None:
    X, gains = _rows(3000, -0.1 * _DEFAULT)
    assert callable(fit)
    assert _cosine(fit(_moments(X, gains), _PARTS), _DEFAULT) < -0.8


def test_labels_without_information_shrink_the_estimate_to_none() -> None:
    X, gains = _rows(3000, 0.0 * _DEFAULT)
    informed, told = (fit_linear(_moments(X, g), _PARTS) for g in
                      (gains, _rows(3000, 0.1 * _DEFAULT)[1]))  # fmt: skip
    assert np.linalg.norm(informed) < 0.3 * np.linalg.norm(told)


def test_with_many_labels_it_finds_what_the_default_does_not_know() -> None:
    other = 0.3 * np.eye(_D)[5]
    X, gains = _rows(3000, other)
    assert _cosine(fit_linear(_moments(X, gains), _PARTS), other) > 0.95
    assert _cosine(fit_linear(_moments(X, gains), Parts(None, 1)), other) > 0.95


def test_the_estimate_is_the_posterior_mean() -> None:
    """Against the closed form in the space of rows, one hypothesis at a time."""
    X, gains = _rows(60, 0.1 * np.eye(_D)[3], seed=7)
    X[:, -1] *= 3.0
    mean = X.mean(axis=0)
    Z = X - mean
    y = gains - gains.mean()
    noise = y.var()
    scores = Z @ _DEFAULT / (Z @ _DEFAULT).std()
    signal = Z[:, -1] / Z[:, -1].std()
    spread = np.sqrt((Z[:, :-1] ** 2).sum() / len(Z))
    vectors, evidences = [], []
    for meaning in (0.0, 0.06, 0.12, 0.25):
        for slope in (0.0, 0.03, 0.08):
            K = 0.02**2 * np.outer(scores, scores) + 0.015**2 * np.outer(signal, signal)
            K += meaning**2 * (Z[:, :-1] / spread) @ (Z[:, :-1] / spread).T
            C = K + noise * np.eye(len(y))
            left = np.linalg.solve(C, y - slope * scores)
            v = _DEFAULT / (Z @ _DEFAULT).std() * (slope + 0.02**2 * scores @ left)
            v = v + np.eye(_D)[-1] / Z[:, -1].std() * (0.015**2 * signal @ left)
            v[:-1] += meaning**2 / spread**2 * Z[:, :-1].T @ left
            vectors.append(v)
            evidences.append(-0.5 * (y - slope * scores) @ left - 0.5 * np.linalg.slogdet(C)[1])
    weight = np.exp(np.array(evidences) - max(evidences))
    expected = weight / weight.sum() @ np.array(vectors)
    assert fit_linear(_moments(X, gains), _PARTS) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_moments_add_up() -> None:
    X, gains = _rows(50, 0.1 * _DEFAULT)
    whole = fit_linear(_moments(X, gains), _PARTS)
    parts = total([_moments(X[i : i + 10], gains[i : i + 10]) for i in range(0, 50, 10)])
    assert fit_linear(parts, _PARTS) == pytest.approx(whole, rel=1e-9)


def test_a_constant_column_and_constant_grades_do_no_harm() -> None:
    X, _ = _rows(30, _DEFAULT)
    X[:, -1] = 2.0
    for gains in (np.zeros(30), np.full(30, 0.5)):
        assert np.isfinite(fit_linear(_moments(X, gains), _PARTS)).all()


def test_rank_terms_are_the_area_of_the_curve() -> None:
    from fastroute.evaluation import apgr, curve

    rng = np.random.default_rng(3)
    scores = rng.integers(0, 20, 300).astype(np.float64)  # with ties
    weak, strong = rng.random(300), rng.random(300) + 0.2
    terms = rank_terms(scores, strong - weak)
    expected = apgr(curve(scores, weak, strong))
    assert 0.5 + terms.mean() / (strong - weak).mean() == pytest.approx(expected, abs=1e-12)


def _learning(X: np.ndarray, gains: np.ndarray, groups: np.ndarray | None = None) -> LearningRows:
    n = len(gains)
    ids = np.arange(n) if groups is None else groups
    return LearningRows(X, gains, np.ones(n), np.ones(n, dtype=np.bool_), ids)


def test_the_winner_is_not_flattered_where_there_is_nothing_to_learn() -> None:
    nested, best = [], []
    for seed in range(30):
        X, gains = _rows(80, 0.0 * _DEFAULT, seed)
        found = select(_learning(X, gains), _PARTS, seed=seed)
        nested.append(float(found.terms.mean()))
        terms = [a for name, a in found.apgr.items() if name != "winner" and a is not None]
        best.append(max(terms, default=0.5))
    error = np.std(nested) / np.sqrt(len(nested))
    assert np.mean(nested) <= 2 * error
    assert np.mean(best) > 0.5  # the best of several is flattered, which nested folds avoid


def test_copies_of_a_prompt_in_several_folds_would_flatter_and_groups_do_not() -> None:
    X, gains = _rows(60, 0.0 * _DEFAULT, 5)
    wide = np.hstack([X[:, :-1], np.random.default_rng(0).normal(size=(60, 200)), X[:, -1:]])
    X, gains = np.repeat(wide, 4, axis=0), np.repeat(gains, 4)
    parts = Parts(None, 1)
    leaked = select(_learning(X, gains), parts, seed=0)
    honest = select(_learning(X, gains, np.repeat(np.arange(60), 4)), parts, seed=0)
    assert leaked.terms.mean() > 3 * abs(honest.terms.mean())


def test_rows_with_one_grade_are_learnt_from_and_not_scored() -> None:
    X, gains = _rows(200, 0.3 * np.eye(_D)[5])
    both = np.arange(200) < 40
    rows = LearningRows(X, gains, np.where(both, 1.0, 0.5), both, np.arange(200))
    found = select(rows, _PARTS, seed=0)
    assert len(found.terms) == 40
    fewer = LearningRows(X[:40], gains[:40], np.ones(40), both[:40], np.arange(40))
    alone = select(fewer, _PARTS, seed=0)
    truth = np.eye(_D)[5]
    assert _cosine(found.direction, truth) > _cosine(alone.direction, truth)
